import math

import numpy as np
import numpy.typing as npt
import pytest

from kaleidoscope.errors import TransformError
from kaleidoscope.model import BgrImage
from kaleidoscope.transforms._noise_field import RandomBits
from kaleidoscope.transforms.gauss_noise import (
    RAISE,
    GaussNoise,
    add_gaussian_noise,
    rounded_gaussian,
)

STDS = [0.3, 1 / 3, 1.0, math.sqrt(2), 2.55, 7.3, 25.5, 29.0, 31.0, 64.0, 112.2, 255.0]


def saturated_gaussian(mean: float, std: float) -> npt.NDArray[np.float64]:
    """Return the probability of every grey level of a Gaussian, rounded and saturated."""
    edges = (np.arange(257) - 0.5 - mean) / (std * math.sqrt(2))
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
@pytest.mark.parametrize("grey", [0, 3, 128, 255])
@pytest.mark.parametrize("std", STDS)
def test_values_are_distributed_as_a_rounded_gaussian(grey: int, std: float) -> None:
    image = np.full((65536, 1, 3), grey, dtype=np.uint8)
    result = add_gaussian_noise(image, std=std, noise_seed=1)
    shares = np.bincount(result.ravel(), minlength=256) / result.size
    total_variation = np.abs(shares - saturated_gaussian(grey, std)).sum() / 2
    assert total_variation < 0.002


@pytest.mark.parametrize("std", STDS)
def test_the_tails_reach_beyond_four_sigma(std: float) -> None:
    table = rounded_gaussian(std)
    levels = table.astype(int) - (RAISE if table.dtype == np.uint8 else 0)
    assert levels.max() >= math.floor(4 * std + 0.5)
    assert levels.min() == -levels.max()


def test_noise_has_the_strength_that_was_asked() -> None:
    grey = np.full((400, 400, 3), 128, dtype=np.uint8)
    noise = add_gaussian_noise(grey, std=10, noise_seed=3).astype(float) - 128
    assert abs(noise.mean()) < 4 * 10 / math.sqrt(noise.size)
    # Rounding adds a variance of 1/12.
    assert noise.std() == pytest.approx(math.sqrt(100 + 1 / 12), rel=0.005)
    channels = np.corrcoef(noise.reshape(-1, 3).T)
    assert np.abs(channels - np.eye(3)).max() < 4 / math.sqrt(160_000)


@pytest.mark.parametrize("grey", [0, 255])
def test_black_and_white_saturate(grey: int) -> None:
    image = np.full((50, 50, 3), grey, dtype=np.uint8)
    result = add_gaussian_noise(image, std=20, noise_seed=3).astype(int)
    assert np.abs(result - grey).max() < 5 * 20
    assert (result == grey).mean() == pytest.approx(0.5, abs=0.05)


def test_no_strength_is_the_identity(noise: BgrImage) -> None:
    np.testing.assert_array_equal(add_gaussian_noise(noise, std=0, noise_seed=1), noise)


def test_the_strength_is_drawn_as_a_share_of_white() -> None:
    drawn = GaussNoise(std_range=(0.1, 0.1)).sample(np.random.default_rng(1))
    assert drawn.std == pytest.approx(25.5)


@pytest.mark.parametrize("std", [-1, 256, float("nan")])
def test_a_strength_out_of_range_is_refused(noise: BgrImage, std: float) -> None:
    with pytest.raises(TransformError, match="noise"):
        add_gaussian_noise(noise, std=std, noise_seed=1)
