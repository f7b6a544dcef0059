from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pandas as pd
import pytest

from kaleidoscope import pipeline
from kaleidoscope.errors import (
    ManifestError,
    ObjectMissingError,
    PlanError,
    RunError,
    TransformError,
)
from kaleidoscope.manifest import sources_from_parquet
from kaleidoscope.model import BgrImage
from kaleidoscope.pipeline import StartOptions
from kaleidoscope.runs import Report, RunKeys, list_runs, load_run
from kaleidoscope.stores import LocalStore
from kaleidoscope.transforms.contrast import ContrastScaled
from kaleidoscope.verification import VerifyOptions, verify
from tests import data_sets, image_files
from tests.data_sets import MANY_SHARDS, NOW, Place
from tests.faulty_stores import WRITES, Requests, WatchedStore

RECIPE = data_sets.recipe(steps=2, side=16)
DAY = timedelta(days=1)
RETRY = replace(MANY_SHARDS, retry_failed=True)
ONE = image_files.opencv(".jpg", image_files.picture(51, 37))
OTHER = image_files.opencv(".jpg", image_files.picture(37, 51))


def watched(place: Place) -> tuple[Place, Requests]:
    requests = Requests()
    return Place(place.source, WatchedStore(place.destination, before=requests)), requests


def rows_of(place: Place, key: str) -> pd.DataFrame:
    rows = place.rows()
    return rows[rows["source_key"] == key]


def same_as_at_once(place: Place, images: Mapping[str, bytes], folder: Path) -> None:
    """However it came about, it is what one run of these sources makes."""
    at_once = data_sets.local(folder, images)
    at_once.run(RECIPE)
    assert data_sets.facts(place) == data_sets.facts(at_once)
    assert data_sets.outputs(place) == data_sets.outputs(at_once)
    data_sets.check_whole(place)


def test_a_plan_counts_what_a_run_then_does_and_writes_nothing(tmp_path: Path) -> None:
    images = {**data_sets.plain_images(5), "notes.txt": b"x"}
    place = data_sets.local(tmp_path, images)
    plan = pipeline.make_plan(place.source, place.destination, RECIPE, options=MANY_SHARDS)
    assert not (tmp_path / "destination").exists()
    assert (plan.num_sources, plan.num_done, plan.num_shards) == (5, 0, 5)
    assert plan == pipeline.make_plan(place.source, None, RECIPE, options=MANY_SHARDS)
    watching, requests = watched(place)
    report = watching.run(RECIPE)
    assert report.num_outputs == plan.num_outputs == 20
    assert report.source_bytes == plan.source_bytes
    assert len(requests.keys(*WRITES)) == plan.num_puts


def test_a_second_run_has_nothing_to_do_and_writes_nothing(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, data_sets.plain_images(4))
    first = place.run(RECIPE)
    watching, requests = watched(place)
    assert watching.run(RECIPE, now=NOW + DAY) == first
    assert requests.keys(*WRITES) == []
    plan = pipeline.make_plan(place.source, place.destination, RECIPE, options=MANY_SHARDS)
    assert (plan.num_sources, plan.num_done, plan.num_shards) == (0, 4, 0)


def test_only_new_sources_are_done(tmp_path: Path) -> None:
    images = dict(data_sets.plain_images(4))
    place = data_sets.local(tmp_path / "grown", images)
    place.run(RECIPE)
    new = {"0-first.jpg": ONE, "a/001x.jpg": OTHER, "z/last.jpg": ONE}
    data_sets.put_all(place.source, new)
    watching, requests = watched(place)
    report = watching.run(RECIPE, now=NOW + DAY)
    assert report.num_sources == 3
    written = [key for key in requests.keys("put") if not key.startswith("_kaleidoscope/")]
    assert len(written) == 3 * 4
    same_as_at_once(place, {**images, **new}, tmp_path / "at once")


def test_a_changed_source_is_done_again_and_its_old_rows_are_gone(tmp_path: Path) -> None:
    images = {"a.jpg": ONE, "b.jpg": OTHER}
    place = data_sets.local(tmp_path / "changed", images)
    place.run(RECIPE)
    images["b.jpg"] = ONE
    place.source.put("b.jpg", ONE)
    assert place.run(RECIPE, now=NOW + DAY).num_sources == 1
    same_as_at_once(place, images, tmp_path / "at once")
    assert len(set(rows_of(place, "b.jpg")["run_id"])) == 1


