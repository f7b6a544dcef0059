"""Masks and boxes, which go through transforms with their image.

Coordinates are pixel edges: an image of width W reaches from 0 to W, the first pixel from 0 to 1.
A box that is warped becomes the smallest upright rectangle around its four warped corners, is
clipped to the frame, and is dropped if too little of it is left; a dropped box stays in the list
and says so. So the boxes of an image follow from those of its parent and the parameters between.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, TypeAlias, assert_never

import numpy as np

from kaleidoscope.codecs import encode_mask
from kaleidoscope.errors import TargetError
from kaleidoscope.model import Mask
from kaleidoscope.normalization import Normalization
from kaleidoscope.transforms import Operation

BoxFormat: TypeAlias = Literal["coco", "pascal_voc", "yolo"]
"""coco: left, top, width, height. pascal_voc: left, top, right, bottom. Both in pixels. yolo: the
centre's x and y, width and height, as shares of the image's width and height."""

Numbers: TypeAlias = tuple[float, float, float, float]

_ROUNDING_PX = 0.5
"""How far a box may reach beyond the image: tools write whole pixels, two digits of them, or
shares of six digits, and round edge and width apart."""

_DIGITS = 8
"""Decimals of written numbers: yolo's shares of the longest sides keep 1/1000 pixel and more."""


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
    """Share of the box's area that is left in the frame after all that was clipped, 0 to 1. Of a
    box that was turned or warped, it is the area of the upright one around it that counts."""

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


@dataclass(frozen=True)
class MaskImage:
    """A mask, encoded once for all images that share it."""

    pixels: Mask

    @cached_property
    def data(self) -> bytes:
        """The mask as PNG."""
        return encode_mask(self.pixels)

    @cached_property
    def sha256(self) -> str:
        """Of :attr:`data`, as hex."""
        return hashlib.sha256(self.data).hexdigest()

    def moved(self, by: Operation | Normalization) -> "MaskImage":
        """Return the mask of the image that an operation makes."""
        pixels = by.apply_mask(self.pixels)
        return self if pixels is self.pixels else MaskImage(pixels)


@dataclass(frozen=True, slots=True)
class ImageTargets:
    """What belongs to an image beside its pixels and moves with them."""

    mask: MaskImage | None = None

    boxes: tuple[Box, ...] | None = None
    """None where nothing is known of objects; empty where it is known that there is none."""

    def moved(
        self, by: Operation | Normalization, *, size: tuple[int, int], min_visibility: float
    ) -> "ImageTargets":
        """Return what belongs to the image that an operation makes.

        Args:
            by: What is done to the image.
            size: Width and height of the image before, in pixels.
            min_visibility: See :func:`move_boxes`.
        """
        if self.mask is None and not self.boxes:
            return self
        mask, boxes = self.mask, self.boxes
        if mask is not None:
            mask = mask.moved(by)
        if boxes:
            boxes = move_boxes(boxes, by, size=size, min_visibility=min_visibility)
        return ImageTargets(mask, boxes)


NO_TARGETS = ImageTargets()

_BBOX = "bbox"
_CATEGORIES = "categories"
_FORMAT = "format"


def check_objects(value: Any) -> str:
    """Return the objects of an image as JSON that :func:`boxes_from_json` reads.

    Args:
        value: A mapping of lists of one length, as Hugging Face's ImageFolder has them, or the
            text of such a JSON object: ``bbox``, four numbers for each object, and if they are
            known ``categories``, their names or numbers.

    Raises:
        TargetError: If it is something else.
    """
    objects = _parse(value) if isinstance(value, str) else value
    wanted = f"must be {{{_BBOX!r}: [[…], …], {_CATEGORIES!r}: […]}}, lists of one length"
    if not isinstance(objects, Mapping) or not _is_list(objects.get(_BBOX)):
        raise TargetError(f"objects {wanted}, got {value!r:.100}")
    if others := sorted(set(objects) - {_BBOX, _CATEGORIES}):
        raise TargetError(
            f"objects {wanted}; {others[0]!r} would not follow the boxes, take it out or put it "
            "into a column of its own"
        )
    boxes = [_four_numbers(numbers) for numbers in objects[_BBOX]]
    categories = objects.get(_CATEGORIES)
    if categories is None:
        categories = [None] * len(boxes)
    if not _is_list(categories) or len(categories) != len(boxes):
        raise TargetError(
            f"objects {wanted}, got {len(boxes)} boxes and the categories {categories!r:.100}"
        )
    names = [_name(each) for each in categories]
    return _to_json({_BBOX: boxes, _CATEGORIES: names})


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise TargetError(f"objects must be a JSON object, got {text!r:.100}: {error}") from error


