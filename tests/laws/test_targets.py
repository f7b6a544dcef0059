"""Masks and boxes go where the pixels go: by every transform, and as another library has it."""

import importlib
import math
import os
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kaleidoscope.model import BgrImage, Mask
from kaleidoscope.normalization import Normalization
from kaleidoscope.targets import Box, BoxFormat, move_boxes
from kaleidoscope.transforms import TRANSFORMS, Operation
from kaleidoscope.transforms.affine import AffineWarped
from kaleidoscope.transforms.horizontal_flip import HorizontalFlipped
from kaleidoscope.transforms.random_rotate90 import QuarterTurned
from kaleidoscope.transforms.rotate import Rotated, zoom_without_blank_corners
from kaleidoscope.transforms.vertical_flip import VerticalFlipped

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # It would ask the network for a newer release.

A: Any = importlib.import_module("albumentations")

GEOMETRIC = [name for name, transform in TRANSFORMS.items() if transform.geometric]
LEVELS_PER_PX = 4
"""By which the gradient rises, so that a place can be read from a grey level to 1/8 pixel."""

FORMATS: list[BoxFormat] = ["coco", "pascal_voc", "yolo"]

sides = st.integers(8, 60)
seeds = st.integers(0, 2**32)
shares = st.floats(0, 1)


def draw(name: str, seed: int) -> Operation:
    return TRANSFORMS[name]().sample(np.random.default_rng(seed))


def gradient(width: int, height: int) -> BgrImage:
    """Blue tells x and green tells y of a pixel's centre."""
    image = np.zeros((height, width, 3), dtype=np.uint8)
    image[..., 0] = LEVELS_PER_PX * np.arange(width)
    image[..., 1] = LEVELS_PER_PX * np.arange(height)[:, None]
    return image


def names_of_pixels(width: int, height: int) -> Mask:
    return np.arange(width * height, dtype=np.uint16).reshape(height, width)


