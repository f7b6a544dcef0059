import hashlib
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaleidoscope.errors import SplitError
from kaleidoscope.identity import output_key, source_id
from kaleidoscope.splits import (
    Shares,
    SplitLeakError,
    assign_splits,
    audit_names,
    audit_split,
    group_alike,
)

SHARES = Shares(0.8, 0.1, 0.1)

shares = st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(1, 20)).map(
    lambda parts: Shares(*(part / sum(parts) for part in parts))
)
source_lists = st.lists(
    st.tuples(st.text("abcdefgh", min_size=1, max_size=4), st.sampled_from(["cat", "dog", None])),
    max_size=40,
    unique_by=lambda pair: pair[0],
)


def table(sources: list[tuple[str, Any]], run: int = 0) -> pd.DataFrame:
    ids = [source_id(name) for name, _ in sources]
    strata = pd.array([stratum for _, stratum in sources], dtype="str")
    return pd.DataFrame({"source_id": ids, "run": run, "stratum": strata, "group": ids})


def by_id(sources: pd.DataFrame, how: Shares, **options: Any) -> dict[str, str]:
    splits = assign_splits(sources, how, **options)
    return dict(zip(sources["source_id"], splits, strict=True))


@settings(max_examples=40)
@given(source_lists, source_lists, shares, st.integers(0, 9), st.booleans())
def test_sources_that_later_runs_add_change_no_assignment(
    first: list[tuple[str, Any]],
    more: list[tuple[str, Any]],
    how: Shares,
    seed: int,
    by_stratum: bool,  # noqa: FBT001
) -> None:
    known = {name for name, _ in first}
    before = table(first)
    added = table([pair for pair in more if pair[0] not in known], run=1)
    after = pd.concat([added, before], ignore_index=True)
    options = {"seed": seed, "by_stratum": by_stratum}
    assert by_id(before, how, **options).items() <= by_id(after, how, **options).items()


@settings(max_examples=40)
@given(source_lists, source_lists, shares)
def test_without_strata_an_assignment_depends_on_nothing_else(
    first: list[tuple[str, Any]], others: list[tuple[str, Any]], how: Shares
) -> None:
    known = {name for name, _ in first}
    both = table([*[pair for pair in others if pair[0] not in known], *first])
    alone = by_id(table(first, run=3), how, seed=1, by_stratum=False)
    assert alone.items() <= by_id(both, how, seed=1, by_stratum=False).items()


@settings(max_examples=40)
@given(source_lists, st.randoms(use_true_random=False), shares)
def test_the_order_of_the_sources_does_not_matter(
    sources: list[tuple[str, Any]], random: Any, how: Shares
) -> None:
    shuffled = list(sources)
    random.shuffle(shuffled)
    assert by_id(table(sources), how, seed=1) == by_id(table(shuffled), how, seed=1)


@pytest.mark.parametrize("count", [1, 10, 100, 1_000, 10_000])
@pytest.mark.parametrize("seed", range(5))
def test_each_stratum_gets_its_shares_to_within_three_sources(count: int, seed: int) -> None:
    sources = table([(f"{label}{i}", label) for label in ["cat", "dog"] for i in range(count)])
    splits = assign_splits(sources, SHARES, seed=seed)
    for label in ["cat", "dog"]:
        found = splits[sources["stratum"] == label].value_counts()
        for name, share in [("train", 0.8), ("val", 0.1), ("test", 0.1)]:
            assert abs(found.get(name, 0) - share * count) <= 3


def test_many_small_strata_have_the_shares_together() -> None:
    sources = table([(f"{label}/{i}", str(label)) for label in range(500) for i in range(4)])
    found = assign_splits(sources, SHARES, seed=3).value_counts(normalize=True)
    assert found["val"] == pytest.approx(0.1, abs=0.02)
    assert found["test"] == pytest.approx(0.1, abs=0.02)


@settings(max_examples=40)
@given(source_lists)
def test_a_split_without_a_share_stays_empty(sources: list[tuple[str, Any]]) -> None:
    for how in [Shares(0.7, 0.3, 0), Shares(1, 0, 0), Shares(0, 1, 0), Shares(0.3, 0, 0.7)]:
        found = set(assign_splits(table(sources), how, seed=0))
        assert found <= {n for n in ("train", "val", "test") if getattr(how, n)}


