import io
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from kaleidoscope.card import write_card
from kaleidoscope.identity import METADATA_KEY
from kaleidoscope.metadata import COLUMNS
from tests import data_sets
from tests.data_sets import NOW, Place

RECIPE = data_sets.recipe(steps=2, side=16)


def table_of(place: Place) -> pd.DataFrame:
    return pd.read_parquet(io.BytesIO(place.destination.get(METADATA_KEY).data))


def test_the_table_has_a_row_for_each_output_with_its_lineage(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, {**data_sets.plain_images(6), "a/broken.jpg": b"no image"})
    place.run(RECIPE)
    write_card(place.destination)
    table, rows = table_of(place), place.rows().query("status == 'ok'")
    assert list(table.columns) == ["file_name", *COLUMNS[1:]]
    for column in ("label", "node", "params", "source_id", "sha256", "width"):
        assert table[column].tolist() == rows[column].tolist()
    assert set(table["file_name"]) == place.output_keys()


def test_the_table_is_merged_over_runs(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, data_sets.plain_images(4))
    place.run(RECIPE)
    for key, data in data_sets.plain_images(6).items():
        place.source.put(key, data + b"later")
    place.run(RECIPE, now=NOW + timedelta(days=1))
    write_card(place.destination)
    table = table_of(place)
    assert len(table) == 24
    assert table["file_name"].is_unique
    assert len(set(table["run_id"])) == 1  # All sources had changed.


def test_too_many_images_have_no_table_and_lose_an_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = data_sets.local(tmp_path, data_sets.plain_images(2))
    place.run(RECIPE)
    assert "load_dataset" in write_card(place.destination)
    monkeypatch.setattr("kaleidoscope.card._publishing.MAX_ROWS", 7)
    assert "load_dataset" not in write_card(place.destination)
    assert METADATA_KEY not in {info.key for info in place.destination.list_objects()}


def test_the_table_is_compressed_in_groups_as_it_comes(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, data_sets.plain_images(2))
    place.run(RECIPE)
    write_card(place.destination)
    file = pq.ParquetFile(io.BytesIO(place.destination.get(METADATA_KEY).data))
    assert file.metadata.num_rows == 8
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"
