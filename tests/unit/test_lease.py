import multiprocessing
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from kaleidoscope.errors import LeaseError, ManifestError, StoreError
from kaleidoscope.lease import LEASE_KEY, Holder, hold, read_holder
from kaleidoscope.settings import Settings
from kaleidoscope.stores import LocalStore, S3Credentials, Store, open_store
from tests.faulty_stores import Action, WatchedStore

SHORT_S = 0.4
"""A lease that tests can wait for."""

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def holder(name: str) -> Holder:
    return Holder(name, f"flow run {name}", "ada.example", NOW)


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        return LocalStore(tmp_path / "destination")
    settings: Settings = request.getfixturevalue("s3_settings")
    credentials: S3Credentials = request.getfixturevalue("s3_credentials")
    uri: str = request.getfixturevalue("s3_uri")
    return open_store(uri, settings=settings, credentials=credentials)


def test_a_second_run_is_refused_with_the_name_of_the_first(store: Store) -> None:
    wanted = r"flow run first on ada\.example, started at 2026-11-22 12:00:00\+00:00"
    with (
        hold(store, holder("first")),
        pytest.raises(LeaseError, match=wanted) as refused,
        hold(store, holder("second"), wait_s=0),
    ):
        pass
    assert refused.value.retryable


def test_a_released_lease_is_free_at_once(store: Store) -> None:
    with hold(store, holder("first")):
        assert read_holder(store) == holder("first")
    assert read_holder(store) is None
    with hold(store, holder("second"), wait_s=0) as lease:
        lease.check()
        assert read_holder(store) == holder("second")


def test_a_second_run_waits_for_the_first_to_end(store: Store) -> None:
    is_waiting = threading.Event()
    waited_for: list[Holder] = []

    def wait() -> None:
        def on_wait(other: Holder) -> None:
            waited_for.append(other)
            is_waiting.set()

        with hold(store, holder("second"), wait_s=30, on_wait=on_wait):
            assert read_holder(store) == holder("second")

    with ThreadPoolExecutor(1) as pool:
        with hold(store, holder("first"), duration_s=2):
            second = pool.submit(wait)
            assert is_waiting.wait(30)
            assert read_holder(store) == holder("first")
        second.result()
    assert waited_for == [holder("first")]


def test_waiting_ends_with_a_refusal_when_the_first_lives_on(store: Store) -> None:
    with hold(store, holder("first"), duration_s=SHORT_S) as lease:
        with (
            pytest.raises(LeaseError, match=r"waited 1 s for it"),
            # Longer than the lease lasts: what keeps it is that it is renewed.
            hold(store, holder("second"), wait_s=3 * SHORT_S),
        ):
            pass
        lease.check()


def test_of_racing_starters_one_is_at_work_at_a_time(store: Store) -> None:
    at_work: list[str] = []
    seen: list[int] = []
    barrier = threading.Barrier(6)

    def start(number: int) -> None:
        barrier.wait()
        with hold(store, holder(str(number)), wait_s=60, duration_s=5) as lease:
            at_work.append(str(number))
            read_holder(store)  # Takes its time.
            seen.append(len(at_work))
            at_work.remove(str(number))
            lease.check()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(start, range(6)))
    assert seen == [1] * 6


def test_of_two_racing_starters_the_other_is_refused(store: Store) -> None:
    barrier = threading.Barrier(2)
    decided = threading.Barrier(2)

    def start(name: str) -> bool:
        barrier.wait()
        try:
            with hold(store, holder(name), wait_s=0):
                decided.wait(60)
        except LeaseError:
            decided.wait(60)
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(start, ["one", "two"])) == [False, True]


def test_a_new_try_of_the_same_work_need_not_wait(store: Store) -> None:
    with hold(store, holder("first"), duration_s=SHORT_S) as lease:
        with hold(store, holder("first"), wait_s=0) as again:
            lease.join()  # Its thread ends with the next renewal.
            again.check()
            with pytest.raises(LeaseError, match="taken over by flow run first"):
                lease.check()
        # The one that was replaced releases nothing that is not its own.
        assert read_holder(store) is None


def _hold_until_killed(
    uri: str, settings: Settings, credentials: S3Credentials, ready: Connection
) -> None:
    store = open_store(uri, settings=settings, credentials=credentials)
    with hold(store, holder("killed"), duration_s=1.0):
        ready.send("held")
        signal.pause()


def test_the_lease_of_a_killed_process_is_taken_over(
    store: Store, s3_settings: Settings, s3_credentials: S3Credentials
) -> None:
    # Not forked: the server of forks may have imported the S3 store, which then writes nothing.
    context = multiprocessing.get_context("spawn")
    ready, childs_end = context.Pipe()
    process = context.Process(
        target=_hold_until_killed, args=(store.uri, s3_settings, s3_credentials, childs_end)
    )
    process.start()
    assert ready.recv() == "held"
    process.kill()
    process.join()
    with pytest.raises(LeaseError, match="flow run killed"), hold(store, holder("b"), wait_s=0):
        pass
    with hold(store, holder("next"), wait_s=30) as lease:
        lease.check()
        assert read_holder(store) == holder("next")


def test_a_store_that_fails_for_a_while_costs_no_lease(tmp_path: Path) -> None:
    failures = iter([True, True, True])
    calm = threading.Event()

    def fail(action: Action, _key: str) -> None:
        if action == "replace":
            if next(failures, False):
                raise StoreError("the store is down")
            calm.set()

    store = LocalStore(tmp_path)
    with hold(WatchedStore(store, before=fail), holder("first"), duration_s=SHORT_S) as lease:
        assert calm.wait(30)
        lease.check()
    assert read_holder(store) is None


def test_a_write_whose_answer_got_lost_is_known_for_the_own(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    renewals = threading.Semaphore(0)

    class Forgetful(WatchedStore):
        def replace(self, key: str, data: bytes, *, etag: str) -> str:
            super().replace(key, data, etag=etag)
            renewals.release()
            return super().replace(key, data, etag=etag)  # As a client does that got no answer.

    with hold(Forgetful(store), holder("first"), duration_s=SHORT_S) as lease:
        for _ in range(3):
            assert renewals.acquire(timeout=30)
        lease.check()
    assert read_holder(store) is None


def test_a_damaged_lease_is_named(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put(LEASE_KEY, b"{}")
    with pytest.raises(ManifestError, match=r"lease\.json is damaged"), hold(store, holder("a")):
        pass