def test_other_seeds_give_other_splits() -> None:
    sources = table([(str(i), None) for i in range(100)])
    for by_stratum in [True, False]:
        first, second = (
            assign_splits(sources, SHARES, seed=seed, by_stratum=by_stratum) for seed in (0, 1)
        )
        assert (first != second).any()


def test_a_group_gets_one_split() -> None:
    sources = table([(str(i), None) for i in range(100)])
    sources["group"] = sources["source_id"].to_numpy()[np.arange(100) // 10 * 10]
    splits = assign_splits(sources, Shares(0.4, 0.3, 0.3), seed=0)
    assert splits.groupby(sources["group"]).nunique().max() == 1
    assert splits.nunique() == 3


likenesses = st.integers(1, 12).flatmap(
    lambda count: st.tuples(
        st.lists(st.integers(0, 3), min_size=count, max_size=count),
        st.lists(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), max_size=12),
    )
)


def arrived(runs: list[int]) -> pd.DataFrame:
    ids = [source_id(str(position)) for position in range(len(runs))]
    return pd.DataFrame({"source_id": ids, "run": runs})


@given(likenesses)
def test_sources_of_one_run_that_are_joined_are_one_group(
    likeness: tuple[list[int], list[tuple[int, int]]],
) -> None:
    runs, pairs = likeness
    groups = list(group_alike(arrived([0] * len(runs)), pairs))
    reached = [{position} for position in range(len(runs))]
    for _ in runs:
        for one, other in pairs:
            reached[one] |= reached[other]
            reached[other] |= reached[one]
    for one, other in itertools.combinations(range(len(runs)), 2):
        assert (groups[one] == groups[other]) == (other in reached[one])


@given(likenesses)
def test_a_source_never_leaves_its_group(
    likeness: tuple[list[int], list[tuple[int, int]]],
) -> None:
    runs, pairs = likeness
    sources = arrived(runs)
    final = group_alike(sources, pairs)
    for run in set(runs):
        before = sources[sources["run"] <= run]
        place = {position: i for i, position in enumerate(before.index)}
        known = [(place[a], place[b]) for a, b in pairs if a in place and b in place]
        assert list(group_alike(before, known)) == list(final[before.index])


@given(likenesses)
def test_who_is_like_one_earlier_group_joins_it(
    likeness: tuple[list[int], list[tuple[int, int]]],
) -> None:
    runs, pairs = likeness
    newcomer = len(runs)
    sources = arrived([*runs, 9])
    for position in range(len(runs)):
        groups = list(group_alike(sources, [*pairs, (newcomer, position)]))
        assert groups[newcomer] == groups[position] or len(set(runs)) > 1
        assert groups[newcomer] in groups[:newcomer]


@pytest.mark.parametrize("parts", [(0.8, 0.1, 0.2), (1.1, -0.1, 0), (float("nan"), 0.5, 0.5)])
def test_shares_that_are_no_shares_are_refused(parts: tuple[float, float, float]) -> None:
    with pytest.raises(SplitError, match="add up to 1; got"):
        Shares(*parts)


def outputs(num_sources: int, nodes: tuple[str, ...] = ("root", "a", "ab", "a2b1")) -> pd.DataFrame:
    rows = [
        {
            "source_id": source_id(f"cats/{i}.jpg"),
            "output_key": output_key(f"cats/{i}.jpg", node, ".jpg"),
            "node": node,
            "split": ["train", "val", "test"][i % 3],
        }
        for i in range(num_sources)
        for node in nodes
    ]
    return pd.DataFrame(rows)


@given(st.data(), st.integers(1, 12), st.sampled_from(["source_id", "output_key", "file_name"]))
def test_an_audit_finds_any_row_that_strayed(data: st.DataObject, count: int, named: str) -> None:
    rows = outputs(count)
    if named != "source_id":
        rows = rows.drop(columns="source_id").rename(columns={"output_key": named})
    audit_split(rows)
    stray = data.draw(st.integers(0, len(rows) - 1))
    others = [name for name in ("train", "val", "test") if name != rows.loc[stray, "split"]]
    rows.loc[stray, "split"] = data.draw(st.sampled_from(others))
    with pytest.raises(SplitLeakError, match="outputs of 1 sources are in more than one") as caught:
        audit_split(rows)
    first = stray // 4 * 4
    assert sorted(caught.value.rows.index) == list(range(first, first + 4))


