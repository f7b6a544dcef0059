import json
from datetime import timedelta
from pathlib import Path

import pytest

from kaleidoscope.errors import ManifestError
from kaleidoscope.lease import Holder, hold
from kaleidoscope.pipeline import StartOptions, run_shard
from kaleidoscope.status import read_status
from tests import data_sets
from tests.data_sets import NOW, Place

RECIPE = data_sets.recipe(steps=1, side=16)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return data_sets.local(
        tmp_path, {**data_sets.plain_images(4), "a/notes.jpg": b"no image", "a/empty.jpg": b""}
    )


def test_an_empty_destination_has_no_status(place: Place) -> None:
    with pytest.raises(ManifestError, match="there is no run in"):
        read_status(place.destination)


def test_a_run_on_its_way_is_counted_by_its_parts(place: Place) -> None:
    run = place.start(RECIPE, StartOptions(min_shards=3))
    for index in (0, 2):
        run_shard(place.source, place.destination, run, index, workers=1, now=NOW)
    found = read_status(place.destination)
    assert found.interrupted is not None
    assert (found.interrupted.num_parts, found.interrupted.num_shards) == (2, run.plan.num_shards)
    assert found.interrupted.num_outputs is None
    assert found.failures == {}


def test_a_committed_run_has_its_failures_by_reason_until_they_are_made_good(place: Place) -> None:
    place.run(RECIPE)
    found = read_status(place.destination)
    assert found.interrupted is None
    assert [run.state for run in found.runs] == ["committed"]
    assert found.runs[0].num_outputs == 8
    assert dict(found.failures) == {"not_an_image": 1, "empty": 1}
    assert json.loads(found.to_json())["failures"] == {"not_an_image": 1, "empty": 1}
    place.source.put("a/empty.jpg", data_sets.plain_images(9)["a/008.jpg"])
    place.run(RECIPE, now=NOW + timedelta(hours=1))
    found = read_status(place.destination)
    assert [run.state for run in found.runs] == ["committed", "committed"]
    assert dict(found.failures) == {"not_an_image": 1}


def test_who_is_at_work_is_named(place: Place) -> None:
    place.run(RECIPE)
    with hold(place.destination, Holder("1", "flow run nightly", "ada.example", NOW)):
        assert str(read_status(place.destination).holder).startswith("flow run nightly on ada")
    assert read_status(place.destination).holder is None
