import numpy as np

from kaleidoscope.model import BgrImage
from kaleidoscope.transforms.to_gray import remove_colour


def test_all_channels_become_the_luma(noise: BgrImage) -> None:
    luma = noise @ np.array([0.114, 0.587, 0.299])
    result = remove_colour(noise)
    assert np.abs(result - luma[..., None]).max() <= 0.51


def test_grey_is_left_as_it_is(ramp: BgrImage) -> None:
    np.testing.assert_array_equal(remove_colour(ramp), ramp)
