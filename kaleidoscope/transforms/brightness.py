"""Shift an image's values towards white or black."""

from dataclasses import dataclass
from typing import Annotated

import cv2
import numpy as np
from pydantic import Field

from kaleidoscope.model import BgrImage
from kaleidoscope.transforms._base import (
    Bounds,
    IntInterval,
    Operation,
    Transform,
    as_image,
    check_within,
    uniform_int,
)


def shift_brightness(image: BgrImage, *, offset: int) -> BgrImage:
    """Add the same to every channel, saturating at black and white.

    Args:
        image: ``(H, W, 3)`` uint8, BGR.
        offset: Grey levels, in ``[-255, 255]``. 0 gives the input.

    Raises:
        TransformError: If ``offset`` is out of range.
    """
    check_within("the offset of brightness", offset, low=-255, high=255)
    # A bare number would be added to blue alone.
    scalar = (offset, offset, offset, 0)
    # OpenCV documents scalars, but its stubs leave them out.
    return as_image(cv2.add(image, scalar))  # type: ignore[call-overload]


@dataclass(frozen=True, slots=True)
class BrightnessShifted(Operation):
    """Brightness of a drawn offset."""

    offset: int
    """Grey levels."""

    def apply(self, image: BgrImage) -> BgrImage:
        """See :func:`shift_brightness`."""
        return shift_brightness(image, offset=self.offset)


class Brightness(Transform):
    """Brighten or darken by adding the same to every value."""

    operation = BrightnessShifted
    cost_ns_per_pixel = 0.1

    offset: Annotated[IntInterval, Bounds(-255, 255, "grey levels")] = Field(
        default=(0, 100), description="Grey levels to add; below 0 darkens, above 0 brightens."
    )

    def sample(self, rng: np.random.Generator) -> BrightnessShifted:
        """Draw an offset."""
        return BrightnessShifted(offset=uniform_int(rng, self.offset))
