import math
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest

from kaleidoscope.errors import TransformError
from kaleidoscope.transforms._noise_field import (
    BLOCK_SIZE,
    POOL_SIZE,
    RandomBits,
    normal_quantiles,
)


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


def field_of(noise_seed: int) -> npt.NDArray[np.float64]:
    """Return the indices of a 400 x 400 colour image, between -1 and 1."""
    return RandomBits(noise_seed).take_indices((400, 1200)) / 32767.5 - 1


@pytest.mark.parametrize("shape", [(1, 3), (5, 7), (1, 1), (400, 1200)])
def test_a_seed_names_a_field(shape: tuple[int, int]) -> None:
    field = RandomBits(5).take_indices(shape)
    assert field.shape == shape
    assert field.dtype == np.uint16
    np.testing.assert_array_equal(field, RandomBits(5).take_indices(shape))


def test_the_bits_of_a_seed_are_the_same_for_ever() -> None:
    # Replay depends on it: a change here needs a new version of every transform that uses it.
    bits = RandomBits(2**53 - 1)
    assert bits.take_indices((1, 5)).tolist() == [[21985, 24257, 43243, 11199, 25015]]
    assert bits.take(BLOCK_SIZE + 3)[-5:].tolist() == [46, 1, 51, 185, 200]
    assert bits.take_hits(1000, 0.005).tolist() == [86, 419, 489, 287, 427, 689, 686, 93, 531]


def test_a_stream_goes_on() -> None:
    bits = RandomBits(7)
    assert bits.take(0).size == 0
    first, second = bits.take(100), bits.take(100)
    assert (first != second).any()


def test_indices_are_uniform() -> None:
    counts = np.bincount(RandomBits(1).take_indices((480_000,)) >> 8, minlength=256)
    expected = 480_000 / 256
    chi_squared = ((counts - expected) ** 2 / expected).sum()
    # 255 degrees of freedom: mean 255, standard deviation 22.6.
    assert abs(chi_squared - 255) < 4 * 22.6


@pytest.mark.parametrize("lag", [(0, 1), (0, 3), (1, 0), (1, 3)])
def test_neighbours_and_channels_are_not_correlated(lag: tuple[int, int]) -> None:
    field = field_of(1)
    rows, columns = lag
    first, second = field[rows:, columns:], field[: 400 - rows, : 1200 - columns]
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 4 / math.sqrt(first.size)


@pytest.mark.parametrize(("first", "second"), [(1, 1), (1, 2), (2, 3), (1, 2**52)])
def test_fields_have_nothing_in_common_however_they_are_moved(first: int, second: int) -> None:
    # Stretches of the same pools lie in both: here a bank of ready noise would fail.
    spectra = np.fft.rfft(field_of(first).ravel()) * np.fft.rfft(field_of(second).ravel()).conj()
    correlations = np.fft.irfft(spectra) / (480_000 / 3)
    if first == second:
        assert correlations[0] == pytest.approx(1, abs=0.01)
        correlations[0] = 0
    assert np.abs(correlations).max() < 6 / math.sqrt(480_000)


def test_fields_are_made_of_the_same_pools_and_still_differ_in_half_of_their_bits() -> None:
    fields = [RandomBits(seed).take(100_000) for seed in range(300)]
    shares = [
        np.bitwise_count(one ^ other).sum() / (8 * one.size) for one, other in pairwise(fields)
    ]
    deviation = 0.5 / math.sqrt(800_000)
    assert np.abs(np.array(shares) - 0.5).max() < 5 * deviation


def test_a_field_may_be_larger_than_the_pools() -> None:
    bits = RandomBits(1).take(3 * POOL_SIZE + 5)
    counts = np.bincount(bits, minlength=256)
    expected = bits.size / 256
    # The pools together have fewer bytes than the field, so their own deviations would show.
    assert abs(((counts - expected) ** 2 / expected).sum() - 255) < 4 * 22.6
    blocks = bits[: 3 * POOL_SIZE].reshape(-1, BLOCK_SIZE)
    assert len({block.tobytes() for block in blocks}) == len(blocks)


def test_hits_fall_everywhere_alike() -> None:
    hits = RandomBits(3).take_hits(1000, 1 - math.exp(-30))  # A mean of 30 for each value.
    counts = np.bincount(hits, minlength=1000)
    assert counts.size == 1000
    chi_squared = ((counts - counts.mean()) ** 2 / counts.mean()).sum()
    # 999 degrees of freedom: standard deviation 44.7.
    assert abs(chi_squared - 999) < 4 * 44.7


def test_nothing_is_hit_with_probability_zero() -> None:
    assert RandomBits(3).take_hits(1000, 0).size == 0


@pytest.mark.parametrize("noise_seed", [-1, 2**53])
def test_a_seed_out_of_range_is_refused(noise_seed: int) -> None:
    with pytest.raises(TransformError, match="seed"):
        RandomBits(noise_seed)
