import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaleidoscope.errors import LoaderError
from kaleidoscope.loaders import BalancedSampler, balanced_weights

ROWS = pd.DataFrame(
    {
        "label": ["cat"] * 6 + ["dog"] * 2,
        "source_id": ["a"] * 4 + ["b"] * 2 + ["c", "c"],
    }
)


def weight_of(weights: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]", by: str) -> list[float]:
    return pd.Series(weights).groupby(ROWS[by]).sum().round(9).tolist()


def test_classes_become_equally_likely() -> None:
    assert weight_of(balanced_weights(ROWS, "label"), "label") == [0.5, 0.5]


def test_sources_become_equally_likely() -> None:
    assert weight_of(balanced_weights(ROWS, "source_id"), "source_id") == pytest.approx([1 / 3] * 3)


def test_sources_become_equally_likely_within_equally_likely_classes() -> None:
    weights = balanced_weights(ROWS, ["label", "source_id"])
    assert weight_of(weights, "label") == [0.5, 0.5]
    assert weight_of(weights, "source_id") == [0.25, 0.25, 0.5]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")), min_size=1))
def test_weights_are_positive_and_every_group_has_the_same(pairs: list[tuple[str, str]]) -> None:
    rows = pd.DataFrame(pairs, columns=["label", "source_id"])
    weights = balanced_weights(rows, ["label", "source_id"])
    assert (weights > 0).all()
    assert weights.sum() == pytest.approx(1)
    totals = pd.Series(weights).groupby(rows["label"]).sum()
    assert np.allclose(totals, 1 / rows["label"].nunique())


def test_rows_without_a_label_are_a_group() -> None:
    rows = pd.DataFrame({"label": ["cat", "cat", None]})
    assert balanced_weights(rows).tolist() == [0.25, 0.25, 0.5]


def test_an_epoch_is_drawn_again_by_its_seed_and_number() -> None:
    sampler = BalancedSampler(ROWS, seed=5, num_samples=100)
    first = list(sampler)
    assert (len(first), len(sampler)) == (100, 100)
    assert list(BalancedSampler(ROWS, seed=5, num_samples=100)) == first
    second = list(sampler)
    assert second != first
    sampler.set_epoch(0)
    assert [list(sampler), list(sampler)] == [first, second]
    sampler.set_epoch(1)
    assert next(iter(sampler)) == second[0]
    assert list(sampler) not in (first, second)


def test_an_epoch_is_as_long_as_the_rows_by_default() -> None:
    numbers = list(BalancedSampler(ROWS, seed=0))
    assert len(numbers) == 8
    assert set(numbers) <= set(range(8))


def test_an_unknown_column_and_no_rows_are_refused() -> None:
    with pytest.raises(LoaderError, match="no column 'colour'"):
        balanced_weights(ROWS, "colour")
    with pytest.raises(LoaderError, match="0 rows"):
        balanced_weights(ROWS.head(0))
