"""What a run promises when it dies, wherever that is, and when two do the same at once."""

import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Literal

import pytest

from kaleidoscope.errors import KaleidoscopeError, PlanError, StoreError
from kaleidoscope.pipeline import StartOptions
from kaleidoscope.recipe import Recipe
from kaleidoscope.runs import Report, list_runs
from kaleidoscope.settings import Settings
from kaleidoscope.stores import S3Credentials, open_store
from tests import data_sets
from tests.data_sets import NOW, Place
from tests.faulty_stores import WRITES, Action, DownFrom, Requests, WatchedStore
from tests.interrupted_run import RECIPE, TEN_SHARDS, start

TWO_SHARDS = StartOptions(min_shards=2)

DEADLINE_S = 100.0
POLL_S = 0.01


def finish(process: BaseProcess) -> None:
    process.join(DEADLINE_S)
    assert process.exitcode == 0


def die(process: BaseProcess) -> None:
    process.join(DEADLINE_S)
    assert process.exitcode == -signal.SIGKILL


def kill_when(process: BaseProcess, place: Place, num_outputs: int) -> None:
    """Kill a process as soon as there are so many outputs; it must not come to its end."""
    deadline = time.monotonic() + DEADLINE_S
    while len(place.output_keys()) < num_outputs:
        assert time.monotonic() < deadline
        process.join(POLL_S)
        assert process.exitcode is None
    process.kill()
    die(process)


def check_same(place: Place, undisturbed: Place) -> None:
    data_sets.check_whole(place)
    assert data_sets.outputs(place) == data_sets.outputs(undisturbed)
    assert data_sets.facts(place) == data_sets.facts(undisturbed)


def committed(place: Place) -> list[str]:
    return [entry.run_id for entry in list_runs(place.destination) if entry.is_committed]


def parts(place: Place) -> dict[str, str]:
    """The parts of all runs; a local etag tells when a file was written."""
    infos = place.destination.list_objects("_kaleidoscope/runs/")
    return {info.key: info.etag for info in infos if "/parts/" in info.key}


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Three sources, done undisturbed."""
    place = data_sets.local(tmp_path_factory.mktemp("three"), data_sets.plain_images(3))
    place.run(RECIPE, TWO_SHARDS)
    return place


@pytest.fixture(scope="module")
def forty(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Forty sources, done undisturbed."""
    place = data_sets.local(tmp_path_factory.mktemp("forty"), data_sets.plain_images(40))
    place.run(RECIPE, TEN_SHARDS)
    return place


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_run_that_loses_its_store_at_any_write_can_be_finished(
    three: Place, tmp_path: Path, when: Literal["before", "after"]
) -> None:
    writes = Requests()
    counted = data_sets.local(tmp_path / "counted", data_sets.plain_images(3))
    Place(counted.source, WatchedStore(counted.destination, before=writes)).run(RECIPE, TWO_SHARDS)
    num_writes = len(writes.keys(*WRITES))
    # Name, two shards, plan; twelve outputs, two parts; manifest, report and mark.
    assert num_writes == 4 + 14 + 3
    for number in range(1, num_writes + 1):
        place = data_sets.local(tmp_path / f"{number}", data_sets.plain_images(3))
        down = DownFrom(number)
        store = (
            WatchedStore(place.destination, before=down)
            if when == "before"
            else WatchedStore(place.destination, after=down)
        )
        with pytest.raises(StoreError, match="is down"):
            Place(place.source, store).run(RECIPE, TWO_SHARDS)
        # After the last write everything is there, and only the answer was lost.
        has_all = when == "after" and number == num_writes
        assert len(committed(place)) == has_all
        place.run(RECIPE, TWO_SHARDS)
        check_same(place, three)
        assert len(committed(place)) == 1


def test_a_run_that_cannot_read_at_any_point_can_be_finished(three: Place, tmp_path: Path) -> None:
    reads: frozenset[Action] = frozenset({"list", "get", "head"})
    place = data_sets.local(tmp_path, data_sets.plain_images(3))
    num_failed = 0
    while True:
        # One count for both stores, as a network that is gone takes both.
        down = DownFrom(num_failed + 1, actions=reads)
        source = WatchedStore(place.source, before=down)
        try:
            Place(source, WatchedStore(place.destination, before=down)).run(RECIPE, TWO_SHARDS)
        except StoreError:
            num_failed += 1
            assert committed(place) == []
        else:
            break
    assert num_failed > 5
    check_same(place, three)


def test_a_process_that_is_killed_again_and_again_is_resumed(forty: Place, tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, data_sets.plain_images(40))
    dice = random.Random(5)  # noqa: S311 -- no secret.
    num_outputs = 0
    finished: dict[str, str] = {}
    for _ in range(3):
        num_outputs += dice.randrange(20, 45)
        kill_when(start(place), place, num_outputs)
        now_finished = parts(place)
        assert finished.items() <= now_finished.items(), "a shard that was done was done again"
        finished = now_finished
    assert committed(place) == []
    finish(start(place))
    check_same(place, forty)
    assert len(list_runs(place.destination)) == 1
    assert finished
    assert finished.items() <= parts(place).items()


