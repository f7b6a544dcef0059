"""What is special to folders; what all stores promise is in tests/contracts."""

import errno
import os
import resource
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from kaleidoscope.errors import (
    AccessError,
    ObjectExistsError,
    ObjectMissingError,
    SettingsError,
    StoreError,
)
from kaleidoscope.stores import InvalidKeyError, LocalStore
from kaleidoscope.stores.local import LEFTOVER_AGE_S, TEMPORARY_FOLDER

Skipped = dict[str, str]


def list_keys(store: LocalStore, prefix: str = "") -> tuple[list[str], Skipped]:
    skipped: Skipped = {}
    listed = store.list_objects(prefix, on_skipped=skipped.__setitem__)
    return [info.key for info in listed], skipped


def test_the_uri_is_an_absolute_path_without_dots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert LocalStore("photos/../images/").uri == f"{tmp_path}/images"


def test_a_locale_that_would_make_other_keys_of_names_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "iso8859-1")
    with pytest.raises(SettingsError, match=r"iso8859-1 by the locale, .* set PYTHONUTF8=1"):
        LocalStore(tmp_path)


def test_listing_a_folder_that_is_not_there_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ObjectMissingError, match=r"no folder .*/photso; check its spelling"):
        LocalStore(tmp_path / "photso").list_objects()


def test_a_folder_that_is_not_there_has_nothing_below_a_prefix(tmp_path: Path) -> None:
    assert list_keys(LocalStore(tmp_path / "out"), "_kaleidoscope/runs/") == ([], {})


def test_the_first_write_makes_the_folder(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "deep" / "out")
    store.create("runs/1/plan.json", b"{}")
    assert (tmp_path / "deep/out/runs/1/plan.json").read_bytes() == b"{}"


def test_names_that_break_the_rule_are_left_out_with_a_reason(tmp_path: Path) -> None:
    for name in (b"caf\xe9.jpg", b"new\nline.jpg", b"back\\slash.jpg", b"ok.jpg"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(b"x")
    keys, skipped = list_keys(LocalStore(tmp_path))
    assert keys == ["ok.jpg"]
    assert skipped.keys() == {"caf\\udce9.jpg", "new\nline.jpg", "back\\slash.jpg"}
    assert skipped["caf\\udce9.jpg"] == "it is not valid UTF-8"


def test_files_in_a_folder_whose_name_is_not_utf8_are_left_out_one_by_one(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"x")
    assert list_keys(LocalStore(tmp_path)) == ([], {"\\udcff/a.jpg": "it is not valid UTF-8"})


def test_without_a_listener_what_is_left_out_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "new\nline.jpg").write_bytes(b"x")
    assert list(LocalStore(tmp_path).list_objects()) == []
    assert str(tmp_path) in caplog.text
    assert r"new\nline.jpg" in caplog.text


def test_links_to_files_and_folders_are_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/rex.jpg").write_bytes(b"pixels")
    root = tmp_path / "root"
    root.mkdir()
    (root / "file.jpg").symlink_to(tmp_path / "elsewhere/rex.jpg")
    (root / "folder").symlink_to(tmp_path / "elsewhere")
    store = LocalStore(root)
    assert list_keys(store) == (["file.jpg", "folder/rex.jpg"], {})
    assert store.get("file.jpg").data == store.get("folder/rex.jpg").data == b"pixels"
    assert store.head("file.jpg").size == 6


def test_loops_of_links_end(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "up").symlink_to(tmp_path)
        (tmp_path / name / f"{name}.jpg").write_bytes(b"x")
    (tmp_path / "a/b").symlink_to(tmp_path / "b")
    (tmp_path / "b/a").symlink_to(tmp_path / "a")
    keys, skipped = list_keys(LocalStore(tmp_path))
    assert keys == ["a/a.jpg", "a/b/b.jpg", "b/a/a.jpg", "b/b.jpg"]
    assert "a/up/" in skipped
    assert "a/b/a/" in skipped


