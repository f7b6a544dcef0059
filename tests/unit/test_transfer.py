import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kaleidoscope.errors import StoreError
from kaleidoscope.model import ObjectInfo
from kaleidoscope.settings import Settings
from kaleidoscope.stores import LocalStore, S3Credentials, SkipListener, open_store
from kaleidoscope.transfer import LARGE, TransferReport, copy_objects
from tests.faulty_stores import Requests, WatchedStore


def fill(root: Path, files: dict[str, bytes]) -> LocalStore:
    store = LocalStore(root)
    root.mkdir()
    for key, data in files.items():
        store.put(key, data)
    return store


def contents(store: LocalStore) -> dict[str, bytes]:
    return {info.key: store.get(info.key).data for info in store.list_objects()}


FILES = {f"{number % 3}/{number:03d}.jpg": b"x" * number for number in range(50)}


def test_everything_is_copied_and_counted(tmp_path: Path) -> None:
    source, destination = fill(tmp_path / "a", FILES), LocalStore(tmp_path / "b")
    report = copy_objects(source, destination, workers=4)
    assert contents(destination) == FILES
    assert report == TransferReport(num_copied=50, size_copied=sum(map(len, FILES.values())))


def test_a_second_transfer_copies_only_what_is_new_or_of_another_size(tmp_path: Path) -> None:
    source, destination = fill(tmp_path / "a", FILES), LocalStore(tmp_path / "b")
    copy_objects(source, destination)
    destination.put("1/100-not-in-source.jpg", b"")
    destination.put("2/002.jpg", b"other size")
    source.put("new.jpg", b"n")
    report = copy_objects(source, destination)
    assert (report.num_copied, report.num_unchanged) == (2, 49)
    assert contents(destination) == {
        **FILES,
        "new.jpg": b"n",
        "1/100-not-in-source.jpg": b"",
    }


def test_overwriting_copies_all(tmp_path: Path) -> None:
    source, destination = fill(tmp_path / "a", FILES), fill(tmp_path / "b", {"0/003.jpg": b"yyy"})
    assert copy_objects(source, destination).num_unchanged == 1
    assert copy_objects(source, destination, overwrite=True).num_copied == 50
    assert contents(destination) == FILES


def test_what_breaks_the_rule_for_keys_is_counted(tmp_path: Path) -> None:
    source = fill(tmp_path / "a", {"a.jpg": b"x"})
    (tmp_path / "a/new\nline.jpg").write_bytes(b"x")
    report = copy_objects(source, LocalStore(tmp_path / "b"))
    assert report == TransferReport(num_copied=1, num_skipped=1, size_copied=1)


def test_temporary_files_that_another_tool_copied_are_left_out(
    tmp_path: Path, s3_uri: str, s3_settings: Settings, s3_credentials: S3Credentials
) -> None:
    remote = open_store(s3_uri, settings=s3_settings, credentials=s3_credentials)
    remote.put("_kaleidoscope/tmp/lock", b"")
    remote.put("a.jpg", b"x")
    back = LocalStore(tmp_path / "b")
    assert copy_objects(remote, back) == TransferReport(num_copied=1, num_skipped=1, size_copied=1)
    assert contents(back) == {"a.jpg": b"x"}


def test_progress_is_told_in_this_thread_and_only_grows(tmp_path: Path) -> None:
    reports: list[TransferReport] = []
    threads = set()

    def note(report: TransferReport) -> None:
        reports.append(report)
        threads.add(threading.current_thread())

    source = fill(tmp_path / "a", FILES)
    result = copy_objects(source, LocalStore(tmp_path / "b"), workers=3, on_progress=note)
    assert [report.num_copied for report in reports] == list(range(1, 51))
    assert reports[-1] == result
    assert threads == {threading.current_thread()}


