"""The same sources and recipe make the same bytes, whoever does it and in whatever order."""

import hashlib
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from kaleidoscope import pipeline
from kaleidoscope.errors import StoreError
from kaleidoscope.pipeline import StartOptions
from kaleidoscope.recipe import Recipe
from kaleidoscope.replay import replay
from kaleidoscope.settings import Settings
from kaleidoscope.stores import S3Credentials, S3Store, open_store
from tests import data_sets
from tests.data_sets import MANY_SHARDS, NOW, Place
from tests.faulty_stores import DownFrom, WatchedStore

RECIPE = data_sets.recipe()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = data_sets.local(tmp_path_factory.mktemp("undisturbed"), data_sets.odd_images())
    place.run(RECIPE, StartOptions(), workers=1)
    return place


def in_tiny_shards_reversed(place: Place) -> None:
    place.run(RECIPE, MANY_SHARDS, workers=4, order=lambda shards: reversed(list(shards)))


def every_shard_twice(place: Place) -> None:
    run = place.start(RECIPE, StartOptions(min_shards=3))
    for index in [2, 0, 1]:
        for _ in range(2):
            pipeline.run_shard(place.source, place.destination, run, index, workers=2, now=NOW)
            part = run.keys.part(index)
            place.destination.delete([part])
        pipeline.run_shard(place.source, place.destination, run, index, workers=3, now=NOW)
    pipeline.commit_run(place.destination, run, now=NOW)


def resumed_when_the_store_came_back(place: Place) -> None:
    broken = Place(place.source, WatchedStore(place.destination, before=DownFrom(50)))
    with pytest.raises(StoreError, match="is down"):
        broken.run(RECIPE, workers=3)
    place.run(RECIPE)


def in_two_runs(place: Place) -> None:
    later = "top.png"
    data = place.source.get(later).data
    place.source.delete([later])
    place.run(RECIPE)
    place.source.put(later, data)
    place.run(RECIPE, StartOptions(), now=NOW + timedelta(days=1))


@pytest.mark.parametrize(
    "way",
    [
        in_tiny_shards_reversed,
        every_shard_twice,
        resumed_when_the_store_came_back,
        in_two_runs,
    ],
)
def test_every_way_makes_the_same_bytes_and_rows(
    undisturbed: Place, tmp_path: Path, way: Callable[[Place], None]
) -> None:
    place = data_sets.local(tmp_path, data_sets.odd_images())
    way(place)
    data_sets.check_whole(place)
    assert data_sets.outputs(place) == data_sets.outputs(undisturbed)
    assert data_sets.facts(place) == data_sets.facts(undisturbed)


def test_s3_gets_the_same_bytes_and_rows_as_a_folder(
    undisturbed: Place, s3_uri: str, s3_settings: Settings, s3_credentials: S3Credentials
) -> None:
    source, destination = (
        open_store(f"{s3_uri}/{name}", settings=s3_settings, credentials=s3_credentials)
        for name in ("source", "destination")
    )
    assert isinstance(destination, S3Store)
    place = Place(source, destination)
    data_sets.put_all(source, data_sets.odd_images())
    place.run(RECIPE, StartOptions(min_shards=4))
    data_sets.check_whole(place)
    assert data_sets.outputs(place) == data_sets.outputs(undisturbed)
    assert data_sets.facts(place) == data_sets.facts(undisturbed)


def test_every_source_has_an_output_for_each_subset_of_the_steps(undisturbed: Place) -> None:
    rows = undisturbed.rows()
    nodes = rows.groupby("source_key")["node"].agg(set)
    assert set(nodes.index) == set(data_sets.odd_images())
    assert all(found == {"root", "a", "b", "c", "ab", "ac", "bc", "abc"} for found in nodes)


def test_no_two_outputs_of_a_source_are_the_same(undisturbed: Place) -> None:
    assert undisturbed.rows()["sha256"].is_unique


def test_rows_lead_from_every_output_to_its_root_and_its_source(undisturbed: Place) -> None:
    rows = undisturbed.rows().set_index("output_id")
    images = data_sets.odd_images()
    for _, row in rows.iterrows():
        data = images[row["source_key"]]
        assert row["source_sha256"] == hashlib.sha256(data).hexdigest()
        assert row["source_etag"] == undisturbed.source.head(row["source_key"]).etag
        ops = json.loads(row["ops"])
        assert len(ops) == row["depth"] + 1
        assert (ops[-1]["op"], ops[-1]["params"]) == (row["op"], json.loads(row["params"]))
        if row["node"] == "root":
            assert row[["parent_id"]].isna().all()
            continue
        parent = rows.loc[row["parent_id"]]
        assert parent["source_id"] == row["source_id"]
        assert json.loads(parent["ops"]) == ops[:-1]


def test_the_columns_that_every_output_has_are_filled(undisturbed: Place) -> None:
    rows = undisturbed.rows()
    # Tars, tables of labels, masks and boxes come with their own columns, splits and flow runs are
    # not asked for here, a root has no parent, a source at the top no label, a folder no versions.
    tar = {"tar_key", "offset", "length"}
    targets = {n for n in map(str, rows) if "mask" in n or n.startswith("objects")}
    empty = {"split", *tar, *targets, "attributes", "flow_run_id", "source_version_id"}
    sometimes = {"parent_id", "label"}
    failures = {"error_type", "error_message"}
    assert {name for name in rows if rows[name].isna().all()} == empty | failures
    assert {name for name in rows if rows[name].isna().any()} == empty | failures | sometimes
    assert set(rows["label"].dropna()) >= {"dogs", "big", "Hündinnen", "buildings"}
    assert set(rows["seed"]) == {RECIPE.seed}
    assert set(rows["recipe_digest"]) == {RECIPE.digest}


VARIED = {
    "all formats out, nothing cropped": {
        "output": {"format": "source"},
        "normalize": {"mode": "fit", "side": 24},
    },
    "as large as the source": {"output": {"format": "webp"}, "normalize": {"mode": "none"}},
    "a sample in shuffled order": {
        "order": "shuffled",
        "select": {"max_outputs_per_source": 3},
        "output": {"format": "png"},
    },
    "copies": {
        "transforms": [{"name": "HorizontalFlip"}, {"name": "Noise", "copies": 2}],
        "select": {"keep_original": False},
    },
}


@pytest.mark.parametrize("fields", VARIED.values(), ids=list(VARIED))
def test_replaying_a_row_gives_the_bytes_of_its_output(
    tmp_path: Path, fields: dict[str, object]
) -> None:
    place = data_sets.local(tmp_path, data_sets.odd_images())
    varied = Recipe.from_mapping({**data_sets.recipe().model_dump(mode="json"), **fields})
    place.run(varied, StartOptions())
    data_sets.check_whole(place)
    for _, row in place.rows().iterrows():
        data = replay(row, place.source.get(row["source_key"]).data)
        assert hashlib.sha256(data).hexdigest() == row["sha256"], row["output_key"]
