import hashlib
import json
from typing import Any

import pytest

from kaleidoscope.errors import ManifestError, NotAnImageError, TransformError
from kaleidoscope.lineage import read_manifest
from kaleidoscope.replay import replay
from kaleidoscope.transforms import TRANSFORMS
from tests import data_sets, image_files
from tests.data_sets import Place

RECIPE = data_sets.recipe(steps=2, side=16)
DATA = image_files.opencv(".jpg", image_files.picture(51, 37))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return data_sets.run_twice(tmp_path_factory.mktemp("two runs"), RECIPE, DATA)


def row_of(place: Place, **changes: Any) -> dict[str, Any]:
    rows = place.rows()
    row = rows[(rows["source_key"] == "a.jpg") & (rows["node"] == "ab")].iloc[0]
    return {**{str(name): value for name, value in row.items()}, **changes}


def test_a_replay_needs_four_columns_and_gives_the_output(place: Place) -> None:
    columns = ["status", "source_sha256", "ops", "encoding", "sha256", "source_key"]
    rows = read_manifest(place.destination, columns=columns)
    for _, row in rows[rows["status"] == "ok"].iterrows():
        data = replay(row, place.source.get(row["source_key"]).data)
        assert hashlib.sha256(data).hexdigest() == row["sha256"]


def test_a_replay_does_not_depend_on_what_is_drawn_today(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for transform in TRANSFORMS.values():
        monkeypatch.setattr(transform, "sample", None)
    row = row_of(place)
    assert hashlib.sha256(replay(row, DATA)).hexdigest() == row["sha256"]


def test_a_replay_takes_rows_of_before_png_had_its_own_encoder(place: Place) -> None:
    row = row_of(place)
    encoding = json.dumps(json.loads(row["encoding"]) | {"png_level": 1})
    again = replay({**row, "encoding": encoding}, DATA)
    assert hashlib.sha256(again).hexdigest() == row["sha256"]


def test_a_replay_refuses_a_source_that_changed(place: Place) -> None:
    with pytest.raises(ManifestError, match="the source has changed"):
        replay(row_of(place), DATA + b"\0")


def test_a_replay_refuses_the_row_of_a_failed_source(place: Place) -> None:
    rows = place.rows()
    [failed] = rows.index[rows["status"] == "failed"]
    with pytest.raises(ManifestError, match="failed"):
        replay(rows.loc[failed], b"")


def versioned(place: Place, index: int) -> str:
    ops = json.loads(row_of(place)["ops"])
    ops[index]["version"] += 1
    return json.dumps(ops)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_replay_refuses_operations_of_another_version(place: Place, index: int) -> None:
    with pytest.raises(TransformError, match="replay it with the Kaleidoscope release"):
        replay(row_of(place, ops=versioned(place, index)), DATA)


@pytest.mark.parametrize(
    "changes",
    [
        {"ops": "[]"},
        {"ops": "{"},
        {"ops": None},
        {"ops": '[{"op":"normalize"}]'},
        {"ops": '["normalize"]'},
        {"encoding": "[]"},
        {"encoding": '"jpeg"'},
        {"encoding": '{"colour":1}'},
        {"encoding": None},
    ],
)
def test_a_replay_of_a_damaged_row_is_a_clear_error(place: Place, changes: dict[str, Any]) -> None:
    with pytest.raises(ManifestError, match="ops or encoding cannot be read"):
        replay(row_of(place, **changes), DATA)


def test_a_replay_of_what_is_no_image_says_so(place: Place) -> None:
    row = row_of(place, source_sha256=hashlib.sha256(b"text").hexdigest())
    with pytest.raises(NotAnImageError):
        replay(row, b"text")
