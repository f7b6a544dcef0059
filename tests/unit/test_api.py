import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

import kaleidoscope as kd
from kaleidoscope import api
from kaleidoscope.errors import (
    LeaseError,
    ManifestError,
    ObjectMissingError,
    PlanError,
    RecipeError,
    SettingsError,
)
from kaleidoscope.lease import LEASE_KEY, Holder, hold
from kaleidoscope.manifest import ShardStats
from kaleidoscope.runs import Report, Run, list_runs
from kaleidoscope.settings import Settings
from kaleidoscope.stores import LocalStore, S3Credentials, open_store
from tests import data_sets
from tests.data_sets import Place

RECIPE = data_sets.recipe(steps=2, side=16)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return data_sets.local(tmp_path, data_sets.plain_images(6))


def kd_run(place: Place, **options: object) -> Report:
    return kd.run(place.source.uri, place.destination.uri, RECIPE, **options)  # type: ignore[arg-type]  # As users do.


def test_plan_run_and_read_by_paths(place: Place) -> None:
    plan = kd.plan(place.source.uri, place.destination.uri, RECIPE)
    assert (plan.num_sources, plan.num_outputs) == (6, 24)
    assert kd.plan(place.source.uri, recipe=RECIPE).num_outputs == plan.num_outputs
    report = kd_run(place)
    assert plan.output_bytes == pytest.approx(report.output_bytes, rel=0.2)
    assert (report.num_sources, report.num_outputs) == (6, 24)
    rows = kd.read_manifest(place.destination.uri, columns=["label", "output_key"])
    assert rows["label"].value_counts().to_dict() == {"a": 12, "b": 12}
    assert kd.plan(place.source.uri, place.destination.uri, RECIPE).num_done == 6
    data_sets.check_whole(place)


def test_the_recipe_may_be_a_file_or_the_name_of_a_preset(place: Place, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.to_yaml())
    assert kd.plan(place.source.uri, recipe=str(path)).num_outputs == 24
    assert kd.plan(place.source.uri, recipe=RECIPE.model_dump()).num_outputs == 24
    assert kd.plan(place.source.uri).num_outputs == 6 * 64
    with pytest.raises(RecipeError):
        kd.plan(place.source.uri, recipe="clasic")


def test_progress_adds_up_to_the_report(place: Place) -> None:
    started: list[Run] = []
    done: list[ShardStats] = []
    report = kd_run(place, workers=3, on_start=started.append, on_progress=done.append)
    assert [run.run_id for run in started] == [report.run_id]
    total = ShardStats.total(done)
    assert (total.num_sources, total.num_outputs) == (6, 24)
    assert total.output_bytes == report.output_bytes


class StoppedError(Exception):
    pass


def stop_after(number: int) -> Callable[[ShardStats], None]:
    seen: list[ShardStats] = []

    def stop(stats: ShardStats) -> None:
        seen.append(stats)
        if len(seen) == number:
            raise StoppedError

    return stop


def test_a_run_that_was_stopped_is_resumed_and_counts_what_was_done(place: Place) -> None:
    run = place.start(RECIPE)
    with pytest.raises(StoppedError):
        kd_run(place, on_progress=stop_after(3))
    done: list[ShardStats] = []
    report = kd_run(place, on_progress=done.append)
    assert report.run_id == run.run_id
    assert len(done) == 6
    assert ShardStats.total(done).num_outputs == report.num_outputs == 24
    data_sets.check_whole(place)


def test_failed_sources_are_tried_again_when_asked(place: Place) -> None:
    place.source.put("bad.jpg", b"x")
    assert kd_run(place).num_failed == 1
    assert kd_run(place).num_sources == 7
    again = kd_run(place, retry_failed=True)
    assert (again.num_sources, again.num_failed) == (1, 1)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda folder: kd.plan(f"{folder}/typo"), ObjectMissingError),
        (lambda folder: kd.run(f"{folder}/source", f"{folder}/source", RECIPE), PlanError),
        (lambda folder: kd.read_manifest(f"{folder}/destination"), ManifestError),
        (lambda _: kd.plan("ftp://host/folder"), SettingsError),
        (lambda folder: kd.plan(folder, recipe=f"{folder}/none.yaml"), RecipeError),
    ],
)
def test_what_is_wrong_is_an_error_of_ours(
    place: Place, tmp_path: Path, call: Callable[[str], object], error: type[Exception]
) -> None:
    assert place.output_keys() == set()
    with pytest.raises(error) as caught:
        call(str(tmp_path))
    assert isinstance(caught.value, kd.KaleidoscopeError)


