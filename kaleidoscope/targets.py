"""Boxes that go through transforms with their image, in the formats that data sets have them.

Coordinates are pixel edges: an image of width W reaches from 0 to W, the first pixel from 0 to 1.
A box that is warped becomes the smallest upright rectangle around its four warped corners, is
clipped to the frame, and is dropped if too little of it is left; a dropped box stays in the list
and says so.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, assert_never

import numpy as np

from kaleidoscope.errors import TargetError
from kaleidoscope.normalization import Normalization
from kaleidoscope.transforms import Operation

BoxFormat: TypeAlias = Literal["coco", "pascal_voc", "yolo"]
"""coco: left, top, width, height. pascal_voc: left, top, right, bottom. Both in pixels. yolo: the
centre's x and y, width and height, as shares of the image's width and height."""

Numbers: TypeAlias = tuple[float, float, float, float]

_ROUNDING_PX = 1e-3
"""How far a box may reach beyond the image: what shares of six digits lose."""


@dataclass(frozen=True, slots=True)
class Box:
    """An upright rectangle in pixels of an image, between pixel edges."""

    left: float
    top: float
    right: float
    bottom: float
    label: str | None = None
    """What it shows."""

    visible: float = 1.0
    """Share of the box's area that is left in the frame after all that was clipped, 0 to 1."""

    is_dropped: bool = False
    """Whether too little of it was left; it is not transformed any more then."""

    @property
    def area(self) -> float:
        """Square pixels."""
        return (self.right - self.left) * (self.bottom - self.top)

    @classmethod
    def from_numbers(
        cls,
        numbers: Sequence[float],
        box_format: BoxFormat,
        *,
        size: tuple[int, int],
        label: str | None = None,
    ) -> "Box":
        """Read a box.

        Args:
            numbers: Four, as the format has them.
            box_format: What they mean.
            size: Width and height of the image in pixels.
            label: What it shows.

        Raises:
            TargetError: If they are not four finite numbers, or the box has no area or lies
                outside the image.
        """
        values = np.asarray(numbers, dtype=np.float64)
        if values.shape != (4,) or not np.isfinite(values).all():
            raise TargetError(f"a box needs four finite numbers, got {numbers!r:.100}")
        first, second, third, fourth = (float(value) for value in values)
        width, height = size
        match box_format:
            case "pascal_voc":
                edges = (first, second, third, fourth)
            case "coco":
                edges = (first, second, first + third, second + fourth)
            case "yolo":
                half_w, half_h = third / 2, fourth / 2
                edges = (
                    (first - half_w) * width,
                    (second - half_h) * height,
                    (first + half_w) * width,
                    (second + half_h) * height,
                )
            case _:
                assert_never(box_format)
        box = cls(*edges, label)
        if not (box.left < box.right and box.top < box.bottom):
            raise TargetError(f"a {box_format} box must have an area, got {numbers!r:.100}")
        clipped = box._clipped(width, height)
        reach = np.subtract(edges, (clipped.left, clipped.top, clipped.right, clipped.bottom))
        if np.abs(reach).max() > _ROUNDING_PX:
            raise TargetError(
                f"a {box_format} box must lie within its image of {width} x {height} pixels, "
                f"got {numbers!r:.100}"
            )
        return clipped

    def to_numbers(self, box_format: BoxFormat, *, size: tuple[int, int]) -> Numbers:
        """Write what :meth:`from_numbers` reads.

        Args:
            box_format: What the numbers are to mean.
            size: Width and height of the image in pixels.
        """
        width, height = self.right - self.left, self.bottom - self.top
        match box_format:
            case "pascal_voc":
                return self.left, self.top, self.right, self.bottom
            case "coco":
                return self.left, self.top, width, height
            case "yolo":
                x, y = (self.left + self.right) / 2, (self.top + self.bottom) / 2
                return x / size[0], y / size[1], width / size[0], height / size[1]

    def _clipped(self, width: int, height: int) -> "Box":
        left, right = np.clip((self.left, self.right), 0, width)
        top, bottom = np.clip((self.top, self.bottom), 0, height)
        return replace(
            self, left=float(left), top=float(top), right=float(right), bottom=float(bottom)
        )


def move_boxes(
    boxes: Iterable[Box],
    by: Operation | Normalization,
    *,
    size: tuple[int, int],
    min_visibility: float,
) -> tuple[Box, ...]:
    """Return boxes as they are in the image that an operation makes.

    What a warp reflects into the frame at its border has no box.

    Args:
        boxes: In an image; as many come out, in the same order.
        by: What is done to the image.
        size: Width and height of the image before, in pixels.
        min_visibility: Drop a box of whose area less than this share is left, 0 to 1. One of
            which nothing is left is dropped in any case.
    """
    new_size = by.output_size(*size)
    return tuple(
        box if box.is_dropped else _move(box, by, size, new_size, min_visibility) for box in boxes
    )


def _move(
    box: Box,
    by: Operation | Normalization,
    size: tuple[int, int],
    new_size: tuple[int, int],
    min_visibility: float,
) -> Box:
    corners = np.array(
        [(x, y) for x in (box.left, box.right) for y in (box.top, box.bottom)], dtype=np.float64
    )
    moved = by.apply_points(corners, width=size[0], height=size[1])
    (left, top), (right, bottom) = moved.min(axis=0).tolist(), moved.max(axis=0).tolist()
    hull = replace(box, left=left, top=top, right=right, bottom=bottom)
    clipped = hull._clipped(*new_size)  # noqa: SLF001 -- of this module.
    visible = box.visible * clipped.area / hull.area
    is_dropped = clipped.area <= 0 or visible < min_visibility
    return replace(clipped, visible=visible, is_dropped=is_dropped)
