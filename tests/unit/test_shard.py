import itertools
import signal
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from kaleidoscope import augment, codecs, shard
from kaleidoscope.errors import AccessError, StoreError, TransformError
from kaleidoscope.manifest import RunFacts, ShardStats, read_stats
from kaleidoscope.model import BgrImage, ObjectInfo, PlannedSource
from kaleidoscope.pipeline import StartOptions
from kaleidoscope.shard import _sources, _threads, augment_shard
from kaleidoscope.stores import InvalidKeyError
from kaleidoscope.transforms.contrast import ContrastScaled
from tests import data_sets, image_files
from tests.data_sets import Place
from tests.faulty_stores import DownFrom, WatchedStore

RECIPE = data_sets.recipe(side=16)
DEADLINE_S = 60.0


def make_facts() -> RunFacts:
    return RunFacts(
        run_id="run",
        recipe_digest=RECIPE.digest,
        source_root="source",
        seed=RECIPE.seed,
        shard=3,
        flow_run_id="flow-run",
        kaleidoscope_version="1",
        opencv_version="2",
        numpy_version="3",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def run(
    place: Place,
    *,
    workers: int = 2,
    on_progress: Callable[[ShardStats], None] | None = None,
    infos: Sequence[ObjectInfo] | None = None,
) -> tuple[bytes, ShardStats]:
    sources = list(place.source.list_objects()) if infos is None else infos
    return augment_shard(
        [PlannedSource(info) for info in sources],
        place.source,
        place.destination,
        RECIPE,
        make_facts(),
        workers=workers,
        on_progress=on_progress,
    )


def shard_threads() -> set[str]:
    return {t.name for t in threading.enumerate() if t.name.startswith("kaleidoscope-")}


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Any:
    yield
    assert shard_threads() == set()


BAD_FILES = {
    "not_an_image": b"\0\1garbage" * 50,
    "truncated": image_files.whole_files()["baseline JPEG"][:-400],
    "empty": b"",
    "zero_area": image_files.png_of_size(0, 5),
    "too_large": image_files.png_of_size(50_000, 50_000),
    "corrupt": image_files.png_of_size(8, 8),
    "unsupported_format": b"GIF89a" + bytes(100),
}
HTML = b"<!doctype html><title>404</title><p>not found</p>"


def test_each_bad_file_is_a_row_with_its_reason_and_the_rest_goes_on(tmp_path: Path) -> None:
    bad = {f"bad/{reason}.jpg": data for reason, data in BAD_FILES.items()}
    place = data_sets.local(tmp_path, {**data_sets.plain_images(3), **bad, "bad/404.jpg": HTML})
    report = place.run(RECIPE, StartOptions())
    rows = place.rows()
    failed = rows[rows["status"] == "failed"].set_index("source_key")
    reasons = {f"bad/{reason}.jpg": reason for reason in BAD_FILES}
    assert failed["error_type"].to_dict() == {**reasons, "bad/404.jpg": "not_an_image"}
    assert set(failed["node"]) == {"root"}
    assert failed["error_message"].str.len().min() > 10
    assert failed[["output_key", "sha256", "ops", "source_width"]].isna().all(axis=None)
    assert report.num_failed == len(BAD_FILES) + 1
    assert report.failures == Counter([*BAD_FILES, "not_an_image"])
    assert report.num_outputs == 3 * 8
    data_sets.check_whole(place)


def test_a_source_that_vanished_after_the_listing_is_a_row(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, data_sets.plain_images(4))
    made = place.start(RECIPE, StartOptions())
    place.source.delete(["a/002.jpg"])
    report = place.run(RECIPE)
    assert report.run_id == made.run_id
    assert report.failures == {"missing": 1}
    rows = place.rows()
    [vanished] = rows.index[rows["status"] == "failed"]
    assert rows.loc[vanished, "source_key"] == "a/002.jpg"
    assert len(rows) == 3 * 8 + 1


def test_a_source_that_changed_after_the_listing_is_recorded_as_it_was_read(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, data_sets.plain_images(2))
    [listed, _] = place.source.list_objects()
    place.start(RECIPE, StartOptions())
    place.source.put(listed.key, image_files.opencv(".png", image_files.picture(31, 29)))
    read = place.source.head(listed.key)
    assert read.etag != listed.etag
    place.run(RECIPE)
    rows = place.rows()
    changed = rows[rows["source_key"] == listed.key]
    assert set(changed["source_etag"]) == {read.etag}
    assert set(changed["source_width"]) == {31}
    assert set(changed["source_format"]) == {"png"}
    data_sets.check_whole(place)


@pytest.mark.parametrize("error", [TransformError("too bright"), cv2.error("too bright")])
def test_a_failure_in_the_middle_of_a_tree_keeps_the_outputs_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    apply = ContrastScaled.apply
    calls = itertools.count(1)

    def fail_once(operation: ContrastScaled, image: BgrImage) -> BgrImage:
        # Each source has two contrasts, ab and then b: this is b of the second source.
        if next(calls) == 4:
            raise error
        contrasted: BgrImage = apply(operation, image)
        return contrasted

    monkeypatch.setattr(ContrastScaled, "apply", fail_once)
    place = data_sets.local(tmp_path, data_sets.plain_images(3))
    report = place.run(RECIPE, StartOptions(), workers=1)
    assert report.num_failed == 1
    assert not report.failures.keys() - {"transform", "error"}
    rows = place.rows()
    second = rows[rows["source_key"] == "a/002.jpg"]
    assert list(second["node"]) == ["root", "a", "ab", "abc", "ac", "b"]
    assert list(second["status"]) == ["ok"] * 5 + ["failed"]
    assert second["source_sha256"].nunique() == 1
    assert "too bright" in second["error_message"].iloc[-1]
    assert len(rows) == 8 + 6 + 8
    data_sets.check_whole(place)


def test_a_part_says_what_the_shard_did_and_counts_each_source_once(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, {**data_sets.plain_images(5), "z.png": b"x"})
    seen: list[ShardStats] = []
    part, stats = run(place, on_progress=seen.append)
    assert len(seen) == 6
    total = ShardStats.total(seen)
    assert (total.num_sources, total.num_failed, total.num_outputs) == (6, 1, 40)
    assert total.source_bytes == sum(info.size for info in place.source.list_objects())
    assert total.output_bytes == sum(map(len, data_sets.outputs(place).values()))
    assert stats.wall_s > 0
    assert ShardStats.total([total, ShardStats(wall_s=stats.wall_s)]) == stats
    assert read_stats(part) == stats


def test_progress_is_told_in_the_order_of_the_sources(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, data_sets.plain_images(12))
    infos = list(reversed(list(place.source.list_objects())))
    sizes: list[int] = []
    run(place, infos=infos, workers=3, on_progress=lambda stats: sizes.append(stats.source_bytes))
    assert sizes == [info.size for info in infos]


@pytest.mark.parametrize("workers", [1, 8])
def test_a_store_that_is_down_ends_the_shard_after_few_writes(tmp_path: Path, workers: int) -> None:
    place = data_sets.local(tmp_path, data_sets.plain_images(40))
    down = DownFrom(5)
    with pytest.raises(StoreError, match="is down"):
        run(Place(place.source, WatchedStore(place.destination, before=down)), workers=workers)
    assert len(place.output_keys()) <= 4


def test_writes_that_wait_are_not_tried_once_one_has_failed(tmp_path: Path) -> None:
    """Each takes its full time to fail while a store is down, 45 s for S3."""
    place = data_sets.local(tmp_path, data_sets.plain_images(40))
    all_writing = threading.Barrier(_threads.NUM_WRITERS, timeout=DEADLINE_S)
    tried: list[str] = []

    def fail_together(_action: str, key: str) -> None:
        tried.append(key)
        if len(tried) <= _threads.NUM_WRITERS:
            all_writing.wait()
        raise StoreError("the store is down")

    store = WatchedStore(place.destination, before=fail_together)
    with pytest.raises(StoreError, match="is down"):
        run(Place(place.source, store), workers=2)
    assert len(tried) == _threads.NUM_WRITERS


def with_unreadable_source(place: Place, error: StoreError) -> Place:
    def fail(_action: str, key: str) -> None:
        if key == "a/020.jpg":
            raise error

    return Place(WatchedStore(place.source, before=fail), place.destination)


def test_a_store_that_fails_at_a_source_ends_the_shard(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, data_sets.plain_images(30))
    with pytest.raises(StoreError, match="gone"):
        run(with_unreadable_source(place, StoreError("gone")), workers=4)


def test_a_source_that_may_not_be_read_is_a_failed_row(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, data_sets.plain_images(30))
    report = with_unreadable_source(place, AccessError("forbidden")).run(RECIPE)
    assert report.failures == {"access_denied": 1}
    assert report.num_sources == 30


class Stopped(BaseException):
    """Neither an Exception nor ours, as a KeyboardInterrupt is not."""


def test_what_the_listener_raises_ends_the_shard_and_its_threads(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, data_sets.plain_images(40))
    num_done = 0

    def stop(_: ShardStats) -> None:
        nonlocal num_done
        num_done += 1
        if num_done == 3:
            raise Stopped

    with pytest.raises(Stopped):
        run(place, on_progress=stop)
    most = (3 + 2 * shard.SOURCES_AHEAD) * 8
    assert len(place.output_keys()) <= most


def test_sources_that_have_not_begun_when_a_shard_ends_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = data_sets.local(tmp_path, data_sets.plain_images(20))
    [first, *_] = place.source.list_objects()
    stopped = threading.Event()
    stop = _threads.Threads._stop_on_error

    def stop_and_tell(threads: _threads.Threads, *error: Any) -> None:
        stop(threads, *error)
        stopped.set()

    def read_others_later(action: str, key: str) -> None:
        if action == "get" and key != first.key:
            assert stopped.wait(DEADLINE_S)

    def fail(_: ShardStats) -> None:
        raise Stopped

    monkeypatch.setattr(_threads.Threads, "_stop_on_error", stop_and_tell)
    source = WatchedStore(place.source, before=read_others_later)
    with pytest.raises(Stopped):
        run(Place(source, place.destination), workers=1, on_progress=fail)
    assert len(place.output_keys()) == 8


def test_ctrl_c_ends_a_shard_whose_workers_wait_for_slow_writes(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, data_sets.plain_images(40))
    stuck, interrupted = threading.Event(), threading.Event()

    def press_ctrl_c(_action: str, _key: str) -> None:
        if not stuck.is_set():
            stuck.set()
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        assert interrupted.wait(DEADLINE_S)

    def on_signal(*_: object) -> None:
        interrupted.set()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, on_signal)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(Place(place.source, WatchedStore(place.destination, before=press_ctrl_c)))
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(place.output_keys()) < 40 * 8