class Closed(LocalStore):
    """A destination that takes nothing until it is opened."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.is_open = threading.Event()

    def put(self, key: str, data: bytes) -> None:
        if not self.is_open.wait(30):
            raise TimeoutError
        super().put(key, data)


class Watched(LocalStore):
    """A source that tells when more than ``limit`` objects of it were listed."""

    def __init__(self, root: Path, limit: int) -> None:
        super().__init__(root)
        self.limit = limit
        self.reached, self.exceeded = threading.Event(), threading.Event()

    def list_objects(
        self, prefix: str = "", *, on_skipped: SkipListener | None = None
    ) -> Iterator[ObjectInfo]:
        listed = super().list_objects(prefix, on_skipped=on_skipped)
        for number, info in enumerate(listed, start=1):
            (self.exceeded if number > self.limit else self.reached).set()
            yield info


def test_a_slow_destination_holds_back_the_source(tmp_path: Path) -> None:
    fill(tmp_path / "a", FILES)
    source, destination = Watched(tmp_path / "a", limit=6), Closed(tmp_path / "b")
    thread = threading.Thread(
        target=copy_objects, args=(source, destination), kwargs={"workers": 2}
    )
    thread.start()
    assert source.reached.wait(30)
    assert not source.exceeded.wait(0.5)
    destination.is_open.set()
    thread.join(30)
    assert contents(destination) == FILES


class Failing(LocalStore):
    """A destination that is full after ten objects."""

    num_put = 0

    def put(self, key: str, data: bytes) -> None:
        self.num_put += 1
        if self.num_put > 10:
            raise StoreError(f"{self.uri}: no space left for {key}")
        super().put(key, data)


def test_the_first_error_ends_the_transfer_and_what_was_copied_stays(tmp_path: Path) -> None:
    source, destination = fill(tmp_path / "a", FILES), Failing(tmp_path / "b")
    with pytest.raises(StoreError, match="no space left"):
        copy_objects(source, destination, workers=1)
    assert len(contents(destination)) == 10
    assert destination.num_put < len(FILES)
    assert copy_objects(source, LocalStore(tmp_path / "b")).num_copied == 40


class Unlisted(LocalStore):
    def list_objects(
        self, prefix: str = "", *, on_skipped: SkipListener | None = None
    ) -> Iterator[ObjectInfo]:
        raise StoreError(f"the server is down: {prefix} {on_skipped}")


def test_a_destination_that_cannot_be_listed_is_an_error(tmp_path: Path) -> None:
    source = fill(tmp_path / "a", FILES)
    with pytest.raises(StoreError, match="server is down"):
        copy_objects(source, Unlisted(tmp_path / "b"))


def test_an_upload_and_a_download_give_the_same_files(
    tmp_path: Path, s3_uri: str, s3_settings: Settings, s3_credentials: S3Credentials
) -> None:
    source, back = fill(tmp_path / "a", FILES), LocalStore(tmp_path / "b")
    remote = open_store(s3_uri, settings=s3_settings, credentials=s3_credentials)
    assert copy_objects(source, remote).num_copied == 50
    assert copy_objects(source, remote).num_unchanged == 50
    assert copy_objects(remote, back).num_copied == 50
    assert contents(back) == FILES


def test_large_objects_are_copied_whole_and_in_pieces(tmp_path: Path) -> None:
    files = {"large.tar": bytes(range(256)) * (LARGE // 256 + 1), "small.jpg": b"x"}
    source = fill(tmp_path / "a", files)
    requests = Requests()
    destination = LocalStore(tmp_path / "b")
    report = copy_objects(WatchedStore(source, before=requests), destination)
    assert contents(destination) == files
    assert report.size_copied == sum(map(len, files.values()))
    assert sorted(requests.keys("get")) == [*["large.tar"] * 5, "small.jpg"]


def test_a_large_object_that_is_replaced_meanwhile_is_not_copied(tmp_path: Path) -> None:
    source = fill(tmp_path / "a", {"large.tar": b"a" * LARGE})

    def replace(action: str, key: str) -> None:
        if action == "get" and source.get_range(key, offset=0, length=1) == b"a":
            source.put(key, b"b" * LARGE)

    destination = LocalStore(tmp_path / "b")
    with pytest.raises(StoreError, match=r"large\.tar was replaced"):
        copy_objects(WatchedStore(source, before=replace), destination)
    assert contents(destination) == {}
