"""Streams belong to names, and the numbers in them never change."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaleidoscope.seeding import DRAW_LIMIT, draw_seed, named_rng

NAMES = st.lists(st.text(max_size=8), max_size=5).map(tuple)


@given(NAMES)
def test_the_same_names_give_the_same_stream(names: tuple[str, ...]) -> None:
    assert np.array_equal(named_rng(*names).integers(2**63, size=4), _first_draws(*names))


@given(NAMES, NAMES)
def test_other_names_give_another_stream(left: tuple[str, ...], right: tuple[str, ...]) -> None:
    assert np.array_equal(_first_draws(*left), _first_draws(*right)) == (left == right)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (("a", "bc"), ("ab", "c")),
        (("ab",), ("a", "b")),
        (("a",), ("a", "")),
        (("1:a,",), ("a",)),
        (("a", "b"), ("b", "a")),
    ],
)
def test_names_do_not_run_into_each_other(left: tuple[str, ...], right: tuple[str, ...]) -> None:
    assert not np.array_equal(_first_draws(*left), _first_draws(*right))


def test_streams_do_not_depend_on_the_order_in_which_they_are_made() -> None:
    first, second = named_rng("a"), named_rng("b")
    interleaved = [int(rng.integers(2**63)) for rng in (second, first, first, second)]
    assert interleaved[1:3] == list(named_rng("a").integers(2**63, size=2))
    assert [interleaved[0], interleaved[3]] == list(named_rng("b").integers(2**63, size=2))


def test_numpys_own_global_state_plays_no_part() -> None:
    np.random.seed(1)  # noqa: NPY002 -- the legacy state is what is tested.
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    named_rng("a").random(100)
    assert np.random.random() == expected  # noqa: NPY002


def test_the_draws_are_those_of_every_release() -> None:
    # Written down from numpy 2.4; an upgrade that changes one changes every data set.
    rng = named_rng(7, "0a1b", "ac", "Rotate", 1)
    assert rng.uniform(-90, 90) == 14.438203322602803
    assert rng.integers(1000) == 546
    assert rng.normal() == -0.3349251659856229
    assert rng.permutation(6).tolist() == [2, 0, 1, 3, 4, 5]
    assert rng.choice(100, 4, replace=False).tolist() == [42, 0, 20, 35]


def test_a_number_is_named_by_its_digits() -> None:
    assert np.array_equal(_first_draws("a", 12), _first_draws("a", "12"))


@given(st.integers())
def test_a_drawn_seed_survives_a_float64(seed: int) -> None:
    drawn = draw_seed(named_rng(seed))
    assert 0 <= drawn < DRAW_LIMIT
    assert int(float(drawn)) == drawn


def test_drawn_seeds_use_the_whole_range() -> None:
    rng = named_rng("range")
    drawn = [draw_seed(rng) for _ in range(100)]
    assert min(drawn) < DRAW_LIMIT / 4
    assert max(drawn) > DRAW_LIMIT * 3 / 4
    assert len(set(drawn)) == len(drawn)


def _first_draws(*names: str | int) -> np.ndarray:
    return named_rng(*names).integers(2**63, size=4)