def _four_numbers(numbers: Any) -> list[float]:
    if not _is_list(numbers) or len(numbers) != 4 or not all(map(_is_number, numbers)):  # noqa: PLR2004
        raise TargetError(f"a box needs four finite numbers, got {numbers!r:.100}")
    return list(numbers)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and bool(np.isfinite(value))


def _name(category: Any) -> str | None:
    if category is None or isinstance(category, str):
        return category
    if isinstance(category, int) and not isinstance(category, bool):
        return str(category)
    raise TargetError(f"a category must be text or a whole number, got {category!r:.100}")


def boxes_from_json(text: str, box_format: BoxFormat, *, size: tuple[int, int]) -> tuple[Box, ...]:
    """Return the boxes of a source.

    Args:
        text: What :func:`check_objects` returned.
        box_format: What the numbers mean.
        size: Width and height of the source in pixels.

    Raises:
        TargetError: If a box lies outside the source or has no area.
    """
    objects = json.loads(text)
    return tuple(
        Box.from_numbers(numbers, box_format, size=size, label=label)
        for numbers, label in zip(objects[_BBOX], objects[_CATEGORIES], strict=True)
    )


def boxes_to_json(
    boxes: Sequence[Box], box_format: BoxFormat, *, size: tuple[int, int]
) -> tuple[str, str | None]:
    """Return the boxes of an output, and those that were dropped on the way to it.

    Both are JSON objects of lists of one length: ``index``, the place of each box among those of
    its source from 0, ``categories`` and ``visible``; those that were not dropped have ``bbox``,
    and ``format`` says what its numbers mean.

    Args:
        boxes: As many as the source has, in its order.
        box_format: What the numbers are to mean.
        size: Width and height of the output in pixels.

    Returns:
        The second is None if none was dropped.
    """
    kept = [index for index, box in enumerate(boxes) if not box.is_dropped]
    dropped = [index for index, box in enumerate(boxes) if box.is_dropped]
    numbers = [_rounded(boxes[index].to_numbers(box_format, size=size)) for index in kept]
    objects = _to_json({_FORMAT: box_format, _BBOX: numbers} | _lists(boxes, kept))
    return objects, _to_json(_lists(boxes, dropped)) if dropped else None


def read_objects(text: str, *, size: tuple[int, int]) -> tuple[Box, ...]:
    """Return the boxes of an output that were not dropped.

    Args:
        text: What the manifest's column ``objects`` has.
        size: Width and height of the output in pixels.

    Raises:
        TargetError: If it is something else.
    """
    try:
        objects = json.loads(text)
        return boxes_from_json(text, objects[_FORMAT], size=size)
    except (KeyError, TypeError, ValueError) as error:
        raise TargetError(f"no objects of a manifest: {text:.100} ({error!r})") from error


def _lists(boxes: Sequence[Box], indices: Sequence[int]) -> dict[str, list[Any]]:
    return {
        _CATEGORIES: [boxes[index].label for index in indices],
        "visible": [_rounded([boxes[index].visible])[0] for index in indices],
        "index": list(indices),
    }


def _rounded(numbers: Iterable[float]) -> list[float]:
    """Leave away what a double holds beyond any picture: shares of a pixel of the largest."""
    return [round(number, _DIGITS) for number in numbers]


def _to_json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
