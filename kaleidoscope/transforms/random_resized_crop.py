"""Cut a part out of an image and enlarge it to the frame that the image had."""

import math
from dataclasses import dataclass
from typing import Annotated

import cv2
import numpy as np
from pydantic import Field

from kaleidoscope.model import BgrImage
from kaleidoscope.transforms._base import (
    Bounds,
    Interval,
    Operation,
    Transform,
    as_image,
    check_within,
    uniform,
)


def crop_side(side: int, wanted: float) -> int:
    """Return the whole number of pixels next to ``wanted`` that a frame's side can give.

    Args:
        side: Pixels, at least 1.
        wanted: Pixels, finite.
    """
    return min(max(round(wanted), 1), side)


def crop_and_resize(
    image: BgrImage, *, area: float, ratio: float, left: float, top: float
) -> BgrImage:
    """Cut out a rectangle and enlarge it to the size of the image.

    A rectangle that would be wider or higher than the image is cut to it.

    Args:
        image: ``(H, W, 3)`` uint8, BGR.
        area: Share of the image's area, in ``[0, 1]``; a pixel remains at least.
        ratio: Width over height of the rectangle, in ``[0.1, 10]``.
        left: Where the rectangle is in the width that it leaves free, from 0 (left) to 1 (right).
        top: The same for the height, from 0 (top) to 1 (bottom).

    Raises:
        TransformError: If a parameter is out of range, infinite or NaN.
    """
    check_within("the area of a crop", area, low=0, high=1)
    check_within("the aspect ratio of a crop", ratio, low=0.1, high=10)
    check_within("the left position of a crop", left, low=0, high=1)
    check_within("the top position of a crop", top, low=0, high=1)
    height, width = image.shape[:2]
    crop_width = crop_side(width, math.sqrt(area * width * height * ratio))
    crop_height = crop_side(height, math.sqrt(area * width * height / ratio))
    x, y = round(left * (width - crop_width)), round(top * (height - crop_height))
    crop = image[y : y + crop_height, x : x + crop_width]
    # Linear is enough: a crop is only ever enlarged.
    return as_image(cv2.resize(crop, (width, height), interpolation=cv2.INTER_LINEAR))


@dataclass(frozen=True, slots=True)
class ResizedCrop(Operation):
    """A drawn part of the image, enlarged."""

    area: float
    """Share of the image's area."""

    ratio: float
    """Width over height."""

    left: float
    """Share of the free width that is left of the crop."""

    top: float
    """Share of the free height that is above the crop."""

    def apply(self, image: BgrImage) -> BgrImage:
        """See :func:`crop_and_resize`."""
        return crop_and_resize(
            image, area=self.area, ratio=self.ratio, left=self.left, top=self.top
        )


class RandomResizedCrop(Transform):
    """Cut out a part at a random place and enlarge it; the image keeps its size."""

    operation = ResizedCrop
    cost_ns_per_pixel = 1.3
    geometric = True

    scale: Annotated[Interval, Bounds(0.01, 1)] = Field(
        default=(0.08, 1.0), description="Area of the part as a share of the image's area."
    )
    ratio: Annotated[Interval, Bounds(0.1, 10)] = Field(
        default=(0.75, 4 / 3), description="Width of the part over its height."
    )

    def sample(self, rng: np.random.Generator) -> ResizedCrop:
        """Draw area, shape and place."""
        low, high = self.ratio
        # By its logarithm, so that 3:4 and 4:3 are equally likely.
        ratio = math.exp(uniform(rng, (math.log(low), math.log(high))))
        return ResizedCrop(
            area=uniform(rng, self.scale),
            ratio=min(max(ratio, low), high),
            left=uniform(rng, (0, 1)),
            top=uniform(rng, (0, 1)),
        )
