import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaleidoscope.errors import TransformError
from kaleidoscope.model import BgrImage
from kaleidoscope.transforms.random_gamma import GammaAdjusted, RandomGamma, adjust_gamma


def test_a_gamma_of_100_percent_is_the_identity(noise: BgrImage) -> None:
    np.testing.assert_array_equal(adjust_gamma(noise, gamma_percent=100), noise)


@given(gamma_percent=st.floats(1, 1000))
def test_black_and_white_stay_and_order_is_kept(gamma_percent: float) -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(1, 256, 3)
    tones = adjust_gamma(ramp, gamma_percent=gamma_percent)[0, :, 0].astype(int)
    assert tones[0] == 0
    assert tones[255] == 255
    assert (np.diff(tones) >= 0).all()


@pytest.mark.parametrize(("gamma_percent", "grey"), [(50, 181), (200, 64)])
def test_below_100_percent_brightens_and_above_darkens(gamma_percent: float, grey: int) -> None:
    # 128/255 to the power of 1/2 and of 2, times 255.
    middle = np.full((1, 1, 3), 128, dtype=np.uint8)
    assert (adjust_gamma(middle, gamma_percent=gamma_percent) == grey).all()


def test_a_single_gamma_is_drawn_as_it_is() -> None:
    drawn = RandomGamma(gamma_limit=(90, 90)).sample(np.random.default_rng(1))
    assert drawn == GammaAdjusted(90.0)


@pytest.mark.parametrize("gamma_percent", [0, -80, 1001, float("nan")])
def test_a_gamma_out_of_range_is_refused(noise: BgrImage, gamma_percent: float) -> None:
    with pytest.raises(TransformError, match="gamma"):
        adjust_gamma(noise, gamma_percent=gamma_percent)
