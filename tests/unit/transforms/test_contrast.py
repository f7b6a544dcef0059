import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaleidoscope.errors import TransformError
from kaleidoscope.model import BgrImage
from kaleidoscope.transforms.contrast import Contrast, ContrastScaled, adjust_contrast

LEVELS = np.arange(256, dtype=np.uint8)


def test_a_gain_of_one_is_the_identity(noise: BgrImage) -> None:
    np.testing.assert_array_equal(adjust_contrast(noise, gain=1), noise)


def test_a_gain_of_zero_is_black(noise: BgrImage) -> None:
    assert not adjust_contrast(noise, gain=0).any()


@given(gain=st.floats(0, 10))
def test_values_are_scaled_and_saturate_at_white(gain: float) -> None:
    ramp = np.repeat(LEVELS, 3).reshape(1, 256, 3)
    scaled = adjust_contrast(ramp, gain=gain)[0, :, 0].astype(float)
    # Half a level from rounding, and what float32 loses.
    assert np.abs(scaled - np.minimum(LEVELS * gain, 255)).max() <= 0.501
    assert (np.diff(scaled) >= 0).all()


def test_a_single_gain_is_drawn_as_it_is() -> None:
    assert Contrast(gain=(1.5, 1.5)).sample(np.random.default_rng(1)) == ContrastScaled(1.5)


@pytest.mark.parametrize("gain", [-0.1, float("nan"), float("inf")])
def test_a_gain_out_of_range_is_refused(noise: BgrImage, gain: float) -> None:
    with pytest.raises(TransformError, match="gain"):
        adjust_contrast(noise, gain=gain)
