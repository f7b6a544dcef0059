import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaleidoscope.errors import TransformError
from kaleidoscope.model import BgrImage
from kaleidoscope.transforms.brightness import Brightness, BrightnessShifted, shift_brightness


@given(offset=st.integers(-255, 255), height=st.integers(1, 6), width=st.sampled_from([1, 2, 300]))
def test_every_channel_is_shifted_and_saturates(offset: int, height: int, width: int) -> None:
    # OpenCV takes a scalar for an array where a channel has 4 rows and 1 column.
    image = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    expected = np.clip(image.astype(int) + offset, 0, 255)
    np.testing.assert_array_equal(shift_brightness(image, offset=offset), expected)


def test_a_single_offset_is_drawn_as_it_is() -> None:
    drawn = Brightness(offset=(-7, -7)).sample(np.random.default_rng(1))
    assert drawn == BrightnessShifted(-7)


@pytest.mark.parametrize("offset", [-256, 256])
def test_an_offset_out_of_range_is_refused(noise: BgrImage, offset: int) -> None:
    with pytest.raises(TransformError, match="offset"):
        shift_brightness(noise, offset=offset)