def test_a_changed_source_that_fails_takes_its_old_rows_with_it(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, {"a.jpg": ONE, "b.jpg": OTHER})
    place.run(RECIPE)
    place.source.put("b.jpg", b"no image")
    place.run(RECIPE, now=NOW + DAY)
    assert list(rows_of(place, "b.jpg")["status"]) == ["failed"]
    assert list(rows_of(place, "a.jpg")["status"]) == ["ok"] * 4


def test_a_sample_of_a_changed_source_leaves_no_row_of_the_one_before(tmp_path: Path) -> None:
    sampled = data_sets.recipe(side=16, select={"max_outputs_per_source": 2})
    place = data_sets.local(tmp_path, {"a.jpg": ONE})
    for number in range(6):
        place.source.put("a.jpg", image_files.opencv(".jpg", image_files.picture(30 + number, 30)))
        place.run(sampled, now=NOW + number * DAY)
        assert len(place.rows()) == 2
        assert len(set(place.rows()["source_sha256"])) == 1


def test_a_failed_source_is_done_again_only_if_asked_or_changed(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path / "repaired", {"a.jpg": ONE, "b.jpg": b"no image"})
    assert place.run(RECIPE).num_failed == 1
    assert place.start(RECIPE, now=NOW + DAY).plan.num_sources == 0
    again = place.run(RECIPE, RETRY, now=NOW + DAY)
    assert (again.num_sources, again.num_failed) == (1, 1)
    assert len(rows_of(place, "b.jpg")) == 1
    place.source.put("b.jpg", OTHER)
    assert place.run(RECIPE, now=NOW + 2 * DAY).num_failed == 0
    assert place.start(RECIPE, RETRY, now=NOW + 3 * DAY).plan.num_sources == 0
    same_as_at_once(place, {"a.jpg": ONE, "b.jpg": OTHER}, tmp_path / "at once")


def test_a_source_that_fails_twice_has_one_failure_the_newer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = data_sets.local(tmp_path, {"a.jpg": ONE})
    good = ContrastScaled.apply
    will_fail = iter([False, True, True])  # Node ab and then b; later ab.

    def fail(operation: ContrastScaled, image: BgrImage) -> BgrImage:
        if next(will_fail):
            raise TransformError("no")
        contrasted: BgrImage = good(operation, image)
        return contrasted

    monkeypatch.setattr(ContrastScaled, "apply", fail)
    place.run(RECIPE)
    assert list(place.rows()["node"]) == ["root", "a", "ab", "b"]
    place.run(RECIPE, RETRY, now=NOW + DAY)
    rows = place.rows()
    assert list(rows["node"]) == ["root", "a", "ab"]
    assert list(rows["status"]) == ["ok", "ok", "failed"]


def test_a_source_that_failed_half_way_and_is_restored_is_done_again_if_asked(
    tmp_path: Path,
) -> None:
    """An earlier run did this very file, but the failed one may have written over its outputs."""
    place = data_sets.local(tmp_path, {"a.jpg": ONE})
    place.run(RECIPE)
    saved = tmp_path / "saved.jpg"
    (tmp_path / "source" / "a.jpg").rename(saved)
    place.source.put("a.jpg", b"no image")
    place.run(RECIPE, now=NOW + DAY)
    saved.rename(tmp_path / "source" / "a.jpg")
    assert place.run(RECIPE, RETRY, now=NOW + 2 * DAY).num_outputs == 4
    data_sets.check_whole(place)


def test_a_removed_source_keeps_its_rows(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, {"a.jpg": ONE, "b.jpg": OTHER})
    place.run(RECIPE)
    place.source.delete(["a.jpg"])
    place.source.put("c.jpg", ONE)
    place.run(RECIPE, now=NOW + DAY)
    assert set(place.rows()["source_key"]) == {"a.jpg", "b.jpg", "c.jpg"}
    data_sets.check_whole(place)


def test_a_destination_inside_the_source_is_no_source_of_later_runs(tmp_path: Path) -> None:
    source = LocalStore(tmp_path)
    place = Place(source, LocalStore(tmp_path / "augmented"))
    data_sets.put_all(source, data_sets.plain_images(2))
    place.run(RECIPE)
    plan = pipeline.make_plan(source, place.destination, RECIPE, options=MANY_SHARDS)
    assert (plan.num_sources, plan.num_done) == (0, 2)
    data_sets.check_whole(place)


def test_another_data_set_inside_the_source_is_refused(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, data_sets.plain_images(2))
    Place(place.source, LocalStore(tmp_path / "source" / "made")).run(RECIPE)
    with pytest.raises(PlanError, match=r"source/made is a data set that was made below"):
        place.start(RECIPE)
    assert list(place.destination.list_objects()) == []
    # Its own, it leaves out.
    Place(place.source, LocalStore(tmp_path / "source" / "made")).run(RECIPE)


