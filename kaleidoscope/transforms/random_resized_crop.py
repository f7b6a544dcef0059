"""Cut a part out of an image and enlarge it to the frame that the image had."""

import math
from dataclasses import dataclass
from typing import Annotated

import cv2
import numpy as np
from pydantic import Field

from kaleidoscope.model import BgrImage, Mask
from kaleidoscope.transforms._base import (
    Bounds,
    Interval,
    Operation,
    Transform,
    as_image,
    as_mask,
    check_within,
    uniform,
)
from kaleidoscope.transforms._edges import Points


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
    height, width = image.shape[:2]
    part = part_of_frame(width, height, area=area, ratio=ratio, left=left, top=top)
    crop = image[part.y : part.y + part.height, part.x : part.x + part.width]
    # Linear is enough: a crop is only ever enlarged.
    return as_image(cv2.resize(crop, (width, height), interpolation=cv2.INTER_LINEAR))


@dataclass(frozen=True, slots=True)
class _Part:
    """A rectangle of whole pixels."""

    x: int
    y: int
    width: int
    height: int


def part_of_frame(  # noqa: PLR0913 -- a frame, and the four numbers of an operation.
    width: int, height: int, *, area: float, ratio: float, left: float, top: float
) -> _Part:
    """Return the pixels that :func:`crop_and_resize` cuts out of a frame.

    Raises:
        TransformError: If a parameter is out of range, infinite or NaN.
    """
    check_within("the area of a crop", area, low=0, high=1)
    check_within("the aspect ratio of a crop", ratio, low=0.1, high=10)
    check_within("the left position of a crop", left, low=0, high=1)
    check_within("the top position of a crop", top, low=0, high=1)
    crop_width = crop_side(width, math.sqrt(area * width * height * ratio))
    crop_height = crop_side(height, math.sqrt(area * width * height / ratio))
    x, y = round(left * (width - crop_width)), round(top * (height - crop_height))
    return _Part(x, y, crop_width, crop_height)


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

    def apply_mask(self, mask: Mask) -> Mask:
        """Cut out the same rectangle and repeat its pixels."""
        height, width = mask.shape[:2]
        part = self._part(width, height)
        # INTER_NEAREST takes pixels half a pixel off; the exact one takes those at the centres.
        cut = mask[part.y : part.y + part.height, part.x : part.x + part.width]
        resized = cv2.resize(cut, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        return as_mask(resized, mask)

    def apply_points(self, points: Points, *, width: int, height: int) -> Points:
        """Count from the rectangle's corner, and enlarge."""
        part = self._part(width, height)
        return (points - (part.x, part.y)) * (width / part.width, height / part.height)

    def _part(self, width: int, height: int) -> "_Part":
        return part_of_frame(
            width, height, area=self.area, ratio=self.ratio, left=self.left, top=self.top
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