def test_a_key_that_the_destination_cannot_hold_fails_its_source_alone(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, data_sets.plain_images(3))
    tried: list[str] = []

    def refuse(_action: str, key: str) -> None:
        if key.startswith("a/002-"):
            tried.append(key)
            if not key.endswith(("-root.jpg", "-c.jpg")):
                raise InvalidKeyError("too long")

    store = WatchedStore(place.destination, before=refuse)
    report = Place(place.source, store).run(RECIPE, StartOptions())
    assert len(tried) == 8
    assert (report.num_sources, report.num_failed, report.num_outputs) == (3, 1, 2 * 8 + 2)
    assert report.failures == {"invalid_key": 1}
    rows = place.rows()
    source = rows[rows["source_key"] == "a/002.jpg"]
    assert list(source["node"]) == ["root", "c", "a"]
    assert list(source["status"]) == ["ok", "ok", "failed"]
    data_sets.check_whole(place)


def test_no_more_sources_are_read_ahead_than_the_bound(tmp_path: Path) -> None:
    workers = 3
    place = data_sets.local(tmp_path, data_sets.plain_images(60))
    lock = threading.Lock()
    num_open = most_open = 0

    def open_one(action: str, _key: str) -> None:
        nonlocal num_open, most_open
        with lock:
            num_open += action == "get"
            most_open = max(most_open, num_open)

    def close_one(_: ShardStats) -> None:
        nonlocal num_open
        with lock:
            num_open -= 1

    source = WatchedStore(place.source, before=open_one)
    run(Place(source, place.destination), workers=workers, on_progress=close_one)
    assert num_open == 0
    assert most_open <= workers * shard.SOURCES_AHEAD