def test_a_data_set_is_no_source(tmp_path: Path) -> None:
    """Images of one photograph would be taken for photographs of their own, and splits leak."""
    place = data_sets.local(tmp_path, data_sets.plain_images(2))
    place.run(RECIPE)
    onwards = Place(place.destination, LocalStore(tmp_path / "onwards"))
    with pytest.raises(PlanError, match="is a data set itself"):
        onwards.run(RECIPE)
    assert list(onwards.destination.list_objects()) == []


def test_a_source_inside_the_destination_is_refused(tmp_path: Path) -> None:
    place = Place(LocalStore(tmp_path / "photos"), LocalStore(tmp_path))
    data_sets.put_all(place.source, {"a.jpg": ONE})
    with pytest.raises(PlanError, match="must not be the destination"):
        place.run(RECIPE)


def test_another_recipe_or_source_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, {"a.jpg": ONE})
    place.run(RECIPE)
    elsewhere = data_sets.local(tmp_path / "elsewhere", {"a.jpg": ONE})
    watching, requests = watched(place)
    for other, made in [
        (watching, data_sets.recipe(steps=2, side=16, seed=8)),
        (Place(elsewhere.source, watching.destination), RECIPE),
    ]:
        with pytest.raises(PlanError, match="Choose another destination"):
            other.run(made)
        with pytest.raises(PlanError, match="Choose another destination"):
            pipeline.make_plan(other.source, other.destination, made, options=MANY_SHARDS)
    assert requests.keys(*WRITES) == []


def test_limits_may_change_between_runs(tmp_path: Path) -> None:
    small = data_sets.recipe(steps=2, side=16, limits={"max_pixels": 1000})
    place = data_sets.local(tmp_path, {"a.jpg": ONE})
    report = place.run(small)
    assert report.failures == {"too_large": 1}
    assert place.run(RECIPE, RETRY, now=NOW + DAY).num_outputs == 4


def test_without_an_image_there_is_no_plan_and_the_reason_is_told(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, {"a.txt": b"x", "b.csv": b"x"})
    with pytest.raises(PlanError, match=r"no image under .*2 no image by extension"):
        place.run(RECIPE)
    assert list_runs(place.destination) == ()
    with pytest.raises(ObjectMissingError):
        Place(LocalStore(tmp_path / "typo"), place.destination).run(RECIPE)


def test_an_interrupted_run_goes_on_with_its_own_shards(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, data_sets.plain_images(4))
    run = place.start(RECIPE, StartOptions(min_shards=2))
    pipeline.run_shard(place.source, place.destination, run, 1, workers=1, now=NOW)
    assert place.start(RECIPE, MANY_SHARDS, NOW + DAY) == run
    assert pipeline.pending_shards(place.destination, run) == (0,)
    watching, requests = watched(place)
    report = watching.run(RECIPE, MANY_SHARDS, now=NOW + DAY)
    assert report.run_id == run.run_id
    assert report.elapsed_s == DAY.total_seconds()
    outputs = [key for key in requests.keys("put") if not key.startswith("_kaleidoscope/")]
    assert len(outputs) == 2 * 4


def problems(place: Place) -> Mapping[str, int]:
    found = verify(place.destination, options=VerifyOptions(), open_source=lambda _: place.source)
    return found.num_problems


def test_clocks_that_differ_between_machines_make_no_contradiction(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, {"a.jpg": ONE})
    place.run(RECIPE, now=NOW + timedelta(minutes=2))
    place.source.put("a.jpg", OTHER)
    place.run(RECIPE, now=NOW)
    same_as_at_once(place, {"a.jpg": OTHER}, tmp_path / "at once")


@pytest.mark.parametrize("container", ["files", "webdataset"])
def test_a_run_of_a_shard_that_was_given_up_and_goes_on_changes_nothing_that_is_committed(
    tmp_path: Path, container: str
) -> None:
    made = data_sets.recipe(steps=2, side=16, output={"container": container})
    place = data_sets.local(tmp_path, {"a.jpg": ONE, "b.jpg": ONE, "c.jpg": ONE})
    run = place.start(made, StartOptions())
    reports: list[Report] = []

    def come_late(action: str, key: str) -> None:
        if (action, key) == ("get", "a.jpg") and not reports:
            reports.append(place.run(made, StartOptions()))
            place.source.put("b.jpg", OTHER)

    late = WatchedStore(place.source, before=come_late)
    stats = pipeline.run_shard(late, place.destination, run, 0, workers=1, now=NOW)
    assert (stats.num_outputs, stats.num_sources) == (reports[0].num_outputs, 3)
    if container == "webdataset":
        assert problems(place) == {"source_changed": 1}
    # The next run sees that a source is not what the committed one read.
    assert place.run(made, StartOptions(), now=NOW + DAY).num_sources == 1
    assert problems(place) == {}


