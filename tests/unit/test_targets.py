"""What boxes are refused, and what becomes of those that leave the frame."""

import json
import math
from collections.abc import Sequence

import numpy as np
import pytest

from kaleidoscope.errors import TargetError, TransformError
from kaleidoscope.normalization import Normalization
from kaleidoscope.targets import (
    Box,
    BoxFormat,
    ImageTargets,
    MaskImage,
    boxes_to_json,
    move_boxes,
    read_objects,
)
from kaleidoscope.transforms import TRANSFORMS, Operation
from kaleidoscope.transforms.affine import AffineWarped
from kaleidoscope.transforms.horizontal_flip import HorizontalFlipped
from kaleidoscope.transforms.perspective import PerspectiveWarped
from kaleidoscope.transforms.random_resized_crop import ResizedCrop
from kaleidoscope.transforms.random_rotate90 import QuarterTurned
from kaleidoscope.transforms.rotate import Rotated

SIZE = (100, 50)
RIGHT_BY_HALF = AffineWarped(1.0, 0.0, 0.0, 0.0, 0.5, 0.0)


@pytest.mark.parametrize(
    ("box_format", "numbers"),
    [
        ("coco", (10, 20, 30, 5)),
        ("pascal_voc", (10, 20, 40, 25)),
        ("yolo", (0.25, 0.45, 0.3, 0.1)),
    ],
)
def test_a_box_is_read_in_each_format(box_format: BoxFormat, numbers: Sequence[float]) -> None:
    box = Box.from_numbers(numbers, box_format, size=SIZE, label="cat")
    assert (box.left, box.top, box.right, box.bottom) == pytest.approx((10, 20, 40, 25))
    assert box.area == pytest.approx(150)


@pytest.mark.parametrize(
    ("box_format", "numbers", "message"),
    [
        ("coco", (90, 0, 11, 10), r"within its image of 100 x 50 pixels, got \(90, 0, 11, 10\)"),
        ("pascal_voc", (-1, 0, 10, 10), "must lie within its image"),
        ("yolo", (0.99, 0.5, 0.1, 0.1), "must lie within its image"),
        ("coco", (10, 10, 0, 5), "must have an area"),
        ("pascal_voc", (10, 10, 5, 20), "must have an area"),
        ("yolo", (0.5, 0.5, 0.1), "four finite numbers"),
        ("yolo", (0.5, 0.5, 0.1, math.nan), "four finite numbers"),
    ],
)
def test_a_box_that_cannot_be_one_is_refused(
    box_format: BoxFormat, numbers: Sequence[float], message: str
) -> None:
    with pytest.raises(TargetError, match=message):
        Box.from_numbers(numbers, box_format, size=SIZE)


def test_what_rounded_shares_reach_beyond_the_image_is_cut() -> None:
    box = Box.from_numbers((0.166667, 0.5, 0.333335, 1.0), "yolo", size=SIZE)
    assert box.left == 0
    assert box.right == pytest.approx(33.33345)


@pytest.mark.parametrize("width", [640, 4032, 6000])
def test_boxes_at_the_edge_may_be_rounded_as_annotation_tools_do(width: int) -> None:
    for left in range(1, width, 7):
        centre, share = (left + width) / 2 / width, (width - left) / width
        numbers = [float(f"{number:.6f}") for number in (centre, 0.5, share, 0.5)]
        assert Box.from_numbers(numbers, "yolo", size=(width, 480)).right <= width
    box = Box.from_numbers((123.46, 10, width - 123.45, 50), "coco", size=(width, 480))
    assert box.right == width


def test_a_box_is_clipped_and_says_what_is_left() -> None:
    (moved,) = move_boxes([Box(40, 10, 60, 20)], RIGHT_BY_HALF, size=SIZE, min_visibility=0.5)
    assert moved.to_numbers("pascal_voc", size=SIZE) == pytest.approx((90, 10, 100, 20))
    assert moved.visible == pytest.approx(0.5)
    assert not moved.is_dropped


def test_boxes_that_are_dropped_stay_in_the_list() -> None:
    boxes = [Box(60, 10, 80, 20, "gone"), Box(45, 10, 65, 20, "little"), Box(0, 0, 9, 9, "there")]
    moved = move_boxes(boxes, RIGHT_BY_HALF, size=SIZE, min_visibility=0.3)
    assert [(box.label, box.is_dropped) for box in moved] == [
        ("gone", True),
        ("little", True),
        ("there", False),
    ]
    assert [box.visible for box in moved] == pytest.approx([0, 0.25, 1])
    # Dropped, they come back by no later step.
    again = move_boxes(moved, HorizontalFlipped(), size=SIZE, min_visibility=0.3)
    assert again[:2] == moved[:2]
    assert again[2].left == pytest.approx(100 - 59)


def test_a_box_outside_is_dropped_whatever_is_asked_for() -> None:
    (moved,) = move_boxes([Box(60, 10, 80, 20)], RIGHT_BY_HALF, size=SIZE, min_visibility=0)
    assert moved.is_dropped