def sample(image: BgrImage, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Read x and y, between pixel edges, from a gradient at points between pixel edges."""
    x, y = (points - 0.5).astype(np.float32).T
    found = cv2.remap(image.astype(np.float32), x, y, cv2.INTER_LINEAR)
    return found.reshape(-1, 3)[:, :2].astype(np.float64) / LEVELS_PER_PX + 0.5


@pytest.mark.parametrize("name", GEOMETRIC)
@given(width=sides, height=sides, seed=seeds)
@settings(max_examples=60, deadline=None)
def test_points_go_where_pixels_go(name: str, width: int, height: int, seed: int) -> None:
    operation = draw(name, seed)
    moved = operation.apply(gradient(width, height))
    assert operation.output_size(width, height) == (moved.shape[1], moved.shape[0])
    points = np.random.default_rng(seed).uniform((3, 3), (width - 3, height - 3), (20, 2))
    there = operation.apply_points(points, width=width, height=height)
    inside = ((there > 1) & (there < np.array(moved.shape[1::-1]) - 1)).all(axis=1)
    assume(inside.any())
    np.testing.assert_allclose(sample(moved, there[inside]), points[inside], atol=0.3)


@pytest.mark.parametrize("name", GEOMETRIC)
@given(width=sides, height=sides, seed=seeds)
@settings(max_examples=60, deadline=None)
def test_a_mask_shows_at_every_pixel_what_the_image_shows(
    name: str, width: int, height: int, seed: int
) -> None:
    operation = draw(name, seed)
    mask = names_of_pixels(width, height)
    before = mask.copy()
    moved = operation.apply_mask(mask)
    np.testing.assert_array_equal(mask, before)
    assert moved.dtype == mask.dtype
    places = np.stack([moved % width, moved // width], axis=-1).astype(np.float64)
    shown = operation.apply(gradient(width, height))[..., :2] / LEVELS_PER_PX
    # Half a pixel for the nearest, and what 8 bits and OpenCV's 1/32 of a pixel lose.
    assert np.abs(places - shown).max() <= 0.5 + 0.3


@pytest.mark.parametrize("name", sorted(set(TRANSFORMS) - set(GEOMETRIC)))
@given(width=sides, height=sides, seed=seeds)
@settings(max_examples=5, deadline=None)
def test_what_moves_no_pixel_leaves_masks_and_points(
    name: str, width: int, height: int, seed: int
) -> None:
    operation = draw(name, seed)
    mask = names_of_pixels(width, height)
    np.testing.assert_array_equal(operation.apply_mask(mask), mask)
    points = np.array([[0.0, 1.0], [width, height]])
    moved = operation.apply_points(points, width=width, height=height)
    np.testing.assert_array_equal(moved, points)
    assert operation.apply(gradient(width, height)).shape[:2] == mask.shape


@pytest.mark.parametrize("name", sorted(set(TRANSFORMS) - set(GEOMETRIC)))
@given(seed=seeds)
@settings(max_examples=10, deadline=None)
def test_what_is_said_to_move_no_pixel_keeps_the_quarters_in_their_places(
    name: str, seed: int
) -> None:
    """A transform that forgot to say that it moves pixels would leave masks and boxes behind."""
    half = 32
    quarters = np.array([[40, 100], [160, 220]], np.uint8).repeat(half, 0).repeat(half, 1)
    made = draw(name, seed).apply(np.stack([quarters] * 3, axis=-1))
    parts = made.reshape(2, half, 2, half, 3)
    levels = np.median(parts, axis=(1, 3, 4)).reshape(-1)
    assert (np.diff(levels) >= -3).all(), levels


@pytest.mark.parametrize("mode", ["square_crop", "fit", "none"])
@given(width=sides, height=sides, side=st.integers(8, 60), offset=shares)
@settings(max_examples=40, deadline=None)
def test_normalisation_moves_masks_and_points_as_the_image(
    mode: Any, width: int, height: int, side: int, offset: float
) -> None:
    normalization = Normalization(mode, side, offset)
    image = gradient(width, height)
    root = normalization.apply(image, source_width=width, source_height=height)
    size = normalization.output_size(width, height)
    assert root.shape[1::-1] == size
    mask = normalization.apply_mask(names_of_pixels(width, height))
    assert mask.shape == root.shape[:2]
    ys, xs = np.mgrid[: size[1], : size[0]]
    centres = np.column_stack([xs.ravel(), ys.ravel()]) + 0.5
    # A pixel of the mask names the source's pixel into which its centre falls.
    named = np.column_stack([mask.ravel() % width, mask.ravel() // width]).astype(np.float64) + 0.5
    back = normalization.apply_points(named, width=width, height=height)
    step = normalization.apply_points(
        np.array([[0.0, 0.0], [1.0, 1.0]]), width=width, height=height
    )
    assert (np.abs(back - centres) <= (step[1] - step[0]) * 0.51 + 1e-6).all()
    if size == (width, height):
        np.testing.assert_allclose(root[..., :2].reshape(-1, 2) / LEVELS_PER_PX + 0.5, named)


def box_in(width: int, height: int, at: tuple[float, float, float, float]) -> Box:
    left, right = sorted((at[0] * width, at[1] * width))
    top, bottom = sorted((at[2] * height, at[3] * height))
    assume(right - left > 0.5 and bottom - top > 0.5)
    return Box(left, top, right, bottom, "thing")


places = st.tuples(shares, shares, shares, shares)


@pytest.mark.parametrize("box_format", FORMATS)
@given(width=sides, height=sides, at=places)
def test_formats_give_a_box_back(
    box_format: BoxFormat, width: int, height: int, at: tuple[float, float, float, float]
) -> None:
    box = box_in(width, height, at)
    numbers = box.to_numbers(box_format, size=(width, height))
    again = Box.from_numbers(numbers, box_format, size=(width, height), label="thing")
    edges = again.to_numbers("pascal_voc", size=(width, height))
    assert edges == pytest.approx(box.to_numbers("pascal_voc", size=(width, height)))
    assert again.label == "thing"


@given(width=sides, height=sides, at=places, seed=seeds, name=st.sampled_from(GEOMETRIC))
@settings(max_examples=200, deadline=None)
def test_a_box_stays_in_the_frame_or_is_dropped(
    width: int, height: int, at: tuple[float, float, float, float], seed: int, name: str
) -> None:
    box = box_in(width, height, at)
    operation = draw(name, seed)
    (moved,) = move_boxes([box], operation, size=(width, height), min_visibility=0.3)
    new_width, new_height = operation.output_size(width, height)
    assert 0 <= moved.left <= moved.right <= new_width
    assert 0 <= moved.top <= moved.bottom <= new_height
    assert 0 <= moved.visible <= 1 + 1e-9
    assert moved.is_dropped == (moved.visible < 0.3)
    assert moved.label == "thing"


def check_boxes_agree(
    operation: Operation, transform: Any, size: tuple[int, int], box: Box
) -> None:
    """Within a pixel, a box is where Albumentations has it."""
    pipeline = A.Compose([transform], bbox_params=A.BboxParams("pascal_voc", label_fields=["of"]))
    numbers = box.to_numbers("pascal_voc", size=size)
    image = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    wanted = pipeline(image=image, bboxes=[numbers], of=["thing"])["bboxes"]
    (moved,) = move_boxes([box], operation, size=size, min_visibility=0)
    assert moved.is_dropped == (len(wanted) == 0)
    if not moved.is_dropped:
        made = moved.to_numbers("pascal_voc", size=operation.output_size(*size))
        assert made == pytest.approx(tuple(wanted[0]), abs=1)


def check_masks_agree(operation: Operation, transform: Any, size: tuple[int, int]) -> None:
    """Within a pixel: what differs lies on the border of either."""
    mask = np.zeros((size[1], size[0]), dtype=np.uint8)
    mask[size[1] // 4 : size[1] // 2 + 1, size[0] // 4 : size[0] // 2 + 1] = 7
    image = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    wanted = A.Compose([transform])(image=image, mask=mask)["mask"]
    made = operation.apply_mask(mask)
    check_within_a_pixel(made, wanted)


def check_within_a_pixel(made: Mask, wanted: Mask) -> None:
    assert made.shape == wanted.shape
    pixel = np.ones((3, 3), dtype=np.uint8)
    for one, other in ((made, wanted), (wanted, made)):
        # Of the outermost pixels the neighbours are not in sight.
        assert (cv2.erode(one, pixel) <= other)[1:-1, 1:-1].all()
        assert (one <= cv2.dilate(other, pixel))[1:-1, 1:-1].all()


def check_agrees(operation: Operation, transform: Any, size: tuple[int, int], box: Box) -> None:
    check_boxes_agree(operation, transform, size, box)
    check_masks_agree(operation, transform, size)


@given(width=sides, height=sides, at=places, turns=st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_flips_and_quarter_turns_are_those_of_albumentations(
    width: int, height: int, at: tuple[float, float, float, float], turns: int
) -> None:
    box = box_in(width, height, at)
    check_agrees(HorizontalFlipped(), A.HorizontalFlip(p=1), (width, height), box)
    check_agrees(VerticalFlipped(), A.VerticalFlip(p=1), (width, height), box)

    check_agrees(QuarterTurned(turns), quarter_turns(turns), (width, height), box)


def quarter_turns(turns: int) -> Any:
    """Return its transform with the number of turns given and not drawn."""
    transform = A.RandomRotate90(p=1)
    transform.get_params = lambda: {"factor": turns}
    return transform


def affine(
    scale: float,
    angle_deg: float,
    shift: tuple[int, int],
    border: int,
    *,
    shear_deg: tuple[float, float] = (0, 0),
) -> Any:
    # In pixels: of shares it drops what is no whole pixel. It turns the signs of shears around.
    return A.Affine(
        scale=(scale, scale),
        rotate=(angle_deg, angle_deg),
        shear={name: (-shear, -shear) for name, shear in zip("xy", shear_deg, strict=True)},
        translate_px={"x": (shift[0], shift[0]), "y": (shift[1], shift[1])},
        border_mode=border,
        p=1,
    )


@given(width=sides, height=sides, at=places, angle_deg=st.floats(-180, 180))
@settings(max_examples=60, deadline=None)
def test_a_rotation_is_that_of_albumentations(
    width: int, height: int, at: tuple[float, float, float, float], angle_deg: float
) -> None:
    zoom = zoom_without_blank_corners(width, height, angle_deg)
    theirs = affine(zoom, angle_deg, (0, 0), cv2.BORDER_REPLICATE)
    check_agrees(Rotated(angle_deg), theirs, (width, height), box_in(width, height, at))


@given(
    size=st.tuples(sides, sides),
    at=places,
    scale=st.floats(0.8, 1.2),
    angle_deg=st.floats(-30, 30),
    shift=st.tuples(st.integers(-6, 6), st.integers(-6, 6)),
)
@settings(max_examples=60, deadline=None)
def test_an_affine_map_is_that_of_albumentations(
    size: tuple[int, int],
    at: tuple[float, float, float, float],
    scale: float,
    angle_deg: float,
    shift: tuple[int, int],
) -> None:
    ours = AffineWarped(scale, angle_deg, 0.0, 0.0, shift[0] / size[0], shift[1] / size[1])
    # Of what is reflected it would make boxes, too.
    plain = affine(scale, angle_deg, shift, cv2.BORDER_CONSTANT)
    check_boxes_agree(ours, plain, size, box_in(*size, at))
    check_masks_agree(ours, affine(scale, angle_deg, shift, cv2.BORDER_REFLECT_101), size)


@given(
    size=st.tuples(sides, sides),
    at=places,
    scale=st.floats(0.8, 1.2),
    shear_deg=st.tuples(st.floats(-30, 30), st.floats(-30, 30)),
    shift=st.tuples(st.integers(-6, 6), st.integers(-6, 6)),
)
@settings(max_examples=60, deadline=None)
def test_a_shear_is_that_of_albumentations(
    size: tuple[int, int],
    at: tuple[float, float, float, float],
    scale: float,
    shear_deg: tuple[float, float],
    shift: tuple[int, int],
) -> None:
    ours = AffineWarped(scale, 0.0, *shear_deg, shift[0] / size[0], shift[1] / size[1])
    plain = affine(scale, 0, shift, cv2.BORDER_CONSTANT, shear_deg=shear_deg)
    check_boxes_agree(ours, plain, size, box_in(*size, at))
    reflected = affine(scale, 0, shift, cv2.BORDER_REFLECT_101, shear_deg=shear_deg)
    check_masks_agree(ours, reflected, size)


def turned_then_sheared(
    operation: AffineWarped,
) -> tuple[float, float, tuple[float, float]]:
    """Scale, angle and shears by which turning comes before shearing, for the same map."""
    (a, b), (c, d) = operation.matrix(1, 1)[:, :2]
    # Turned back by this angle, both numbers on the diagonal are the scale.
    angle = math.atan2(d - a, b + c)
    if a * math.cos(angle) + b * math.sin(angle) < 0:
        angle += math.pi
    cosine, sine = math.cos(angle), math.sin(angle)
    scale = a * cosine + b * sine
    assume(scale > 0.2)
    shears = math.atan((b * cosine - a * sine) / scale), math.atan((c * cosine + d * sine) / scale)
    return scale, math.degrees(angle), (math.degrees(shears[0]), math.degrees(shears[1]))


@given(
    size=st.tuples(sides, sides),
    at=places,
    angle_deg=st.floats(-180, 180),
    shear_deg=st.tuples(st.floats(-30, 30), st.floats(-30, 30)),
)
@settings(max_examples=60, deadline=None)
def test_a_shear_and_a_turn_are_those_of_albumentations_in_its_order(
    size: tuple[int, int],
    at: tuple[float, float, float, float],
    angle_deg: float,
    shear_deg: tuple[float, float],
) -> None:
    ours = AffineWarped(1.0, angle_deg, *shear_deg, 0.0, 0.0)
    scale, their_angle_deg, their_shear_deg = turned_then_sheared(ours)
    plain = affine(scale, their_angle_deg, (0, 0), cv2.BORDER_CONSTANT, shear_deg=their_shear_deg)
    check_boxes_agree(ours, plain, size, box_in(*size, at))
    reflected = affine(
        scale, their_angle_deg, (0, 0), cv2.BORDER_REFLECT_101, shear_deg=their_shear_deg
    )
    check_masks_agree(ours, reflected, size)
