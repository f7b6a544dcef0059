import math

import numpy as np
import pytest

from kaleidoscope.errors import TransformError
from kaleidoscope.transforms import _faint_noise
from kaleidoscope.transforms._faint_noise import add_faint_gaussian_noise, rounded_gaussian_pmf


def normal_cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


def test_the_probabilities_are_those_of_a_gaussian_of_variance_two() -> None:
    std = math.sqrt(2)
    wanted = [normal_cdf((k + 0.5) / std) - normal_cdf((k - 0.5) / std) for k in range(-8, 9)]
    np.testing.assert_allclose(rounded_gaussian_pmf(), wanted, atol=1e-8)


def test_the_binomial_and_what_it_lacks_make_the_gaussian() -> None:
    table, share = _faint_noise._what_the_binomial_lacks()
    binomial = np.zeros(17)
    binomial[4:13] = [math.comb(8, ones) / 256 for ones in range(9)]
    drawn = np.bincount(table, minlength=17) / table.size
    mixture = (1 - share) * binomial + share * drawn
    assert np.abs(mixture - rounded_gaussian_pmf()).sum() / 2 < 1e-5
    assert table.size == 65536
    assert share < 0.04


def test_drawn_noise_is_distributed_as_it_claims() -> None:
    grey = np.full((2000, 2000, 3), 128, dtype=np.uint8)
    noise = add_faint_gaussian_noise(grey, noise_seed=1).astype(int) - 128
    counts = np.bincount(noise.ravel() + 8, minlength=17)
    expected = rounded_gaussian_pmf() * grey.size
    common = expected > 50
    chi_squared = ((counts - expected)[common] ** 2 / expected[common]).sum()
    # 13 levels are common: 12 degrees of freedom, standard deviation 4.9.
    assert common.sum() == 13
    assert chi_squared < 12 + 5 * 4.9
    # Beyond 4 sigma, at 5.7 grey levels, lie 1 value in 10,000.
    tails = counts[:3].sum() + counts[-3:].sum()
    assert tails == pytest.approx(2 * normal_cdf(-5.5 / math.sqrt(2)) * grey.size, rel=0.15)


@pytest.mark.parametrize("lag", [1, 2, 3, 8, 64])
def test_neighbours_and_channels_are_not_correlated(lag: int) -> None:
    grey = np.full((400, 400, 3), 128, dtype=np.uint8)
    noise = add_faint_gaussian_noise(grey, noise_seed=1).astype(float).ravel()
    correlation = np.corrcoef(noise[lag:], noise[:-lag])[0, 1]
    assert abs(correlation) < 4 / math.sqrt(noise.size)


def test_neighbouring_seeds_have_nothing_in_common() -> None:
    grey = np.full((400, 400, 3), 128, dtype=np.uint8)
    first, second = (add_faint_gaussian_noise(grey, noise_seed=s).astype(float) for s in (1, 2))
    correlation = np.corrcoef(first.ravel(), second.ravel())[0, 1]
    assert abs(correlation) < 4 / math.sqrt(grey.size)


@pytest.mark.parametrize("grey", [0, 255])
def test_black_and_white_saturate(grey: int) -> None:
    image = np.full((200, 200, 3), grey, dtype=np.uint8)
    noise = np.abs(add_faint_gaussian_noise(image, noise_seed=3).astype(int) - grey)
    pmf = rounded_gaussian_pmf()
    assert noise.max() <= 8
    for level in range(1, 4):
        assert (noise == level).mean() == pytest.approx(pmf[8 + level], rel=0.05)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 3, 3), (5, 7, 3), (4, 4, 3)])
def test_small_images_have_noise_too(shape: tuple[int, int, int]) -> None:
    image = np.full(shape, 100, dtype=np.uint8)
    results = [add_faint_gaussian_noise(image, noise_seed=seed) for seed in range(20)]
    assert all(result.shape == shape for result in results)
    assert any((result != image).any() for result in results)


def test_a_seed_out_of_range_is_refused() -> None:
    with pytest.raises(TransformError, match="seed"):
        add_faint_gaussian_noise(np.zeros((2, 2, 3), np.uint8), noise_seed=-1)