def test_what_is_cut_in_several_steps_adds_up() -> None:
    boxes = move_boxes([Box(30, 0, 70, 10)], RIGHT_BY_HALF, size=SIZE, min_visibility=0.1)
    assert boxes[0].visible == pytest.approx(0.5)
    left = AffineWarped(1.0, 0.0, 0.0, 0.0, -0.9, 0.0)
    (moved,) = move_boxes(boxes, left, size=SIZE, min_visibility=0.1)
    assert moved.visible == pytest.approx(0.25)


def test_a_box_across_the_horizon_of_a_perspective_is_dropped() -> None:
    # Both sides of the quadrangle meet within the image, left of it.
    insets = (0.3, 0.3, 0.3, 0.0, 0.3, 0.0, 0.3, 0.3)
    (moved,) = move_boxes(
        [Box(0, 0, 100, 50)], PerspectiveWarped(insets), size=SIZE, min_visibility=0.01
    )
    assert moved.is_dropped
    assert np.isfinite([moved.left, moved.top, moved.right, moved.bottom]).all()


def test_a_square_crop_moves_boxes_and_cuts_them() -> None:
    crop = Normalization("square_crop", 25, offset=1.0)
    boxes = move_boxes(
        [Box(40, 10, 60, 20), Box(0, 0, 10, 10)], crop, size=SIZE, min_visibility=0.1
    )
    assert boxes[0].to_numbers("pascal_voc", size=(25, 25)) == pytest.approx((0, 5, 5, 10))
    assert [box.is_dropped for box in boxes] == [False, True]


@pytest.mark.parametrize("box_format", ["coco", "pascal_voc", "yolo"])
def test_boxes_of_a_row_are_read_back_within_a_thousandth_of_a_pixel(
    box_format: BoxFormat,
) -> None:
    size = (60_000, 333)
    boxes = [
        Box(0.1, 1 / 3, 60_000, 333, "all", visible=0.25),
        Box(3, 4, 5, 6, None, is_dropped=True, visible=0.125),
        Box(59_999.5, 0, 60_000, 0.75, "corner"),
    ]
    kept, dropped = boxes_to_json(boxes, box_format, size=size)
    again = read_objects(kept, size=size)
    assert [box.label for box in again] == ["all", "corner"]
    for box, other in zip((boxes[0], boxes[2]), again, strict=True):
        assert (other.left, other.top) == pytest.approx((box.left, box.top), abs=1e-3)
        assert (other.right, other.bottom) == pytest.approx((box.right, box.bottom), abs=1e-3)
    assert json.loads(kept)["index"] == [0, 2]
    assert dropped is not None
    assert json.loads(dropped) == {"categories": [None], "visible": [0.125], "index": [1]}


def test_where_nothing_was_dropped_nothing_is_said_of_it() -> None:
    assert boxes_to_json([], "coco", size=(4, 4))[1] is None


@pytest.mark.parametrize("text", ["[]", "{}", "x", '{"format": "coco"}'])
def test_what_is_no_column_of_objects_is_named(text: str) -> None:
    with pytest.raises(TargetError, match="no objects of a manifest"):
        read_objects(text, size=(4, 4))


def test_a_mask_that_nothing_moves_is_shared_and_encoded_once() -> None:
    targets = ImageTargets(MaskImage(np.zeros((4, 5), np.uint8)))
    brighter = TRANSFORMS["Brightness"]().sample(np.random.default_rng(1))
    flipped = TRANSFORMS["HorizontalFlip"]().sample(np.random.default_rng(1))
    size = (5, 4)
    assert targets.moved(brighter, size=size, min_visibility=0).mask is targets.mask
    assert targets.moved(flipped, size=size, min_visibility=0).mask is not targets.mask


def test_that_an_image_shows_nothing_stays_known() -> None:
    flipped = TRANSFORMS["HorizontalFlip"]().sample(np.random.default_rng(1))
    assert ImageTargets(boxes=()).moved(flipped, size=(5, 4), min_visibility=0).boxes == ()


def test_a_box_in_view_stays_where_a_corner_of_the_image_is_beyond_the_horizon() -> None:
    warp = PerspectiveWarped((0.3, 0.3, 0.2, 0.03, 0.19, 0.03, 0.14, 0.27))
    [moved] = move_boxes((Box(180, 180, 220, 220),), warp, size=(400, 400), min_visibility=0.1)
    assert not moved.is_dropped
    assert (round(moved.left), round(moved.top)) == (234, 211)
    assert (round(moved.right), round(moved.bottom)) == (306, 276)


@pytest.mark.parametrize(
    "operation",
    [
        QuarterTurned(7),
        Rotated(math.inf),
        PerspectiveWarped((0.9,) * 8),
        PerspectiveWarped((0.1, 0.1)),
        AffineWarped(math.nan, 0, 0, 0, 0, 0),
        ResizedCrop(math.nan, 1, 0, 0),
    ],
)
def test_recorded_parameters_that_no_draw_gives_are_refused_for_masks_too(
    operation: Operation,
) -> None:
    with pytest.raises(TransformError):
        operation.apply_mask(np.zeros((8, 8), np.uint8))
    with pytest.raises(TransformError):
        operation.apply(np.zeros((8, 8, 3), np.uint8))
