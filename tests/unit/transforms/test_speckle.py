import math

import numpy as np
import numpy.typing as npt
import pytest

from kaleidoscope.errors import TransformError
from kaleidoscope.model import BgrImage
from kaleidoscope.transforms._noise_field import RandomBits
from kaleidoscope.transforms.speckle import Speckle, multiply_by_gaussian


def saturated_product(grey: int, std: float) -> npt.NDArray[np.float64]:
    """Return the probability of every level of ``grey (1 + N(0, std))``, rounded, saturated."""
    edges = (np.arange(257) - 0.5 - grey) / (grey * std * math.sqrt(2))
    cdf = np.array([0.5 * math.erfc(-edge) for edge in edges.tolist()])
    cdf[0], cdf[-1] = 0, 1
    return np.diff(cdf)


@pytest.fixture
def every_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a field of noise hold every index once, so that results are whole distributions."""

    def indices(_: RandomBits, shape: tuple[int, int]) -> npt.NDArray[np.uint16]:
        return np.arange(65536, dtype=np.uint16)[:, None].repeat(shape[1], axis=1)

    monkeypatch.setattr(RandomBits, "take_indices", indices)


@pytest.mark.usefixtures("every_index")
@pytest.mark.parametrize("grey", [1, 40, 128, 200, 255])
@pytest.mark.parametrize("std", [0.5 / 255, 1 / 255, 0.01, 0.1, 0.3, 1.0])
def test_values_are_distributed_as_the_rounded_product(grey: int, std: float) -> None:
    image = np.full((65536, 1, 3), grey, dtype=np.uint8)
    result = multiply_by_gaussian(image, std=std, noise_seed=1)
    shares = np.bincount(result.ravel(), minlength=256) / result.size
    total_variation = np.abs(shares - saturated_product(grey, std)).sum() / 2
    assert total_variation < 0.002


@pytest.mark.usefixtures("every_index")
def test_the_tails_reach_beyond_four_sigma() -> None:
    image = np.full((65536, 1, 3), 100, dtype=np.uint8)
    result = multiply_by_gaussian(image, std=0.1, noise_seed=1)
    assert result.max() > 140
    assert result.min() < 60


def test_black_stays_black_and_white_saturates() -> None:
    image = np.zeros((20, 20, 3), dtype=np.uint8)
    image[10:] = 255
    result = multiply_by_gaussian(image, std=0.1, noise_seed=1)
    assert not result[:10].any()
    assert result[10:].min() > 255 * 0.5
    assert (result[10:] == 255).mean() == pytest.approx(0.5, abs=0.1)


def test_no_strength_is_the_identity(noise: BgrImage) -> None:
    np.testing.assert_array_equal(multiply_by_gaussian(noise, std=0, noise_seed=1), noise)


def test_a_single_strength_is_drawn_as_it_is() -> None:
    assert Speckle(std_range=(0.1, 0.1)).sample(np.random.default_rng(1)).std == 0.1


@pytest.mark.parametrize("std", [-0.1, 1.1, float("nan")])
def test_a_strength_out_of_range_is_refused(noise: BgrImage, std: float) -> None:
    with pytest.raises(TransformError, match="speckle"):
        multiply_by_gaussian(noise, std=std, noise_seed=1)
