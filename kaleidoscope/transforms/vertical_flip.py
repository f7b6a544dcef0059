"""Mirror an image top to bottom."""

from dataclasses import dataclass

import cv2
import numpy as np

from kaleidoscope.model import BgrImage, Mask
from kaleidoscope.transforms._base import Operation, Transform, as_image, as_mask
from kaleidoscope.transforms._edges import Points


def flip_vertically(image: BgrImage) -> BgrImage:
    """Reverse the rows.

    Args:
        image: ``(H, W, 3)`` uint8, BGR.
    """
    # Not np.flipud: its strided view makes each later OpenCV call copy the pixels first.
    return as_image(cv2.flip(image, 0))


@dataclass(frozen=True, slots=True)
class VerticalFlipped(Operation):
    """Mirrored top to bottom; there is nothing to draw."""

    def apply(self, image: BgrImage) -> BgrImage:
        """See :func:`flip_vertically`."""
        return flip_vertically(image)

    def apply_mask(self, mask: Mask) -> Mask:
        """Reverse the rows."""
        return as_mask(cv2.flip(mask, 0), mask)

    def apply_points(self, points: Points, *, width: int, height: int) -> Points:  # noqa: ARG002
        """Count y from the other side."""
        return points * (1, -1) + (0, height)


class VerticalFlip(Transform):
    """Mirror top to bottom."""

    operation = VerticalFlipped
    cost_ns_per_pixel = 0.1
    geometric = True

    def sample(self, rng: np.random.Generator) -> VerticalFlipped:  # noqa: ARG002
        """Draw nothing."""
        return VerticalFlipped()
