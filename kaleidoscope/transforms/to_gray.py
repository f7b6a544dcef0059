"""Take the colour out of an image."""

from dataclasses import dataclass

import cv2
import numpy as np

from kaleidoscope.model import BgrImage
from kaleidoscope.transforms._base import Operation, Transform, as_image


def remove_colour(image: BgrImage) -> BgrImage:
    """Set the three channels to luma, 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601).

    Args:
        image: ``(H, W, 3)`` uint8, BGR.
    """
    return as_image(cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR))


@dataclass(frozen=True, slots=True)
class TurnedGray(Operation):
    """Greyscale in three channels; there is nothing to draw."""

    def apply(self, image: BgrImage) -> BgrImage:
        """See :func:`remove_colour`."""
        return remove_colour(image)


class ToGray(Transform):
    """Turn to greyscale; the image keeps its three channels."""

    operation = TurnedGray
    cost_ns_per_pixel = 0.4

    def sample(self, rng: np.random.Generator) -> TurnedGray:  # noqa: ARG002
        """Draw nothing."""
        return TurnedGray()
