import colorsys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaleidoscope.errors import TransformError
from kaleidoscope.model import BgrImage
from kaleidoscope.transforms.hue import Hue, HueShifted, shift_hue

bytes_drawn = st.integers(0, 255)


def test_a_shift_of_zero_is_the_identity(noise: BgrImage) -> None:
    np.testing.assert_array_equal(shift_hue(noise, shift_deg=0), noise)


@given(
    b=bytes_drawn,
    g=bytes_drawn,
    r=bytes_drawn,
    shift_deg=st.floats(-360, 360),
    size=st.tuples(st.integers(1, 5), st.sampled_from([1, 3, 8, 16, 33])),
)
def test_it_is_the_hsv_hue_that_is_shifted(
    b: int, g: int, r: int, shift_deg: float, size: tuple[int, int]
) -> None:
    # OpenCV takes scalars for arrays of 4 rows and 1 column, and computes 8 pixels at a time.
    image = np.full((*size, 3), (b, g, r), dtype=np.uint8)
    hue, saturation, value = colorsys.rgb_to_hsv(r / 255, g / 255, b / 255)
    expected = colorsys.hsv_to_rgb((hue + shift_deg / 360) % 1, saturation, value)
    result = shift_hue(image, shift_deg=shift_deg)
    assert np.abs(result - 255 * np.array(expected[::-1])).max() <= 0.51


@pytest.mark.parametrize(("shift_deg", "channel"), [(120, 1), (-240, 1), (240, 0), (-120, 0)])
def test_a_third_of_the_wheel_makes_red_green(shift_deg: float, channel: int) -> None:
    red = np.full((3, 3, 3), (0, 0, 200), dtype=np.uint8)
    expected = np.zeros_like(red)
    expected[..., channel] = 200
    np.testing.assert_array_equal(shift_hue(red, shift_deg=shift_deg), expected)


def test_a_single_angle_is_drawn_as_it_is() -> None:
    assert Hue(hue_shift_limit=(9, 9)).sample(np.random.default_rng(1)) == HueShifted(9.0)


@pytest.mark.parametrize("shift_deg", [-361, 361, float("nan")])
def test_a_shift_out_of_range_is_refused(noise: BgrImage, shift_deg: float) -> None:
    with pytest.raises(TransformError, match="hue"):
        shift_hue(noise, shift_deg=shift_deg)
