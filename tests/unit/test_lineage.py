from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest

from kaleidoscope.errors import ManifestError
from kaleidoscope.lineage import read_manifest
from kaleidoscope.manifest import SCHEMA
from kaleidoscope.pipeline import StartOptions
from kaleidoscope.runs import RunKeys
from kaleidoscope.stores import LocalStore
from tests import data_sets, image_files
from tests.data_sets import NOW, Place

RECIPE = data_sets.recipe(steps=2, side=16)
DATA = image_files.opencv(".jpg", image_files.picture(51, 37))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Two runs: two sources, then one of them repaired and another that fails."""
    place = data_sets.local(tmp_path_factory.mktemp("two runs"), {"a.jpg": DATA, "b.jpg": b"x"})
    place.run(RECIPE)
    place.source.put("b.jpg", DATA + b"after the end")
    place.source.put("c.jpg", b"")
    place.run(RECIPE, now=NOW + timedelta(days=1))
    return place


def test_a_manifest_has_all_columns_in_order_by_default(place: Place) -> None:
    rows = place.rows()
    assert list(rows.columns) == SCHEMA.names
    assert list(rows.index) == list(range(len(rows)))
    assert rows.groupby("source_key")["status"].agg(list).to_dict() == {
        "a.jpg": ["ok"] * 4,
        "b.jpg": ["ok"] * 4,
        "c.jpg": ["failed"],
    }


@pytest.mark.parametrize(
    "columns", [["output_key", "label"], ["status"], ["sha256", "output_id"], []]
)
def test_columns_that_are_asked_for_come_in_that_order(place: Place, columns: list[str]) -> None:
    rows = read_manifest(place.destination, columns=columns)
    assert list(rows.columns) == columns
    assert len(rows) == 9
    pd.testing.assert_frame_equal(rows, place.rows()[columns])


def test_whole_numbers_stay_whole_beside_missing_ones(place: Place) -> None:
    rows = place.rows()
    assert rows["width"].isna().any()
    assert list(rows["source_width"])[:4] == [51] * 4
    assert {str(rows[name].dtype) for name in ("width", "size", "depth")} == {
        "Int32",
        "Int64",
        "Int8",
    }


def test_an_unknown_column_is_refused_with_those_that_exist(place: Place) -> None:
    with pytest.raises(ManifestError, match=r"no columns \['colour'\].*'output_key'"):
        read_manifest(place.destination, columns=["output_key", "colour"])


def test_a_destination_without_a_committed_run_is_refused(tmp_path: Path) -> None:
    started = data_sets.local(tmp_path, {"a.jpg": DATA})
    for _ in range(2):
        with pytest.raises(ManifestError, match="no run is committed in"):
            started.rows()
        started.start(RECIPE)


def test_a_cut_missing_or_foreign_manifest_is_an_error_that_names_it(tmp_path: Path) -> None:
    damaged = data_sets.local(tmp_path, {"a.jpg": DATA})
    report = damaged.run(RECIPE, StartOptions())
    key = RunKeys(report.run_id).manifest_file(0)
    whole = damaged.destination.get(key).data
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 0xFF
    foreign = LocalStore(tmp_path / "source").get("a.jpg").data
    for data in [whole[:0], whole[:50], whole[:-1], bytes(flipped), foreign]:
        damaged.destination.put(key, data)
        with pytest.raises(ManifestError, match="cannot be read") as caught:
            damaged.rows()
        assert key in str(caught.value)
    damaged.destination.delete([key])
    with pytest.raises(ManifestError, match="its manifest is missing"):
        damaged.rows()
