import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from kaleidoscope.errors import TransformError
from kaleidoscope.model import BgrImage
from kaleidoscope.transforms.motion_blur import MotionBlur, blur_along_line, line_kernel

odd_lengths = st.integers(0, 49).map(lambda n: 2 * n + 1)


@given(length=odd_lengths, angle_deg=st.floats(-720, 720))
def test_the_weights_sum_to_one_and_do_not_shift(length: int, angle_deg: float) -> None:
    kernel = line_kernel(length, angle_deg)
    assert kernel.shape == (length, length)
    assert (kernel >= 0).all()
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-6)


@pytest.mark.parametrize(
    ("angle_deg", "line"),
    [(0, np.s_[2, :]), (90, np.s_[:, 2]), (180, np.s_[2, :]), (-90, np.s_[:, 2])],
)
def test_level_and_upright_lines_are_even(
    angle_deg: float, line: tuple[int | slice, int | slice]
) -> None:
    expected = np.zeros((5, 5), dtype=np.float32)
    expected[line] = 0.2
    np.testing.assert_allclose(line_kernel(5, angle_deg), expected, atol=1e-7)


@given(length=odd_lengths, angle_deg=st.floats(1, 89))
def test_a_line_rises_to_the_right_at_its_angle(length: int, angle_deg: float) -> None:
    kernel = line_kernel(length, angle_deg)
    y, x = np.mgrid[:length, :length] - length // 2
    assert (kernel * x * -y).sum() >= 0
    steps = np.arange(length) - length // 2
    spread = (steps**2).mean() * np.cos(np.radians(angle_deg)) ** 2
    # Sharing a step between neighbours adds at most a quarter of a square pixel.
    assert spread - 1e-3 <= (kernel * x**2).sum() <= spread + 0.251


def test_a_length_of_one_is_the_identity(noise: BgrImage) -> None:
    np.testing.assert_array_equal(blur_along_line(noise, length=1, angle_deg=33), noise)


def test_a_plain_surface_stays_plain() -> None:
    white = np.full((9, 5, 3), 255, dtype=np.uint8)
    np.testing.assert_array_equal(blur_along_line(white, length=7, angle_deg=20), white)


def test_only_odd_lengths_are_drawn() -> None:
    rng = np.random.default_rng(1)
    lengths = {MotionBlur(blur_limit=(3, 9)).sample(rng).length for _ in range(200)}
    assert lengths == {3, 5, 7, 9}


def test_an_even_limit_is_refused() -> None:
    with pytest.raises(ValidationError, match="odd"):
        MotionBlur(blur_limit=(3, 8))


@pytest.mark.parametrize(("length", "angle_deg"), [(4, 0), (0, 0), (101, 0), (3, float("nan"))])
def test_a_parameter_out_of_range_is_refused(
    noise: BgrImage, length: int, angle_deg: float
) -> None:
    with pytest.raises(TransformError, match="motion blur"):
        blur_along_line(noise, length=length, angle_deg=angle_deg)
