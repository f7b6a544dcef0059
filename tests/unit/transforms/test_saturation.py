import colorsys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaleidoscope.errors import TransformError
from kaleidoscope.model import BgrImage
from kaleidoscope.transforms.saturation import Saturation, SaturationScaled, adjust_saturation

bytes_drawn = st.integers(0, 255)


def test_a_gain_of_one_is_the_identity(noise: BgrImage) -> None:
    np.testing.assert_array_equal(adjust_saturation(noise, gain=1), noise)


@given(b=bytes_drawn, g=bytes_drawn, r=bytes_drawn, gain=st.floats(0, 10), height=st.integers(1, 5))
def test_it_is_the_hsv_saturation_that_is_scaled(
    b: int, g: int, r: int, gain: float, height: int
) -> None:
    image = np.full((height, 1, 3), (b, g, r), dtype=np.uint8)
    hue, saturation, value = colorsys.rgb_to_hsv(r / 255, g / 255, b / 255)
    expected = colorsys.hsv_to_rgb(hue, min(saturation * gain, 1), value)
    result = adjust_saturation(image, gain=gain)
    assert np.abs(result - 255 * np.array(expected[::-1])).max() <= 0.51


@given(gain=st.floats(0, 10))
def test_grey_has_no_colour_to_strengthen(gain: float) -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(1, 256, 3)
    np.testing.assert_array_equal(adjust_saturation(ramp, gain=gain), ramp)


def test_a_gain_of_zero_is_grey(noise: BgrImage) -> None:
    grey = adjust_saturation(noise, gain=0)
    np.testing.assert_array_equal(grey, noise.max(axis=2, keepdims=True).repeat(3, axis=2))


def test_a_single_gain_is_drawn_as_it_is() -> None:
    assert Saturation(gain=(2, 2)).sample(np.random.default_rng(1)) == SaturationScaled(2.0)


@pytest.mark.parametrize("gain", [-0.1, float("nan"), float("inf")])
def test_a_gain_out_of_range_is_refused(noise: BgrImage, gain: float) -> None:
    with pytest.raises(TransformError, match="gain"):
        adjust_saturation(noise, gain=gain)
