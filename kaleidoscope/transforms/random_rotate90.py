"""Turn an image by a multiple of 90 degrees, moving every pixel and changing none."""

from dataclasses import dataclass
from typing import Annotated

import cv2
import numpy as np
from pydantic import Field

from kaleidoscope.errors import TransformError
from kaleidoscope.model import BgrImage, Mask
from kaleidoscope.transforms._base import (
    Bounds,
    IntInterval,
    Operation,
    Transform,
    as_image,
    as_mask,
    uniform_int,
)
from kaleidoscope.transforms._edges import Points

_ROTATE_CODES = {
    1: cv2.ROTATE_90_COUNTERCLOCKWISE,
    2: cv2.ROTATE_180,
    3: cv2.ROTATE_90_CLOCKWISE,
}


def turn_quarters(image: BgrImage, *, quarter_turns: int) -> BgrImage:
    """Turn counter-clockwise; an odd number of quarters swaps width and height.

    Args:
        image: ``(H, W, 3)`` uint8, BGR.
        quarter_turns: 1, 2 or 3.

    Returns:
        ``(H, W, 3)`` or ``(W, H, 3)``.

    Raises:
        TransformError: If ``quarter_turns`` is another number.
    """
    return as_image(cv2.rotate(image, _rotate_code(quarter_turns)))


def _rotate_code(quarter_turns: int) -> int:
    if quarter_turns not in _ROTATE_CODES:
        raise TransformError(f"quarter turns are 1, 2 or 3, got {quarter_turns}")
    return _ROTATE_CODES[quarter_turns]


@dataclass(frozen=True, slots=True)
class QuarterTurned(Operation):
    """Turned by a drawn number of quarters."""

    quarter_turns: int
    """Times 90 degrees, counter-clockwise."""

    def apply(self, image: BgrImage) -> BgrImage:
        """See :func:`turn_quarters`."""
        return turn_quarters(image, quarter_turns=self.quarter_turns)

    def apply_mask(self, mask: Mask) -> Mask:
        """Turn it as the image."""
        return as_mask(cv2.rotate(mask, _rotate_code(self.quarter_turns)), mask)

    def apply_points(self, points: Points, *, width: int, height: int) -> Points:
        """Turn points by one quarter after the other."""
        for _ in range(self.quarter_turns):
            # Counter-clockwise, what was at the right comes to the top.
            points = points[:, ::-1] * (1, -1) + (0, width)
            width, height = height, width
        return points

    def output_size(self, width: int, height: int) -> tuple[int, int]:
        """Swap the sides at odd numbers of quarters."""
        return (height, width) if self.quarter_turns % 2 else (width, height)


class RandomRotate90(Transform):
    """Turn by 90, 180 or 270 degrees without changing a pixel.

    Other libraries also draw 0 degrees, which here would store the same image twice.
    """

    operation = QuarterTurned
    cost_ns_per_pixel = 0.3
    geometric = True

    quarter_turns: Annotated[IntInterval, Bounds(1, 3, "quarter turns")] = Field(
        default=(1, 3), description="How many times 90 degrees to turn, counter-clockwise."
    )

    def sample(self, rng: np.random.Generator) -> QuarterTurned:
        """Draw a number of quarters."""
        return QuarterTurned(quarter_turns=uniform_int(rng, self.quarter_turns))
