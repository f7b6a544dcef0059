from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from kaleidoscope.errors import ManifestError
from kaleidoscope.lineage import Lineage
from kaleidoscope.pipeline import StartOptions
from kaleidoscope.replay import replay
from tests import data_sets
from tests.data_sets import Place

RECIPE = data_sets.recipe(steps=3, side=16)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = data_sets.local(tmp_path_factory.mktemp("walks"), data_sets.plain_images(6))
    place.run(RECIPE, StartOptions())
    return place


@pytest.fixture(scope="module")
def lineage(place: Place) -> Lineage:
    return Lineage(place.destination)


@pytest.fixture(scope="module")
def node_ac(lineage: Lineage) -> "pd.Series[Any]":
    return lineage.to_pandas(filter=[("source_key", "=", "a/002.jpg"), ("node", "=", "ac")]).iloc[0]


def test_an_output_is_found_by_key_uri_id_or_a_part_of_its_row(
    lineage: Lineage, node_ac: "pd.Series[Any]"
) -> None:
    uri = f"{lineage.store.uri}/{node_ac['output_key']}"
    for name in [node_ac["output_key"], uri, node_ac["output_id"], node_ac[["output_id"]]]:
        pd.testing.assert_series_equal(lineage.find(name), node_ac, check_names=False)


@pytest.mark.parametrize(
    "name", ["a/002-00000000-ac.jpg", "0123456789abcdef-ac", "0123456789abcdef", ""]
)
def test_an_output_that_nobody_made_is_a_clear_error(lineage: Lineage, name: str) -> None:
    with pytest.raises(ManifestError, match="no committed run in"):
        lineage.find(name)


def test_an_id_of_a_known_source_and_an_unknown_node_is_a_clear_error(
    lineage: Lineage, node_ac: "pd.Series[Any]"
) -> None:
    with pytest.raises(ManifestError, match=f"made {node_ac['source_id']}-z"):
        lineage.find(f"{node_ac['source_id']}-z")


def test_parents_children_and_siblings_are_those_of_the_tree(
    lineage: Lineage, node_ac: "pd.Series[Any]"
) -> None:
    parent = lineage.parent(node_ac["output_key"])
    assert parent is not None
    assert (parent["source_key"], parent["node"]) == ("a/002.jpg", "a")
    assert sorted(lineage.children(parent)["node"]) == ["ab", "ac"]
    assert lineage.children(node_ac).empty
    root = lineage.parent(parent)
    assert root is not None
    assert root["node"] == "root"
    assert lineage.parent(root) is None
    siblings = lineage.siblings(node_ac)
    assert set(siblings["node"]) == {"root", "a", "b", "c", "ab", "bc", "abc"}
    assert set(siblings["source_key"]) == {"a/002.jpg"}
    family = lineage.from_source("a/002.jpg", columns=["node"])
    assert sorted(family["node"]) == sorted([*siblings["node"], "ac"])
    assert lineage.from_source("a/unknown.jpg").empty


def test_every_child_names_its_parent_and_every_parent_its_children(lineage: Lineage) -> None:
    rows = lineage.to_pandas()
    for _, row in rows.iterrows():
        for _, child in lineage.children(row).iterrows():
            again = lineage.parent(child)
            assert again is not None
            assert again["output_id"] == row["output_id"]
    assert rows["parent_id"].dropna().isin(rows["output_id"]).all()


def test_a_parent_that_was_not_kept_is_none(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, data_sets.plain_images(1))
    made = data_sets.recipe(steps=2, side=16, select={"include": ["ab"], "keep_original": False})
    place.run(made, StartOptions())
    [output] = place.rows()["output_id"]
    assert Lineage(place.destination).parent(output) is None


def test_a_chain_names_each_step_back_to_the_source(
    place: Place, lineage: Lineage, node_ac: "pd.Series[Any]"
) -> None:
    chain = lineage.chain(node_ac["output_key"])
    assert [step.op for step in chain] == ["normalize", "Rotate", "Noise"]
    assert chain == lineage.chain(node_ac)
    parent = lineage.parent(node_ac)
    assert parent is not None
    assert chain[:-1] == lineage.chain(parent)
    assert "angle_deg" in chain[1].params
    data = replay(node_ac, place.source.get(node_ac["source_key"]).data)
    assert data == place.destination.get(node_ac["output_key"]).data


@pytest.mark.parametrize("ops", ["{", None, '["normalize"]', '[{"op":"a"}]'])
def test_a_damaged_chain_is_a_clear_error(
    lineage: Lineage, node_ac: "pd.Series[Any]", ops: str | None
) -> None:
    damaged = node_ac.copy()
    damaged["ops"] = ops
    with pytest.raises(ManifestError, match="cannot be read"):
        lineage.chain(damaged)


def test_outputs_are_found_by_what_made_them(lineage: Lineage) -> None:
    assert set(lineage.made_by("Rotate")["node"]) == {"a"}
    assert set(lineage.made_by("Rotate", anywhere=True)["node"]) == {"a", "ab", "ac", "abc"}
    assert set(lineage.made_by("Noise", columns=["node"])["node"]) == {"c", "ac", "bc", "abc"}
    assert lineage.made_by("Speckle").empty
    assert lineage.made_by("Rotate", {"angle_deg": (400, 500)}).empty


@pytest.mark.parametrize(
    ("op", "where", "message"),
    [
        ("Rot", None, "no transform is called so; there are .*Rotate"),
        ("Rotate", {"angle": (-10, 10)}, "no parameter 'angle'; it has angle_deg"),
    ],
)
@pytest.mark.parametrize("anywhere", [True, False])
def test_a_misspelt_name_is_told_from_nothing_found(
    lineage: Lineage,
    op: str,
    where: dict[str, tuple[float, float]] | None,
    message: str,
    anywhere: bool,  # noqa: FBT001
) -> None:
    with pytest.raises(ManifestError, match=message):
        lineage.made_by(op, where, anywhere=anywhere)


@pytest.mark.parametrize("anywhere", [True, False])
def test_outputs_are_found_by_a_range_of_a_parameter(
    lineage: Lineage,
    anywhere: bool,  # noqa: FBT001
) -> None:
    rows = lineage.made_by("Rotate", anywhere=anywhere)
    angles = [lineage.chain(row)[1].params["angle_deg"] for _, row in rows.iterrows()]
    low, high = sorted(set(angles))[1], sorted(set(angles))[-2]
    found = lineage.made_by("Rotate", {"angle_deg": (low, high)}, anywhere=anywhere)
    expected = rows[[low <= angle <= high for angle in angles]]
    pd.testing.assert_frame_equal(found, expected.reset_index(drop=True))
    assert 0 < len(found) < len(rows)
    [first] = {angles[0]}
    exact = lineage.made_by("Rotate", {"angle_deg": first}, columns=["source_key"])
    assert list(exact["source_key"]) == [rows["source_key"].iloc[0]]