def test_no_more_outputs_wait_for_a_slow_store_than_the_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers, waiting = 3, 5
    # One more is in the hands of each worker.
    bound = waiting + workers
    monkeypatch.setattr(_threads, "MAX_OUTPUTS_WAITING", waiting)
    for module in (_threads, _sources):
        monkeypatch.setattr(module, "OUTPUTS_PER_WRITE", 1)
    monkeypatch.setattr(_threads, "NUM_WRITERS", 2)
    place = data_sets.local(tmp_path, data_sets.plain_images(20))
    changed = threading.Condition()
    num_encoded = num_written = most_waiting = 0
    encode = codecs.encode

    def count_encoded(image: BgrImage, spec: Any) -> bytes:
        nonlocal num_encoded, most_waiting
        data = encode(image, spec)
        with changed:
            num_encoded += 1
            most_waiting = max(most_waiting, num_encoded - num_written)
            changed.notify_all()
        return data

    def write_when_full(_action: str, _key: str) -> None:
        nonlocal num_written
        with changed:
            if num_written == 0:
                assert changed.wait_for(lambda: num_encoded >= bound, DEADLINE_S)
                assert not changed.wait_for(
                    lambda: num_written == 0 and num_encoded > bound, timeout=0.2
                )
            num_written += 1

    monkeypatch.setattr(augment, "encode", count_encoded)
    store = WatchedStore(place.destination, before=write_when_full)
    run(Place(place.source, store), workers=workers)
    assert num_written == 20 * 8
    assert most_waiting == bound


