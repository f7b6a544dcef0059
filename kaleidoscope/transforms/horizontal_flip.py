"""Mirror an image left to right."""

from dataclasses import dataclass

import cv2
import numpy as np

from kaleidoscope.model import BgrImage, Mask
from kaleidoscope.transforms._base import Operation, Transform, as_image, as_mask
from kaleidoscope.transforms._edges import Points


def flip_horizontally(image: BgrImage) -> BgrImage:
    """Reverse the columns.

    Args:
        image: ``(H, W, 3)`` uint8, BGR.
    """
    # Not np.fliplr: its strided view makes each later OpenCV call copy the pixels first.
    return as_image(cv2.flip(image, 1))


@dataclass(frozen=True, slots=True)
class HorizontalFlipped(Operation):
    """Mirrored left to right; there is nothing to draw."""

    def apply(self, image: BgrImage) -> BgrImage:
        """See :func:`flip_horizontally`."""
        return flip_horizontally(image)

    def apply_mask(self, mask: Mask) -> Mask:
        """Reverse the columns."""
        return as_mask(cv2.flip(mask, 1), mask)

    def apply_points(self, points: Points, *, width: int, height: int) -> Points:  # noqa: ARG002
        """Count x from the other side."""
        return points * (-1, 1) + (width, 0)


class HorizontalFlip(Transform):
    """Mirror left to right."""

    operation = HorizontalFlipped
    cost_ns_per_pixel = 0.1
    geometric = True

    def sample(self, rng: np.random.Generator) -> HorizontalFlipped:  # noqa: ARG002
        """Draw nothing."""
        return HorizontalFlipped()
