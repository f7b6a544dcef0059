import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaleidoscope.errors import TransformError
from kaleidoscope.transforms.rotate import (
    Rotate,
    Rotated,
    rotate_and_zoom,
    rotation_matrix,
    zoom_without_blank_corners,
)

sides = st.integers(1, 5000)
angles = st.floats(-720, 720) | st.sampled_from([0.0, 45.0, 90.0, 180.0, -90.0, 1e-9])


def sources_of_corners(width: int, height: int, angle_deg: float) -> np.ndarray:
    """Return where in the image the output's corner pixels come from, (4, 2), x and y."""
    matrix = rotation_matrix(width, height, angle_deg)
    w, h = width - 1, height - 1
    corners = np.array([[0, 0], [w, 0], [w, h], [0, h]], dtype=float)
    sources: np.ndarray = np.linalg.solve(matrix[:, :2], (corners - matrix[:, 2]).T).T
    return sources


@given(width=sides, height=sides, angle_deg=angles)
def test_the_corners_of_the_frame_show_pixels_of_the_image(
    width: int, height: int, angle_deg: float
) -> None:
    sources = sources_of_corners(width, height, angle_deg)
    # A side of one pixel has no length between centres; there the pixel's own edges count.
    slack = np.where(np.array([width, height]) == 1, 0.5, 0) + 1e-6
    assert (sources >= -slack).all()
    assert (sources <= np.array([width - 1, height - 1]) + slack).all()


@given(width=st.integers(2, 5000), height=st.integers(2, 5000), angle_deg=angles)
def test_the_zoom_is_no_larger_than_it_must_be(width: int, height: int, angle_deg: float) -> None:
    sources = sources_of_corners(width, height, angle_deg)
    size = np.array([width - 1, height - 1])
    margin = np.minimum(sources, size - sources)
    assert margin.min() <= 1e-6 * size.max()


@given(width=sides, height=sides)
def test_no_turn_and_half_a_turn_need_no_zoom(width: int, height: int) -> None:
    assert zoom_without_blank_corners(width, height, 0) == 1
    assert zoom_without_blank_corners(width, height, 180) == pytest.approx(1, abs=1e-10)


def test_no_turn_is_the_identity(noise: np.ndarray) -> None:
    np.testing.assert_array_equal(rotate_and_zoom(noise, angle_deg=0), noise)


def test_a_quarter_turns_a_square_counter_clockwise() -> None:
    image = np.random.default_rng(1).integers(0, 256, (31, 31, 3), dtype=np.uint8)
    np.testing.assert_array_equal(rotate_and_zoom(image, angle_deg=90), np.rot90(image))


def test_a_single_angle_is_drawn_as_it_is() -> None:
    assert Rotate(limit=(30, 30)).sample(np.random.default_rng(1)) == Rotated(30.0)


@pytest.mark.parametrize("angle_deg", [float("nan"), float("inf")])
def test_an_angle_that_is_no_number_is_refused(noise: np.ndarray, angle_deg: float) -> None:
    with pytest.raises(TransformError, match="angle"):
        rotate_and_zoom(noise, angle_deg=angle_deg)
