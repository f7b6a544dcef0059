"""Cover rectangles of an image, so that a model learns from the rest (cutout).

DeVries and Taylor, "Improved regularization of convolutional neural networks with cutout",
arXiv 1708.04552.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from kaleidoscope.errors import TransformError
from kaleidoscope.model import BgrImage
from kaleidoscope.transforms._base import (
    Bounds,
    Interval,
    IntInterval,
    Operation,
    Transform,
    check_within,
    uniform,
    uniform_int,
)


@dataclass(frozen=True, slots=True)
class Hole:
    """A rectangle in shares of the image, each in ``[0, 1]``, so that it fits every size."""

    top: float
    """Share of the height that it leaves free, which is above it."""

    left: float
    """Share of the width that it leaves free, which is left of it."""

    height: float
    """Share of the image's height; a pixel at least."""

    width: float
    """Share of the image's width; a pixel at least."""

    def slices(self, image_height: int, image_width: int) -> tuple[slice, slice]:
        """Return the rows and columns of an image that the hole covers.

        Args:
            image_height: Pixels, at least 1.
            image_width: Pixels, at least 1.

        Raises:
            TransformError: If a share is out of range, infinite or NaN.
        """
        return (
            _covered(image_height, length=self.height, position=self.top),
            _covered(image_width, length=self.width, position=self.left),
        )


def _covered(side: int, *, length: float, position: float) -> slice:
    check_within("the side of a hole", length, low=0, high=1)
    check_within("the position of a hole", position, low=0, high=1)
    num_covered = max(round(length * side), 1)
    start = round(position * (side - num_covered))
    return slice(start, start + num_covered)


def cover_holes(image: BgrImage, holes: Iterable[Hole], *, fill: int) -> BgrImage:
    """Set rectangles to a grey level.

    Args:
        image: ``(H, W, 3)`` uint8, BGR.
        holes: They may overlap.
        fill: Grey level of all channels, in ``[0, 255]``.

    Raises:
        TransformError: If ``fill`` or a hole is out of range.
    """
    check_within("the fill of holes", fill, low=0, high=255)
    covered = np.ascontiguousarray(image).copy()
    for hole in holes:
        covered[hole.slices(*image.shape[:2])] = fill
    return covered


@dataclass(frozen=True, slots=True)
class HolesCovered(Operation):
    """Drawn rectangles, of which the n-th has the n-th entry of each tuple."""

    tops: tuple[float, ...]
    """See :class:`Hole`."""

    lefts: tuple[float, ...]
    """See :class:`Hole`."""

    heights: tuple[float, ...]
    """Shares of the image's height."""

    widths: tuple[float, ...]
    """Shares of the image's width."""

    fill: int
    """Grey level."""

    def apply(self, image: BgrImage) -> BgrImage:
        """See :func:`cover_holes`."""
        num_entries = {len(self.tops), len(self.lefts), len(self.heights), len(self.widths)}
        if len(num_entries) > 1:
            raise TransformError(f"holes need as many tops as lefts, heights and widths: {self}")
        edges = zip(self.tops, self.lefts, self.heights, self.widths, strict=True)
        return cover_holes(image, (Hole(*edge) for edge in edges), fill=self.fill)


class CoarseDropout(Transform):
    """Cover rectangles at random places (cutout)."""

    operation = HolesCovered
    cost_ns_per_pixel = 0.1

    num_holes_range: Annotated[IntInterval, Bounds(1, 100)] = Field(
        default=(1, 2), description="Number of rectangles."
    )
    hole_height_range: Annotated[Interval, Bounds(0, 1)] = Field(
        default=(0.1, 0.2), description="Height of a rectangle as a share of the image's."
    )
    hole_width_range: Annotated[Interval, Bounds(0, 1)] = Field(
        default=(0.1, 0.2), description="Width of a rectangle as a share of the image's."
    )
    fill: int = Field(
        default=0, ge=0, le=255, description="Grey level of the rectangles: 0 black, 255 white."
    )

    def sample(self, rng: np.random.Generator) -> HolesCovered:
        """Draw how many rectangles, and size and place of each."""
        holes = range(uniform_int(rng, self.num_holes_range))
        return HolesCovered(
            tops=tuple(uniform(rng, (0, 1)) for _ in holes),
            lefts=tuple(uniform(rng, (0, 1)) for _ in holes),
            heights=tuple(uniform(rng, self.hole_height_range) for _ in holes),
            widths=tuple(uniform(rng, self.hole_width_range) for _ in holes),
            fill=self.fill,
        )