def test_what_cannot_be_read_as_a_file_is_left_out_and_missing(tmp_path: Path) -> None:
    (tmp_path / "nothing.jpg").symlink_to(tmp_path / "gone")
    (tmp_path / "self.jpg").symlink_to(tmp_path / "self.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(tmp_path / "socket.jpg"))
        store = LocalStore(tmp_path)
        keys, skipped = list_keys(store)
    assert keys == []
    assert skipped.keys() == {"nothing.jpg", "pipe.jpg", "self.jpg", "socket.jpg"}
    with pytest.raises(ObjectMissingError):
        store.get("pipe.jpg")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_an_access_error(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises(AccessError, match="closed"):
        list_keys(LocalStore(tmp_path))


def test_what_cannot_be_looked_at_is_no_gap_in_a_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    look = os.stat

    def fail(path: Any, **options: Any) -> os.stat_result:
        if path == f"{tmp_path}/a.jpg":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return look(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", fail)
        with pytest.raises(StoreError, match=r"Input/output error for a\.jpg"):
            list_keys(LocalStore(tmp_path))


def test_a_file_system_without_links_creates_each_file_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    store = LocalStore(tmp_path)
    store.create("folder/a.json", b"first")
    with pytest.raises(ObjectExistsError, match=r"folder/a\.json"):
        store.create("folder/a.json", b"second")
    assert store.get("folder/a.json").data == b"first"
    assert list_keys(store)[0] == ["folder/a.json"]


def test_a_file_and_a_folder_of_one_name_are_in_each_others_way(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put("dogs/rex.jpg", b"x")
    for write in (store.put, store.create):
        for key in ("dogs", "dogs/rex.jpg/tail", "dogs/rex.jpg/tail/more"):
            with pytest.raises(InvalidKeyError, match="in the way"):
                write(key, b"y")


def test_a_name_that_is_too_long_for_the_file_system_is_no_reason_to_retry(tmp_path: Path) -> None:
    with pytest.raises(InvalidKeyError, match="too long") as caught:
        LocalStore(tmp_path).put("x" * 256, b"")
    assert not caught.value.retryable


def test_nothing_temporary_is_listed_or_left_behind(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put("a", b"1")
    store.create("b", b"2")
    with pytest.raises(InvalidKeyError):
        store.put("a/b", b"3")
    assert list((tmp_path / TEMPORARY_FOLDER).iterdir()) == []
    (tmp_path / TEMPORARY_FOLDER / "of-another-writer").write_bytes(b"half")
    assert list_keys(store) == (["a", "b"], {})
    assert list_keys(store, "_kaleidoscope/") == ([], {})
    with pytest.raises(InvalidKeyError, match="store's own"):
        store.put(f"{TEMPORARY_FOLDER}/mine", b"")


def test_the_first_write_removes_what_killed_writers_left_a_day_ago(tmp_path: Path) -> None:
    folder = tmp_path / TEMPORARY_FOLDER
    folder.mkdir(parents=True)
    for name, age_s in (("old", LEFTOVER_AGE_S + 60), ("young", LEFTOVER_AGE_S - 60)):
        (folder / name).write_bytes(b"half")
        now = (folder / name).stat().st_mtime
        os.utime(folder / name, (now - age_s, now - age_s))
    LocalStore(tmp_path).put("a", b"1")
    assert [path.name for path in folder.iterdir()] == ["young"]


def test_a_disk_that_is_full_is_a_store_error_that_leaves_nothing(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put("a", b"1")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(StoreError, match=r"for t\.tar"):
            _write_pieces(store, "t.tar", num_pieces=50)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list((tmp_path / TEMPORARY_FOLDER).iterdir()) == []
    assert list_keys(store) == (["a"], {})


def _write_pieces(store: LocalStore, key: str, *, num_pieces: int) -> None:
    with store.write_in_pieces(key) as file:
        for _ in range(num_pieces):
            file.write(bytes(4_096))


def test_a_write_survives_that_the_temporary_folder_is_removed(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put("a", b"1")
    (tmp_path / TEMPORARY_FOLDER).rmdir()
    store.put("b", b"2")
    assert list_keys(store) == (["a", "b"], {})


def test_an_etag_tells_two_writes_apart_that_have_one_size_and_one_time(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    etags = []
    for data in (b"1", b"2"):
        store.put("a", data)
        os.utime(tmp_path / "a", ns=(0, 0))
        etags.append(store.head("a").etag)
    assert etags[0] != etags[1]


def test_a_link_to_a_folder_above_the_root_is_not_followed(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    (root / "odd").mkdir(parents=True)
    (root / "odd" / "a.jpg").write_bytes(b"a")
    (tmp_path / "augmented").mkdir()
    (tmp_path / "augmented" / "b.jpg").write_bytes(b"b")
    (root / "odd" / "up").symlink_to(tmp_path)
    skipped: list[str] = []
    listing = LocalStore(str(root)).list_objects(on_skipped=lambda key, _: skipped.append(key))
    assert [info.key for info in listing] == ["odd/a.jpg"]
    assert skipped == ["odd/up/"]
