import io
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from kaleidoscope import pipeline
from kaleidoscope.errors import LeaseError, RunError, StoreError
from kaleidoscope.identity import source_id
from kaleidoscope.lease import Holder, Lease, hold
from kaleidoscope.lineage import Lineage, read_manifest
from kaleidoscope.pipeline import StartOptions
from kaleidoscope.pruning import Pruning, look, prune
from kaleidoscope.runs import RunKeys, list_runs
from kaleidoscope.stores import Store
from kaleidoscope.verification import VerifyOptions, verify
from tests import data_sets
from tests.data_sets import NOW, Place
from tests.faulty_stores import Action, WatchedStore

RECIPE = data_sets.recipe(steps=2, side=16)
LATER = NOW + timedelta(days=1)


def pruned(place: Place, destination: Store | None = None) -> Pruning:
    where = place.destination if destination is None else destination
    with hold(where, Holder("prune", "prune", "here", LATER), wait_s=0) as lease:
        return prune(place.source, where, now=LATER, lease=lease)


def is_whole(place: Place) -> bool:
    found = verify(place.destination, options=VerifyOptions(), open_source=lambda _: place.source)
    return found.is_whole


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Six sources, of which the first of each folder is gone since."""
    made = data_sets.of_each_kind(request, tmp_path, 6)
    made.run(RECIPE)
    made.source.delete(GONE)
    return made


GONE = ["a/000.jpg", "b/001.jpg"]


@pytest.fixture
def local(tmp_path: Path) -> Place:
    made = data_sets.local(tmp_path, data_sets.plain_images(6))
    made.run(RECIPE)
    made.source.delete(GONE)
    return made


def test_looking_says_what_would_go_and_writes_nothing(place: Place) -> None:
    before = list(place.destination.list_objects())
    found = look(place.source, place.destination)
    assert list(place.destination.list_objects()) == before
    assert found.sources == tuple(GONE)
    assert (found.num_sources, found.num_outputs, found.num_objects) == (2, 8, 8)
    assert not found.is_done
    assert json.loads(found.to_json())["size"] == sum(
        info.size for info in before if source_id("a/000.jpg")[:8] in info.key
    ) + sum(info.size for info in before if source_id("b/001.jpg")[:8] in info.key)


def test_a_prune_takes_rows_and_objects_and_nothing_else(place: Place) -> None:
    rows = read_manifest(place.destination)
    found = pruned(place)
    assert found.is_done
    assert found.num_objects == 8
    left = read_manifest(place.destination)
    assert set(left["source_key"]) == {info.key for info in place.source.list_objects()}
    expected = rows[~rows["source_key"].isin(GONE)]
    assert set(left["output_id"]) == set(expected["output_id"])
    assert place.output_keys() == set(expected["output_key"])
    assert is_whole(place)
    assert look(place.source, place.destination).is_empty


def test_pruning_again_has_nothing_to_do_and_records_nothing(local: Place) -> None:
    pruned(local)
    runs = list_runs(local.destination)
    again = pruned(local)
    assert again.is_empty
    assert again.run_id is None
    assert list_runs(local.destination) == runs


def test_a_source_that_comes_back_is_made_again_whole(local: Place) -> None:
    expected = read_manifest(local.destination).set_index("output_id")["sha256"].to_dict()
    pruned(local)
    data_sets.put_all(local.source, {key: data_sets.plain_images(6)[key] for key in GONE})
    report = local.run(RECIPE, now=LATER + timedelta(days=1))
    assert (report.num_sources, report.num_outputs, report.num_done) == (2, 8, 4)
    rows = read_manifest(local.destination).set_index("output_id")["sha256"].to_dict()
    assert rows == expected
    assert is_whole(local)
    assert look(local.source, local.destination).is_empty


def test_a_run_after_a_prune_does_nothing_and_counts_nothing_as_gone(local: Place) -> None:
    pruned(local)
    run = local.start(RECIPE, now=LATER + timedelta(days=1))
    assert (run.plan.num_shards, run.plan.num_done, run.plan.num_gone) == (0, 4, 0)


def test_outputs_of_a_replaced_source_that_failed_go(local: Place) -> None:
    local.source.put("a/002.jpg", b"no image any more")
    local.run(RECIPE, now=LATER)
    found = look(local.source, local.destination)
    assert (found.num_sources, found.num_outputs, found.num_objects) == (2, 8, 12)
    with hold(local.destination, Holder("p", "p", "h", LATER)) as lease:
        prune(local.source, local.destination, now=LATER + timedelta(days=1), lease=lease)
    left = read_manifest(local.destination)
    assert list(left.loc[left["status"] == "failed", "source_key"]) == ["a/002.jpg"]
    assert is_whole(local)


def test_outputs_that_were_made_again_stay(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, data_sets.plain_images(4))
    place.run(RECIPE)
    place.source.put("a/000.jpg", data_sets.plain_images(9)["a/008.jpg"])
    place.run(RECIPE, now=LATER)
    assert look(place.source, place.destination).is_empty
    with hold(place.destination, Holder("p", "p", "h", LATER)) as lease:
        prune(place.source, place.destination, now=LATER, lease=lease)
    assert len(place.output_keys()) == 16
    assert is_whole(place)


def test_the_failure_of_a_source_that_is_gone_goes_too(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, {**data_sets.plain_images(2), "a/empty.jpg": b""})
    place.run(RECIPE)
    place.source.delete(["a/empty.jpg"])
    found = pruned(place)
    assert (found.num_sources, found.num_outputs, found.num_objects) == (1, 0, 0)
    assert Lineage(place.destination).failures().empty
    assert set(read_manifest(place.destination)["status"]) == {"ok"}


def test_wherever_a_prune_dies_the_data_set_is_consistent_and_the_next_finishes(
    tmp_path: Path,
) -> None:
    expected: set[str] | None = None
    for deadline in range(1, 40):
        place = data_sets.local(tmp_path / str(deadline), data_sets.plain_images(6))
        place.run(RECIPE)
        place.source.delete(GONE)
        countdown: Iterator[int] = iter(range(deadline - 1))

        def die(action: Action, _key: str, countdown: Iterator[int] = countdown) -> None:
            if action in {"put", "create", "delete"} and next(countdown, None) is None:
                raise StoreError("killed")

        with hold(place.destination, Holder("p", "p", "h", LATER)) as lease:
            try:
                prune(
                    place.source,
                    WatchedStore(place.destination, before=die),
                    now=LATER,
                    lease=lease,
                )
            except StoreError:
                is_done = False
            else:
                is_done = True
        rows = read_manifest(place.destination)
        assert set(rows["output_key"]) <= place.output_keys()  # Never a row without its object.
        assert len(rows) in {16, 24}
        _finish(place)
        left = {str(key) for key in read_manifest(place.destination)["output_key"]}
        assert place.output_keys() == left
        expected = expected or left
        assert left == expected
        if is_done:
            assert deadline > 6
            return
    raise AssertionError("it never came to its end")


def _finish(place: Place) -> None:
    newest = list_runs(place.destination)[-1]
    if newest.is_planned and not newest.is_committed:
        with pytest.raises(RunError, match=r"has all its parts .* dry run, commits it first"):
            look(place.source, place.destination)
    pruned(place)
    assert look(place.source, place.destination).is_empty
    run = place.start(RECIPE, now=LATER + timedelta(hours=1))
    assert (run.plan.num_shards, run.plan.num_done, run.plan.num_gone) == (0, 4, 0)


def test_a_lost_lease_ends_a_prune_before_it_writes(
    local: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(_: Lease) -> None:
        raise LeaseError("taken over")

    monkeypatch.setattr(Lease, "check", lost)
    before = local.output_keys()
    with pytest.raises(LeaseError):
        pruned(local)
    assert local.output_keys() == before
    assert len(list_runs(local.destination)) == 1


def test_sources_that_are_all_gone_are_a_wrong_place(local: Place) -> None:
    local.source.delete([info.key for info in local.source.list_objects()])
    with pytest.raises(RunError, match="no source at all"):
        look(local.source, local.destination)


def test_photographs_behind_a_link_that_leads_nowhere_are_not_taken_for_gone(
    tmp_path: Path,
) -> None:
    made = data_sets.local(tmp_path, data_sets.plain_images(2))
    disk = data_sets.local(tmp_path / "disk", {"c.jpg": data_sets.plain_images(3)["a/002.jpg"]})
    (tmp_path / "source/disk").symlink_to(disk.source.uri)
    made.run(RECIPE)
    (tmp_path / "disk/source").rename(tmp_path / "disk/away")
    with pytest.raises(RunError, match=r"1 links under .* lead nowhere"):
        look(made.source, made.destination)
    (tmp_path / "source/disk").unlink()
    assert look(made.source, made.destination).num_sources == 1


def test_a_run_that_is_not_finished_comes_first(local: Place) -> None:
    local.source.put("a/new.jpg", data_sets.plain_images(9)["a/008.jpg"])
    local.start(RECIPE, now=LATER)
    with pytest.raises(RunError, match="kaleidoscope retry"):
        look(local.source, local.destination)
    with pytest.raises(RunError, match="kaleidoscope retry"):
        pruned(local)


def test_a_tar_goes_with_its_last_member_and_not_before(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, data_sets.plain_images(6))
    recipe = data_sets.recipe(steps=2, side=16, output={"container": "webdataset"})
    place.run(recipe, StartOptions(min_shards=3))
    rows = read_manifest(place.destination)
    tars = rows.groupby("tar_key")["source_key"].agg(lambda keys: sorted(set(keys)))
    assert sorted(map(len, tars)) == [2, 2, 2]
    emptied, thinned = tars.index[0], tars.index[1]
    place.source.delete([*tars[emptied], tars[thinned][0]])
    found = look(place.source, place.destination)
    assert (found.num_sources, found.num_outputs) == (3, 12)
    assert found.objects == (emptied,)
    assert found.num_kept_in_tars == 4
    pruned(place)
    assert place.output_keys() == {*tars.index[1:]}
    assert len(read_manifest(place.destination)) == 12
    assert is_whole(place)
    assert look(place.source, place.destination).num_objects == 0


def test_the_row_of_a_source_that_is_taken_out_has_its_label_from_the_table(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, data_sets.plain_images(3))
    place.source.put("labels.csv", b"file_name,label,age\na/000.jpg,rex,8\na/002.jpg,tim,9\n")
    place.run(data_sets.recipe(steps=1, side=16, targets={"labels": "labels.csv"}))
    place.source.delete(["a/000.jpg", "b/001.jpg"])
    run_id = pruned(place).run_id
    assert run_id is not None
    (file,) = place.destination.list_objects(RunKeys(run_id).manifest)
    rows = pq.read_table(io.BytesIO(place.destination.get(file.key).data)).to_pylist()
    told = [(row["source_key"], row["label"], row["attributes"]) for row in rows]
    assert told == [("a/000.jpg", "rex", '{"age":"8"}'), ("b/001.jpg", None, None)]
    assert is_whole(place)


def test_what_a_killed_run_made_of_a_source_that_went_away_or_failed_goes(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, data_sets.plain_images(6))
    run = place.start(RECIPE)
    for index in range(run.plan.num_shards):
        pipeline.run_shard(place.source, place.destination, run, index, workers=1, now=NOW)
    # As if it had been killed after its last image, and before its first part.
    place.destination.delete([info.key for info in place.destination.list_objects(run.keys.parts)])
    gone, broken = GONE
    place.source.delete([gone])
    place.source.put(broken, b"no image")
    assert place.run(RECIPE).num_failed == 2
    assert len(place.output_keys()) == 24
    found = pruned(place)
    assert found.sources == (gone,)
    assert (found.num_outputs, found.num_objects) == (0, 8)
    data_sets.check_whole(place)
