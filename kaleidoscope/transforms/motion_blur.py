"""Blur an image along a line, as a camera that moves during the exposure does."""

import math
from dataclasses import dataclass
from typing import Annotated

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from kaleidoscope.errors import TransformError
from kaleidoscope.model import BgrImage
from kaleidoscope.transforms._base import (
    Bounds,
    Interval,
    IntInterval,
    Operation,
    Transform,
    as_image,
    check_within,
    uniform,
    uniform_int,
)

MAX_LENGTH = 99
"""Pixels; the time grows with it."""


def line_kernel(length: int, angle_deg: float) -> npt.NDArray[np.float32]:
    """Return the weights of a straight line through the centre, one step per pixel of length.

    Each step's weight is shared by the four pixels around it in proportion to its distances, so
    that lines of every angle are equally long and the blur does not shift the image.

    Args:
        length: Pixels, odd, in ``[1, 99]``.
        angle_deg: Degrees, counter-clockwise from the horizontal, finite.

    Returns:
        ``(length, length)`` float32, point symmetric, of sum 1.
    """
    radius = length // 2
    steps = np.arange(-radius, radius + 1)
    # Rounded, so that what should be 0 is 0: a step must not reach beyond the kernel.
    x = np.round(steps * math.cos(math.radians(angle_deg)), 9)
    y = np.round(steps * -math.sin(math.radians(angle_deg)), 9)
    offsets = np.arange(-radius, radius + 1)
    across = np.clip(1 - np.abs(x[:, None] - offsets), 0, 1)
    down = np.clip(1 - np.abs(y[:, None] - offsets), 0, 1)
    kernel: npt.NDArray[np.float32] = (down.T @ across / length).astype(np.float32)
    return kernel


def blur_along_line(image: BgrImage, *, length: int, angle_deg: float) -> BgrImage:
    """Average every pixel with those before and behind it on a line.

    Args:
        image: ``(H, W, 3)`` uint8, BGR.
        length: Pixels, odd, in ``[1, 99]``. 1 gives the input.
        angle_deg: Degrees, counter-clockwise from the horizontal, finite.

    Raises:
        TransformError: If a parameter is out of range, or ``length`` is even.
    """
    check_within("the length of a motion blur", length, low=1, high=MAX_LENGTH)
    check_within("the angle of a motion blur", angle_deg)
    if length % 2 == 0:
        raise TransformError(f"the length of a motion blur must be odd, got {length}")
    return as_image(cv2.filter2D(image, -1, line_kernel(length, angle_deg)))


@dataclass(frozen=True, slots=True)
class MotionBlurred(Operation):
    """Blurred along a drawn line."""

    length: int
    """Pixels, odd."""

    angle_deg: float
    """Degrees, counter-clockwise from the horizontal."""

    def apply(self, image: BgrImage) -> BgrImage:
        """See :func:`blur_along_line`."""
        return blur_along_line(image, length=self.length, angle_deg=self.angle_deg)


def _check_odd(interval: IntInterval) -> IntInterval:
    if any(length % 2 == 0 for length in interval):
        raise PydanticCustomError("odd", "must be odd, so that the line has a middle pixel")
    return interval


class MotionBlur(Transform):
    """Blur along a line, as if the camera had moved."""

    operation = MotionBlurred
    cost_ns_per_pixel = 2.2

    blur_limit: Annotated[
        IntInterval, Bounds(1, MAX_LENGTH, "pixels"), AfterValidator(_check_odd)
    ] = Field(default=(3, 7), description="Length of the line in pixels, odd.")
    angle_range: Annotated[Interval, Bounds(-360, 360, "degrees")] = Field(
        default=(0.0, 360.0),
        description="Direction in degrees, counter-clockwise from the horizontal.",
    )

    def sample(self, rng: np.random.Generator) -> MotionBlurred:
        """Draw an odd length and a direction."""
        shortest, longest = self.blur_limit
        return MotionBlurred(
            length=2 * uniform_int(rng, (shortest // 2, longest // 2)) + 1,
            angle_deg=uniform(rng, self.angle_range),
        )
