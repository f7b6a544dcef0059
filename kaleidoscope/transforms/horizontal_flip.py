"""Mirror an image left to right."""

from dataclasses import dataclass

import cv2
import numpy as np

from kaleidoscope.model import BgrImage
from kaleidoscope.transforms._base import Operation, Transform, as_image


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


class HorizontalFlip(Transform):
    """Mirror left to right."""

    operation = HorizontalFlipped
    cost_ns_per_pixel = 0.1
    geometric = True

    def sample(self, rng: np.random.Generator) -> HorizontalFlipped:  # noqa: ARG002
        """Draw nothing."""
        return HorizontalFlipped()