@pytest.mark.parametrize(
    ("die_at", "where"),
    [
        (5, "planning"),
        (12, "planning"),
        # Name, ten shards, plan; 160 outputs, ten parts; the manifest, and then the report.
        (12 + 170 + 2, "committing"),
    ],
)
def test_a_process_that_is_killed_elsewhere_is_resumed(
    forty: Place, tmp_path: Path, die_at: int, where: str
) -> None:
    place = data_sets.local(tmp_path, data_sets.plain_images(40))
    die(start(place, die_at=die_at))
    [entry] = list_runs(place.destination)
    assert entry.is_planned == (where == "committing")
    manifest = list(place.destination.list_objects(entry.keys.manifest))
    assert bool(manifest) == (where == "committing")
    assert committed(place) == []
    place.run(RECIPE, TEN_SHARDS)
    check_same(place, forty)


def test_a_process_that_is_killed_is_resumed_in_s3(
    forty: Place, s3_uri: str, s3_settings: Settings, s3_credentials: S3Credentials
) -> None:
    source, destination = (
        open_store(f"{s3_uri}/{name}", settings=s3_settings, credentials=s3_credentials)
        for name in ("source", "destination")
    )
    place = Place(source, destination)
    data_sets.put_all(place.source, data_sets.plain_images(40))
    kill_when(start(place, settings=s3_settings, credentials=s3_credentials), place, 70)
    assert committed(place) == []
    finish(start(place, settings=s3_settings, credentials=s3_credentials))
    check_same(place, forty)


def test_two_processes_may_do_the_same_at_once(forty: Place, tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, data_sets.plain_images(40))
    for process in [start(place), start(place)]:
        finish(process)
    check_same(place, forty)


class Together:
    """A hook that lets no thread go on from its first listing before all are there."""

    def __init__(self, num_threads: int) -> None:
        self._barrier = threading.Barrier(num_threads, timeout=DEADLINE_S)
        self._passed = threading.local()

    def __call__(self, action: str, _key: str) -> None:
        if action == "list" and not hasattr(self._passed, "once"):
            self._passed.once = True
            self._barrier.wait()


def at_once(place: Place, *runs: tuple[Recipe, StartOptions]) -> list[Report | KaleidoscopeError]:
    """Run the same place in several threads, all of which see it empty at first."""
    together = WatchedStore(place.destination, after=Together(len(runs)))

    def run(made: Recipe, options: StartOptions) -> Report | KaleidoscopeError:
        try:
            return Place(place.source, together).run(made, options)
        except KaleidoscopeError as error:
            return error

    with ThreadPoolExecutor(len(runs)) as threads:
        return list(threads.map(run, *zip(*runs, strict=True)))


def test_two_that_start_in_one_second_with_other_shards_lose_nothing(
    three: Place, tmp_path: Path
) -> None:
    for number in range(5):
        place = data_sets.local(tmp_path / f"{number}", data_sets.plain_images(3))
        results = at_once(place, (RECIPE, StartOptions()), (RECIPE, StartOptions(min_shards=3)))
        assert all(isinstance(result, Report) for result in results), results
        check_same(place, three)


def test_two_recipes_that_start_at_once_never_mix(tmp_path: Path) -> None:
    other = data_sets.recipe(steps=2, side=16, seed=8)
    for number in range(5):
        place = data_sets.local(tmp_path / f"{number}", data_sets.plain_images(3))
        results = at_once(place, (RECIPE, StartOptions()), (other, StartOptions()))
        refused = [result for result in results if isinstance(result, KaleidoscopeError)]
        assert refused
        assert all(isinstance(error, PlanError) for error in refused), refused
        if len(refused) == len(results):
            assert place.output_keys() == set()
            place.run(other)
        data_sets.check_whole(place)
        assert place.rows()["recipe_digest"].nunique() == 1


def test_the_name_of_a_run_sorts_behind_those_of_clocks_that_were_ahead(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, data_sets.plain_images(1))
    first = place.run(RECIPE, now=NOW + timedelta(hours=3)).run_id
    for seconds in range(3):
        place.source.put(f"new-{seconds}.jpg", data_sets.plain_images(9)["b/005.jpg"])
        later = place.run(RECIPE, now=NOW + timedelta(seconds=seconds)).run_id
        assert first < later
        first = later
    assert len(place.rows()) == 4 * 4


def test_a_run_whose_planning_died_is_no_claim_on_the_destination(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, data_sets.plain_images(3))
    broken = WatchedStore(place.destination, before=DownFrom(4))
    with pytest.raises(StoreError, match="is down"):
        Place(place.source, broken).run(RECIPE, TWO_SHARDS)
    place.run(data_sets.recipe(steps=1, side=16))
    data_sets.check_whole(place)
