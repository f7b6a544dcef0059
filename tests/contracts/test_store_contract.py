"""What every store promises, on a real folder and on a real S3 server."""

import contextlib
import threading
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kaleidoscope.errors import (
    ObjectChangedError,
    ObjectExistsError,
    ObjectMissingError,
    StoreError,
)
from kaleidoscope.model import ObjectInfo
from kaleidoscope.settings import Settings
from kaleidoscope.stores import (
    InvalidKeyError,
    S3Credentials,
    Store,
    find_key_defect,
    open_store,
)

NUM_RACERS = 8

EXOTIC_KEYS = (
    "#hash.jpg",
    "100%.jpg",
    "a b/c d.jpg",
    "a%20b.jpg",
    "a&b=c;d@e:f,g$h!(i).jpg",
    "a'b\"c.jpg",
    "a+b.jpg",
    "a?b.jpg",
    "a[b]{c}^`|<d>~.jpg",
    "star*.jpg",
    " lead.jpg",
    "trail .jpg",
    "dots...jpg",
    ".hidden",
    "ü.jpg",
    "u\u0308.jpg",
    "日本/語.jpg",
    "😀.png",
    "\uffee.png",
)

BAD_KEYS = (
    *("", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/./b"),
    *("a\nb", "\ta", "a\x7f", "a\x00", "a\\b", "a\uffff", "\udcff", "é" * 513),
)


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store of each kind."""
    if request.param == "local":
        (tmp_path / "root").mkdir()
        return open_store(str(tmp_path / "root"))
    found: dict[str, object] = {
        name: request.getfixturevalue(name) for name in ("s3_uri", "s3_settings", "s3_credentials")
    }
    uri, s3_settings, credentials = found.values()
    assert isinstance(uri, str)
    assert isinstance(s3_settings, Settings)
    assert isinstance(credentials, S3Credentials)
    return open_store(uri, settings=s3_settings, credentials=credentials)


def keys_of(store: Store, prefix: str = "") -> list[str]:
    return [info.key for info in store.list_objects(prefix)]


def in_byte_order(keys: list[str]) -> list[str]:
    return sorted(keys, key=str.encode)


def put_all(store: Store, keys: list[str]) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: store.put(key, key.encode()), keys))


def test_what_is_put_is_what_is_got(store: Store) -> None:
    store.put("dogs/rex.jpg", b"\xff\xd8 pixels")
    stored = store.get("dogs/rex.jpg")
    assert stored.data == b"\xff\xd8 pixels"
    assert (stored.info.key, stored.info.size) == ("dogs/rex.jpg", 9)


def test_get_head_and_list_agree_on_an_object(store: Store) -> None:
    store.put("dogs/rex.jpg", b"pixels")
    head = store.head("dogs/rex.jpg")
    assert store.get("dogs/rex.jpg").info == head
    assert list(store.list_objects()) == [head]
    assert head.etag
    assert '"' not in head.etag


def test_a_put_replaces_what_was_there(store: Store) -> None:
    store.put("a", b"old and longer")
    store.put("a", b"new")
    assert store.get("a").data == b"new"
    assert [info.size for info in store.list_objects()] == [3]


def test_an_etag_changes_with_the_content(store: Store) -> None:
    etags = set()
    for data in (b"one", b"two", b"six"):
        store.put("a", data)
        etags.add(store.head("a").etag)
    assert len(etags) == 3


def test_an_empty_object_is_an_object(store: Store) -> None:
    store.put("empty", b"")
    assert store.get("empty").data == b""
    assert store.get_range("empty", offset=0, length=0) == b""
    assert [(info.key, info.size) for info in store.list_objects()] == [("empty", 0)]


@pytest.mark.parametrize("num_mib", [8, 33])
def test_a_large_object_comes_back_whole(store: Store, num_mib: int) -> None:
    data = bytes(range(256)) * 4096 * num_mib
    store.put("large.tar", data)
    stored = store.get("large.tar")
    assert stored.data == data
    assert stored.info == store.head("large.tar") == next(store.list_objects())


def test_a_range_has_exactly_the_bytes_asked_for(store: Store) -> None:
    store.put("ten", b"0123456789")
    assert store.get_range("ten", offset=0, length=10) == b"0123456789"
    assert store.get_range("ten", offset=3, length=4) == b"3456"
    assert store.get_range("ten", offset=9, length=1) == b"9"
    assert store.get_range("ten", offset=10, length=0) == b""


@pytest.mark.parametrize(("offset", "length"), [(8, 3), (10, 1), (11, 0), (50, 5)])
def test_a_range_beyond_the_end_is_an_error(store: Store, offset: int, length: int) -> None:
    store.put("ten", b"0123456789")
    with pytest.raises(StoreError, match="ten"):
        store.get_range("ten", offset=offset, length=length)


@pytest.mark.parametrize(
    "read",
    [
        lambda store, key: store.get(key),
        lambda store, key: store.head(key),
        lambda store, key: store.get_range(key, offset=0, length=1),
        lambda store, key: store.get_range(key, offset=0, length=0),
    ],
    ids=["get", "head", "range", "empty range"],
)
@pytest.mark.parametrize("key", ["nothing.jpg", "dogs", "dogs/rex.jpg/tail"])
def test_reading_what_is_not_there_names_the_key(
    store: Store, read: Callable[[Store, str], object], key: str
) -> None:
    store.put("dogs/rex.jpg", b"pixels")
    with pytest.raises(ObjectMissingError, match=key) as caught:
        read(store, key)
    assert store.uri in str(caught.value)
    assert not caught.value.retryable


def test_creating_twice_is_an_error_and_keeps_the_first(store: Store) -> None:
    store.create("runs/1/plan.json", b"first")
    with pytest.raises(ObjectExistsError, match=r"runs/1/plan\.json"):
        store.create("runs/1/plan.json", b"second")
    assert store.get("runs/1/plan.json").data == b"first"


def test_of_racing_creators_exactly_one_wins_each_key(store: Store) -> None:
    keys = [f"runs/{number}/lock" for number in range(16)]
    barrier = threading.Barrier(NUM_RACERS)

    def race(racer: int) -> list[str]:
        won = []
        for key in keys:
            barrier.wait()
            try:
                store.create(key, f"{racer} won {key}".encode() * 100)
            except ObjectExistsError:
                continue
            won.append(key)
        return won

    with ThreadPoolExecutor(NUM_RACERS) as pool:
        wins = list(pool.map(race, range(NUM_RACERS)))
    assert Counter(key for won in wins for key in won) == Counter(keys)
    for racer, won in enumerate(wins):
        for key in won:
            assert store.get(key).data == f"{racer} won {key}".encode() * 100


def test_a_version_is_replaced_once(store: Store) -> None:
    store.create("lease.json", b"first")
    first = store.head("lease.json").etag
    second = store.replace("lease.json", b"second", etag=first)
    assert store.get("lease.json").info.etag == second != first
    with pytest.raises(ObjectChangedError, match=r"lease\.json"):
        store.replace("lease.json", b"third", etag=first)
    assert store.get("lease.json").data == b"second"


def test_what_is_not_there_cannot_be_replaced(store: Store) -> None:
    store.put("lease.json", b"first")
    etag = store.head("lease.json").etag
    store.delete(["lease.json"])
    with pytest.raises(ObjectChangedError, match=r"lease\.json"):
        store.replace("lease.json", b"second", etag=etag)
    assert keys_of(store) == []


def test_of_racing_replacers_exactly_one_wins_each_version(store: Store) -> None:
    keys = [f"{number}.json" for number in range(20)]
    put_all(store, keys)
    etags = {info.key: info.etag for info in store.list_objects()}
    barrier = threading.Barrier(NUM_RACERS)

    def race(racer: int) -> list[str]:
        barrier.wait()
        won = []
        for key in keys:
            with contextlib.suppress(ObjectChangedError):
                store.replace(key, f"{racer} won {key}".encode(), etag=etags[key])
                won.append(key)
        return won

    with ThreadPoolExecutor(NUM_RACERS) as pool:
        won = list(pool.map(race, range(NUM_RACERS)))
    assert sorted(key for keys in won for key in keys) == sorted(keys)
    for racer, own in enumerate(won):
        assert all(store.get(key).data.startswith(f"{racer} won".encode()) for key in own)


def test_a_reader_never_sees_half_of_a_put(store: Store) -> None:
    versions = {bytes([number]) * 300_000 for number in range(NUM_RACERS)}
    store.put("shared", min(versions))
    done = threading.Event()

    def overwrite(data: bytes) -> None:
        for _ in range(5):
            store.put("shared", data)

    def read() -> set[bytes]:
        seen = set()
        while not done.is_set():
            seen.add(store.get("shared").data)
        return seen

    with ThreadPoolExecutor(NUM_RACERS + 2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        try:
            list(pool.map(overwrite, versions))
        finally:
            done.set()
    seen = set().union(*(reader.result() for reader in readers))
    assert seen
    assert seen <= versions


PIECE = bytes(range(256)) * 4096


@pytest.mark.parametrize("num_pieces", [0, 1, 40])
def test_an_object_written_in_pieces_comes_back_whole(store: Store, num_pieces: int) -> None:
    with store.write_in_pieces("a/large.tar") as writer:
        for _ in range(num_pieces):
            writer.write(PIECE)
    assert store.get("a/large.tar").data == PIECE * num_pieces
    assert keys_of(store) == ["a/large.tar"]


@pytest.mark.parametrize("num_pieces", [1, 40])
def test_an_object_in_pieces_is_not_there_before_it_is_whole(store: Store, num_pieces: int) -> None:
    with store.write_in_pieces("large.tar") as writer:
        for _ in range(num_pieces):
            writer.write(PIECE)
        assert keys_of(store, "large") == []
    assert keys_of(store, "large") == ["large.tar"]


@pytest.mark.parametrize("num_pieces", [1, 40])
def test_an_object_in_pieces_that_was_given_up_leaves_what_was_there(
    store: Store, num_pieces: int
) -> None:
    store.put("large.tar", b"before")

    def write_and_fail() -> None:
        with store.write_in_pieces("large.tar") as writer:
            for _ in range(num_pieces):
                writer.write(PIECE)
            raise KeyError

    with pytest.raises(KeyError):
        write_and_fail()
    assert store.get("large.tar").data == b"before"
    assert keys_of(store) == ["large.tar"]


def test_writing_in_pieces_replaces_what_was_there(store: Store) -> None:
    store.put("large.tar", b"before")
    with store.write_in_pieces("large.tar") as writer:
        writer.write(b"after")
    assert store.get("large.tar").data == b"after"


def test_a_deleted_object_is_gone_and_a_missing_one_no_error(store: Store) -> None:
    put_all(store, ["a", "b", "c/d"])
    store.delete(["a", "c/d", "never/was", "b/neither"])
    assert keys_of(store) == ["b"]
    store.delete(["a"])
    store.delete([])


def test_more_than_a_thousand_objects_are_deleted_at_once(store: Store) -> None:
    keys = [f"{number:04d}" for number in range(1100)]
    put_all(store, keys)
    store.delete(iter(keys[1:]))
    assert keys_of(store) == ["0000"]


def test_an_empty_store_lists_nothing(store: Store) -> None:
    assert keys_of(store) == []
    assert keys_of(store, "dogs/") == []


def test_a_listing_is_complete_and_in_key_order_over_many_pages(store: Store) -> None:
    keys = [f"{number % 7}/{number % 11}-x/image-{number:05d}.jpg" for number in range(2500)]
    put_all(store, keys)
    assert keys_of(store) == in_byte_order(keys)


def test_folders_sort_with_their_slash(store: Store) -> None:
    keys = ["a/1", "a-b/1", "a.jpg", "a b", "a0", "a/b/1", "a/b.jpg", "aa", "a-b", "A/1"]
    keys.remove("a-b")  # A folder cannot hold a file and a folder of one name.
    put_all(store, keys)
    assert keys_of(store) == in_byte_order(keys)


def test_unicode_keys_sort_by_their_utf8_bytes(store: Store) -> None:
    # By UTF-16 the emoji would come before the half-width form.
    keys = ["\U0001f600.png", "\uffee.png", "z.png", "é.png", "e\u0301.png", "日.png", "Z.png"]
    put_all(store, keys)
    assert keys_of(store) == in_byte_order(keys)


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("dogs/", ["dogs/a.jpg", "dogs/big/b.jpg"]),
        ("dogs", ["dogs-small/c.jpg", "dogs/a.jpg", "dogs/big/b.jpg"]),
        ("dogs/b", ["dogs/big/b.jpg"]),
        ("dogs/big/b.jpg", ["dogs/big/b.jpg"]),
        ("do", ["do", "dogs-small/c.jpg", "dogs/a.jpg", "dogs/big/b.jpg"]),
        ("dogs/big/b.jpg/", []),
        ("do/", []),
        ("e", []),
    ],
)
def test_a_prefix_is_any_start_of_a_key(store: Store, prefix: str, expected: list[str]) -> None:
    put_all(store, ["do", "dogs/a.jpg", "dogs/big/b.jpg", "dogs-small/c.jpg", "cats/a.jpg"])
    assert keys_of(store, prefix) == expected


@pytest.mark.parametrize("key", EXOTIC_KEYS)
def test_exotic_keys_are_held_as_they_are(store: Store, key: str) -> None:
    store.put(key, key.encode())
    assert keys_of(store) == [key]
    assert store.get(key).data == key.encode()
    assert store.head(key).key == key
    with pytest.raises(ObjectExistsError):
        store.create(key, b"")
    store.delete([key])
    assert keys_of(store) == []


@pytest.mark.parametrize(
    "use",
    [
        lambda store, key: store.put(key, b""),
        lambda store, key: store.create(key, b""),
        lambda store, key: store.get(key),
        lambda store, key: store.head(key),
        lambda store, key: store.get_range(key, offset=0, length=1),
        lambda store, key: store.delete([key]),
    ],
    ids=["put", "create", "get", "head", "range", "delete"],
)
@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_key_against_the_rule_is_refused(
    store: Store, use: Callable[[Store, str], object], key: str
) -> None:
    with pytest.raises(InvalidKeyError, match="cannot hold the key") as caught:
        use(store, key)
    assert not caught.value.retryable


names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
valid_keys = (
    st.lists(names, min_size=1, max_size=3).map("/".join).filter(lambda k: not find_key_defect(k))
)


@given(keys=st.lists(valid_keys, max_size=6, unique=True))
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_every_key_by_the_rule_is_held_and_listed_in_order(store: Store, keys: list[str]) -> None:
    # A folder cannot hold a file and a folder of one name, and keeps a folder that was emptied.
    folder = uuid.uuid4().hex
    keys = in_byte_order(
        [
            f"{folder}/{key}"
            for key in keys
            if not any(other.startswith(f"{key}/") for other in keys)
        ]
    )
    try:
        put_all(store, keys)
        listed: list[ObjectInfo] = list(store.list_objects(f"{folder}/"))
        assert [info.key for info in listed] == in_byte_order(keys)
        assert [store.get(info.key).data for info in listed] == [
            k.encode() for k in in_byte_order(keys)
        ]
    finally:
        store.delete(keys)
