import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaleidoscope.errors import TransformError
from kaleidoscope.model import BgrImage
from kaleidoscope.transforms.salt_and_pepper import SaltAndPepper, strew_salt_and_pepper

NUM_VALUES = 400 * 400 * 3


@pytest.mark.parametrize(
    ("salt", "pepper"), [(0.01, 0.01), (0.05, 0.0), (0.0, 0.05), (0.25, 0.25), (0.5, 0.0)]
)
def test_values_are_hit_with_the_probability_that_was_asked(salt: float, pepper: float) -> None:
    grey = np.full((400, 400, 3), 128, dtype=np.uint8)
    result = strew_salt_and_pepper(grey, salt=salt, pepper=pepper, noise_seed=1)
    for level, share in ((255, salt), (0, pepper)):
        # Independent hits are binomial.
        deviation = math.sqrt(share * (1 - share) / NUM_VALUES)
        assert abs((result == level).mean() - share) <= 4 * deviation
    assert ((result == 0) | (result == 128) | (result == 255)).all()


def test_the_number_of_hits_varies_as_independent_ones_do() -> None:
    grey = np.full((20, 20, 3), 128, dtype=np.uint8)
    counts = [
        (strew_salt_and_pepper(grey, salt=0.2, pepper=0.2, noise_seed=seed) != 128).sum()
        for seed in range(2000)
    ]
    assert np.mean(counts) == pytest.approx(1200 * 0.4, rel=0.01)
    assert np.var(counts) == pytest.approx(1200 * 0.4 * 0.6, rel=0.15)


def test_hits_do_not_prefer_a_channel_or_a_row() -> None:
    grey = np.full((400, 400, 3), 128, dtype=np.uint8)
    hit = strew_salt_and_pepper(grey, salt=0.1, pepper=0.1, noise_seed=1) != 128
    for axes, size in (((0, 1), 160_000), ((1, 2), 1200), ((0, 2), 1200)):
        deviation = math.sqrt(0.2 * 0.8 / size)
        assert np.abs(hit.mean(axis=axes) - 0.2).max() < 5 * deviation


def test_no_amount_is_the_identity(noise: BgrImage) -> None:
    result = strew_salt_and_pepper(noise, salt=0, pepper=0, noise_seed=1)
    np.testing.assert_array_equal(result, noise)


@given(seed=st.integers(0, 2**32))
def test_amounts_are_drawn_from_their_ranges(seed: int) -> None:
    transform = SaltAndPepper(amount=(0.1, 0.2), salt_vs_pepper=(0.25, 0.75))
    drawn = transform.sample(np.random.default_rng(seed))
    amount = drawn.salt + drawn.pepper
    assert 0.1 <= amount <= 0.2 + 1e-12
    assert 0.25 - 1e-12 <= drawn.salt / amount <= 0.75 + 1e-12


@pytest.mark.parametrize(("salt", "pepper"), [(-0.1, 0), (0.6, 0), (0.3, 0.3), (0, float("nan"))])
def test_an_amount_out_of_range_is_refused(noise: BgrImage, salt: float, pepper: float) -> None:
    with pytest.raises(TransformError, match="probability"):
        strew_salt_and_pepper(noise, salt=salt, pepper=pepper, noise_seed=1)