@given(st.data(), st.integers(1, 12))
def test_an_audit_finds_any_file_in_another_folder(data: st.DataObject, count: int) -> None:
    rows = outputs(count)
    names = list(rows["split"] + "/" + rows["output_key"])
    audit_names([*names, "_kaleidoscope/runs/x/report.json"])
    stray = data.draw(st.integers(0, len(names) - 1))
    split, _, rest = names[stray].partition("/")
    names[stray] = f"{'val' if split != 'val' else 'train'}/elsewhere/{rest}"
    with pytest.raises(SplitLeakError) as caught:
        audit_names(names)
    assert names[stray] in list(caught.value.rows["path"])
    assert len(caught.value.rows) == 4


TORN = ("train/x-1f3a9c2b-a.jpg", "val/x-1f3a9c2b-b.jpg")


@pytest.mark.parametrize("write", [lambda name: f"./{name}", lambda name: name.replace("/", "\\")])
def test_an_audit_finds_a_leak_however_paths_are_written(write: Callable[[str], str]) -> None:
    names = [write(name) for name in TORN]
    with pytest.raises(SplitLeakError, match="in train, val") as caught:
        audit_names(names)
    assert list(caught.value.rows["path"]) == names
    with pytest.raises(SplitLeakError, match="in train, val"):
        audit_split(pd.DataFrame({"path": names, "split": ["train", "val"]}))


@pytest.mark.parametrize("folder", ["/data/", "C:\\data\\", "s3://bucket/", "../", "train/../../"])
def test_a_name_of_which_no_folder_is_known_to_be_the_split_is_refused(folder: str) -> None:
    with pytest.raises(SplitError, match="relative to the folder of the splits"):
        audit_names([f"{folder}{name}" for name in TORN])


def test_an_audit_finds_copies_of_one_source() -> None:
    rows = outputs(9)
    rows["source_sha256"] = rows["source_id"] * 4
    audit_split(rows)
    rows["source_sha256"] = rows["source_sha256"].where(
        ~rows["source_id"].isin([source_id("cats/2.jpg"), source_id("cats/4.jpg")]), "copied"
    )
    with pytest.raises(SplitLeakError, match=r"1 contents, each of several .*copied in test, val"):
        audit_split(rows)


def test_rows_without_a_split_are_left_aside() -> None:
    rows = outputs(3)
    rows.loc[1:2, "split"] = None
    audit_split(rows)


def test_an_audit_refuses_augmented_images_where_originals_are_wanted() -> None:
    rows = outputs(3)
    with pytest.raises(SplitLeakError, match="6 augmented images are in val, test") as caught:
        audit_split(rows, originals_only=("val", "test"))
    assert set(caught.value.rows["node"]) == {"a", "ab", "a2b1"}
    audit_split(rows[rows["split"].eq("train") | rows["node"].eq("root")], originals_only=["val"])


def test_what_cannot_be_audited_is_refused() -> None:
    rows = outputs(2)
    with pytest.raises(SplitError, match="no column 'fold' to audit"):
        audit_split(rows, column="fold")
    for nothing in (rows.iloc[:0], rows.assign(split=None)):
        with pytest.raises(SplitError, match="no row has a split in 'split'"):
            audit_split(nothing)
    with pytest.raises(SplitError, match="no row has a split"):
        audit_names([])
    with pytest.raises(SplitError, match="to tell sources by"):
        audit_split(rows[["node", "split"]])
    with pytest.raises(SplitError, match=r"for example 'train/cat\.jpg'"):
        audit_names(["train/cat.jpg"])
    with pytest.raises(SplitError, match="first folder of a name; there is none in"):
        audit_names(["cat-1f3a9c2b-ac.jpg"])


def test_assignments_are_the_same_on_every_machine() -> None:
    sources = table([(str(i), "ab"[i % 2]) for i in range(1_000)])
    text = ",".join(assign_splits(sources, SHARES, seed=0))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "e7ea4ff6c913f1e3"
