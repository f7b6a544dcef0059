import math

import numpy as np
import pytest

from kaleidoscope.errors import TransformError
from kaleidoscope.transforms._noise_field import noise_source, normal_quantiles, random_indices


def normal_cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


def test_the_quantiles_are_those_of_the_standard_normal() -> None:
    quantiles = normal_quantiles().astype(float)
    shares = np.array([normal_cdf(x) for x in quantiles.tolist()])
    np.testing.assert_allclose(shares, (np.arange(65536) + 0.5) / 65536, atol=1e-7)
    assert quantiles.mean() == pytest.approx(0, abs=1e-9)
    assert quantiles.std() == pytest.approx(1, abs=1e-3)
    assert quantiles[-1] > 4.1


def test_the_quantiles_cannot_be_changed_by_a_user() -> None:
    with pytest.raises(ValueError, match="read-only"):
        normal_quantiles()[0] = 0


@pytest.mark.parametrize("shape", [(1, 3), (5, 7), (1, 1), (400, 1200)])
def test_a_seed_names_a_field(shape: tuple[int, int]) -> None:
    field = random_indices(shape, noise_seed=5)
    assert field.shape == shape
    assert field.dtype == np.uint16
    np.testing.assert_array_equal(field, random_indices(shape, noise_seed=5))


def test_the_field_of_a_seed_is_the_same_for_ever() -> None:
    # Replay depends on it: a change here needs a new version of every transform that uses it.
    assert random_indices((1, 5), noise_seed=2**53 - 1).tolist() == [
        [11528, 47281, 48881, 64620, 20228]
    ]


def test_indices_are_uniform() -> None:
    counts = np.bincount(random_indices((400, 1200), noise_seed=1).ravel() >> 8, minlength=256)
    expected = 480_000 / 256
    chi_squared = ((counts - expected) ** 2 / expected).sum()
    # 255 degrees of freedom: mean 255, standard deviation 22.6.
    assert abs(chi_squared - 255) < 4 * 22.6


@pytest.mark.parametrize("lag", [(0, 1), (0, 3), (1, 0), (1, 3)])
def test_neighbours_and_channels_are_not_correlated(lag: tuple[int, int]) -> None:
    field = random_indices((400, 1200), noise_seed=1).astype(float)
    rows, columns = lag
    first, second = field[rows:, columns:], field[: 400 - rows, : 1200 - columns]
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 4 / math.sqrt(first.size)


def test_neighbouring_seeds_have_nothing_in_common() -> None:
    first, second = (random_indices((400, 1200), noise_seed=seed).astype(float) for seed in (1, 2))
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 4 / math.sqrt(480_000)
    assert abs((first == second).sum() - 480_000 / 65536) < 5 * math.sqrt(480_000 / 65536)


@pytest.mark.parametrize("noise_seed", [-1, 2**53])
def test_a_seed_out_of_range_is_refused(noise_seed: int) -> None:
    with pytest.raises(TransformError, match="seed"):
        noise_source(noise_seed)