def test_a_run_with_shards_to_do_is_not_committed(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, data_sets.plain_images(30))
    run = place.start(RECIPE)
    pipeline.run_shard(place.source, place.destination, run, 0, workers=1, now=NOW)
    with pytest.raises(RunError, match=r"29 of 30 shards are not done \(1, 2, .*10, …\)"):
        pipeline.commit_run(place.destination, run, now=NOW)
    with pytest.raises(ManifestError, match="no run is committed"):
        place.rows()


def test_a_commit_is_done_once(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, data_sets.plain_images(2))
    report = place.run(RECIPE)
    run = load_run(place.destination, report.run_id)
    watching, requests = watched(place)
    again = pipeline.commit_run(watching.destination, run, now=NOW + DAY)
    assert again == report
    assert requests.keys(*WRITES) == []


def test_data_come_first_and_the_marks_last(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, data_sets.plain_images(2))
    done = Requests()
    store = WatchedStore(place.destination, after=done)
    report = Place(place.source, store).run(RECIPE)
    keys, writes = RunKeys(report.run_id), done.keys(*WRITES)
    assert writes[0] == keys.request
    assert writes[1:4] == [keys.shard(0), keys.shard(1), keys.plan]
    first, second = writes.index(keys.part(0)), writes.index(keys.part(1))
    assert all(key.startswith("a/000-") for key in writes[4:first])
    assert all(key.startswith("b/001-") for key in writes[first + 1 : second])
    assert writes[second + 1 :] == [keys.manifest_file(0), keys.report, keys.success]


def test_a_damaged_part_stops_the_commit(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, data_sets.plain_images(2))
    run = place.start(RECIPE)
    for index in range(2):
        pipeline.run_shard(place.source, place.destination, run, index, workers=1, now=NOW)
    part = place.destination.get(run.keys.part(1)).data
    place.destination.put(run.keys.part(1), part[:-100])
    with pytest.raises(ManifestError, match="parquet"):
        pipeline.commit_run(place.destination, run, now=NOW)
    assert not list_runs(place.destination)[0].is_committed
    # What to do then: without it the shard is not done.
    place.destination.delete([run.keys.part(1)])
    place.run(RECIPE)
    data_sets.check_whole(place)


def test_runs_are_named_by_the_time_in_utc(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, data_sets.plain_images(1))
    now = datetime(2026, 7, 1, 1, 30, 0, 999_999, tzinfo=timezone(timedelta(hours=2)))
    assert place.start(RECIPE, now=now).run_id == f"20260630T233000Z-{RECIPE.digest[:8]}"


def test_a_folder_among_the_runs_that_is_none_disturbs_nothing(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, data_sets.plain_images(1))
    place.destination.put(f"{RunKeys('zzz').folder}recipe.json", b"not even read")
    place.destination.put(f"{RunKeys('notes').folder}readme.txt", b"")
    assert place.run(RECIPE).num_outputs == 4


def test_the_flow_run_is_in_every_row(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, {"a.jpg": ONE, "b.jpg": b""})
    run = place.start(RECIPE, StartOptions())
    pipeline.run_shard(
        place.source, place.destination, run, 0, workers=1, now=NOW, flow_run_id="flow-7"
    )
    pipeline.commit_run(place.destination, run, now=NOW)
    rows = place.rows()
    assert set(rows["flow_run_id"]) == {"flow-7"}
    assert set(rows["run_id"]) == {run.run_id}
    assert set(rows["created_at"]) == {pd.Timestamp(NOW)}


@pytest.mark.parametrize("num_measured", [1, 2, 100])
def test_sources_that_are_measured_first_are_still_in_the_plan_once(
    tmp_path: Path, num_measured: int
) -> None:
    place = data_sets.local(tmp_path, data_sets.plain_images(5))
    options = StartOptions(min_shards=2, num_measured=num_measured)
    run = pipeline.start_run(place.source, place.destination, RECIPE, now=NOW, options=options)
    planned = [
        source.info.key
        for index in range(run.plan.num_shards)
        for source in sources_from_parquet(place.destination.get(run.keys.shard(index)).data)
    ]
    assert planned == [info.key for info in place.source.list_objects()]
