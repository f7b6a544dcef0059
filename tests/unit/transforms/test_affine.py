import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaleidoscope.errors import TransformError
from kaleidoscope.model import BgrImage
from kaleidoscope.transforms.affine import Affine, AffineWarped
from kaleidoscope.transforms.rotate import rotate_and_zoom

IDENTITY = AffineWarped(
    scale=1, rotate_deg=0, shear_x_deg=0, shear_y_deg=0, translate_x=0, translate_y=0
)


def test_the_middles_of_all_ranges_are_the_identity(noise: BgrImage) -> None:
    np.testing.assert_array_equal(IDENTITY.apply(noise), noise)


def test_a_shift_moves_to_the_right_and_downwards() -> None:
    image = np.random.default_rng(1).integers(0, 256, (20, 10, 3), dtype=np.uint8)
    shifted = dataclasses.replace(IDENTITY, translate_x=0.2, translate_y=0.1).apply(image)
    np.testing.assert_array_equal(shifted[2:, 2:], image[:-2, :-2])


def test_a_shift_brings_the_reflection_into_view() -> None:
    image = np.random.default_rng(1).integers(0, 256, (20, 10, 3), dtype=np.uint8)
    shifted = dataclasses.replace(IDENTITY, translate_x=0.3).apply(image)
    np.testing.assert_array_equal(shifted[:, :3], image[:, 3:0:-1])


def test_it_turns_in_the_direction_of_rotate() -> None:
    image = np.random.default_rng(1).integers(0, 256, (31, 31, 3), dtype=np.uint8)
    turned = dataclasses.replace(IDENTITY, rotate_deg=90).apply(image)
    np.testing.assert_array_equal(turned, rotate_and_zoom(image, angle_deg=90))


def test_a_shear_leans_upright_lines_by_its_angle() -> None:
    matrix = dataclasses.replace(IDENTITY, shear_x_deg=30).matrix(101, 101)
    top, bottom = matrix @ (50, 0, 1), matrix @ (50, 100, 1)
    lean = np.degrees(np.arctan2(bottom[0] - top[0], bottom[1] - top[1]))
    assert lean == pytest.approx(30)


@given(seed=st.integers(0, 2**32))
def test_every_map_can_be_undone_and_scales_areas_by_the_square(seed: int) -> None:
    transform = Affine(scale=(0.1, 10), rotate=(-180, 180), shear=(0, 0))
    operation = transform.sample(np.random.default_rng(seed))
    area = np.linalg.det(operation.matrix(30, 20)[:, :2])
    assert area == pytest.approx(operation.scale**2)
    sheared = Affine(shear=(-40, 40)).sample(np.random.default_rng(seed))
    assert np.linalg.det(sheared.matrix(30, 20)[:, :2]) > 0.2 * sheared.scale**2


def test_the_centre_stays_where_it_is_without_a_shift() -> None:
    operation = dataclasses.replace(IDENTITY, scale=3, rotate_deg=33, shear_x_deg=20)
    np.testing.assert_allclose(operation.matrix(31, 21) @ (15, 10, 1), (15, 10))


@pytest.mark.parametrize(
    "change",
    [
        {"scale": 0},
        {"scale": float("nan")},
        {"rotate_deg": float("inf")},
        {"shear_x_deg": 45},
        {"shear_y_deg": -45},
        {"translate_x": 1.5},
        {"translate_y": -1.5},
    ],
)
def test_a_parameter_out_of_range_is_refused(noise: BgrImage, change: dict[str, Any]) -> None:
    with pytest.raises(TransformError, match="affine"):
        dataclasses.replace(IDENTITY, **change).apply(noise)