def test_a_shard_leaves_the_number_of_opencv_threads_as_it_was(tmp_path: Path) -> None:
    before = cv2.getNumThreads()
    place = data_sets.local(tmp_path, data_sets.plain_images(2))
    used: set[int] = set()
    run(place, on_progress=lambda _: used.add(cv2.getNumThreads()))
    assert used == {1}
    assert cv2.getNumThreads() == before


def test_shards_in_threads_of_one_process_share_the_setting_of_opencv(tmp_path: Path) -> None:
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        place = data_sets.local(tmp_path, data_sets.plain_images(4))
        first_is_in, second_is_in, first_is_out = (threading.Event() for _ in range(3))
        used: set[int] = set()

        def first(_: ShardStats) -> None:
            first_is_in.set()
            assert second_is_in.wait(DEADLINE_S)

        def second(_: ShardStats) -> None:
            second_is_in.set()
            assert first_is_out.wait(DEADLINE_S)
            used.add(cv2.getNumThreads())

        with ThreadPoolExecutor(2) as threads:
            one = threads.submit(run, place, on_progress=first)
            assert first_is_in.wait(DEADLINE_S)
            other = threads.submit(run, place, on_progress=second)
            one.result(DEADLINE_S)
            first_is_out.set()
            other.result(DEADLINE_S)
        assert used == {1}
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)


def test_a_shard_without_sources_is_an_empty_part(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, {})
    part, stats = run(place, infos=[])
    assert replace(stats, wall_s=0.0) == ShardStats()
    assert read_stats(part) == stats


def test_sources_of_one_content_get_the_same_images_under_their_own_names(tmp_path: Path) -> None:
    data = image_files.opencv(".png", np.full((20, 20, 3), 90, np.uint8))
    place = data_sets.local(tmp_path, {"x.png": data, "deep/x.png": data, "x.jpg": data})
    place.run(RECIPE, StartOptions())
    rows = place.rows()
    assert rows.groupby("node")["sha256"].nunique().eq(1).all()
    assert rows["output_key"].nunique() == 3 * 8
    data_sets.check_whole(place)