def test_s3_uris_work_with_what_the_environment_says(
    s3_uri: str,
    s3_settings: Settings,
    s3_credentials: S3Credentials,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    source = open_store(f"{s3_uri}/in", settings=s3_settings, credentials=s3_credentials)
    data_sets.put_all(source, data_sets.plain_images(2))
    assert s3_credentials.secret_access_key is not None
    monkeypatch.setenv("KALEIDOSCOPE_S3_ENDPOINT_URL", str(s3_settings.s3_endpoint_url))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", str(s3_credentials.access_key_id))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_credentials.secret_access_key.get_secret_value())
    assert kd.run(f"{s3_uri}/in", f"{s3_uri}/out", RECIPE).num_outputs == 8
    assert len(kd.read_manifest(f"{s3_uri}/out")) == 8
    # From a bucket to a folder as well.
    kd.run(f"{s3_uri}/in", str(tmp_path / "out"), RECIPE)
    data_sets.check_whole(Place(source, LocalStore(tmp_path / "out")))


def test_a_run_needs_at_least_one_worker(place: Place) -> None:
    with pytest.raises(SettingsError, match=r"at least 1.*got -1"):
        kd_run(place, workers=-1)


def test_a_run_is_refused_while_another_is_at_work_in_the_destination(place: Place) -> None:
    other = Holder("other", "flow run nightly", "ada.example", data_sets.NOW)
    waited_for: list[Holder] = []
    with hold(place.destination, other):
        with pytest.raises(LeaseError, match=r"flow run nightly on ada\.example"):
            kd_run(place, wait_s=0)
        with pytest.raises(LeaseError, match="waited"):
            kd_run(place, wait_s=0.1, on_wait=waited_for.append)
    assert waited_for == [other]
    assert not list_runs(place.destination)
    assert kd_run(place, wait_s=0).num_outputs == 24


def test_of_runs_that_start_at_once_the_second_finds_all_done(place: Place) -> None:
    with ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(lambda _: kd_run(place), range(2)))
    assert reports[0] == reports[1]
    assert len(list_runs(place.destination)) == 1
    data_sets.check_whole(place)


def test_a_run_that_was_taken_over_does_not_commit(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "hold", partial(hold, duration_s=0.4))

    def take_over(_: Run) -> None:
        lease = place.destination.get(LEASE_KEY).data
        place.destination.put(LEASE_KEY, lease.replace(b'"token": "', b'"token": "another '))
        [thread] = [t for t in threading.enumerate() if t.name == "lease"]
        thread.join()

    with pytest.raises(LeaseError, match="was taken over"):
        kd_run(place, on_start=take_over)
    assert not any(run.is_committed for run in list_runs(place.destination))


def test_a_data_set_is_verified_replayed_and_pruned_by_its_path(place: Place) -> None:
    kd_run(place)
    destination = place.destination.uri
    assert kd.verify(destination).is_whole
    rows = kd.read_manifest(destination, columns=["source_key", "output_key"])
    source_key, output_key = rows.iloc[0]
    [replayed] = kd.replay_outputs([output_key], destination)
    assert replayed.outcome == "identical"
    place.source.delete([source_key])
    assert not kd.verify(destination).is_whole
    assert kd.prune(destination).num_objects == 4
    assert len(kd.read_manifest(destination)) == 24
    assert kd.prune(destination, dry_run=False).is_done
    assert len(kd.read_manifest(destination)) == 20
    assert kd.verify(destination).is_whole
    assert kd.plan(place.source.uri, destination, RECIPE).num_shards == 0
