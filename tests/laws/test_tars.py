"""What a tar reader gets is what was written, whatever the names and sizes."""

import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaleidoscope.errors import KaleidoscopeError, TarError
from kaleidoscope.stores import LocalStore, find_key_defect
from kaleidoscope.tars import Place, TarSeries, read_last_members, read_members

STEMS = st.text(st.characters(exclude_characters="./\0", codec="utf-8"), min_size=1, max_size=120)
KEYS = (
    st.lists(STEMS, min_size=1, max_size=3).map("/".join).filter(lambda k: not find_key_defect(k))
)
SAMPLES = st.lists(
    st.tuples(
        KEYS,
        st.lists(
            st.tuples(st.sampled_from(["jpg", "json", "mask.png"]), st.binary(max_size=1500)),
            min_size=1,
            max_size=3,
            unique_by=lambda member: member[0],
        ),
    ),
    max_size=8,
    unique_by=lambda sample: sample[0],
)


def write(
    folder: Path, samples: list[tuple[str, list[tuple[str, bytes]]]], *, max_size: int
) -> list[Place]:
    with TarSeries(LocalStore(folder), lambda n: f"x-{n:03d}.tar", max_size=max_size) as tars:
        return [place for key, members in samples for place in tars.add(key, members)]


@given(samples=SAMPLES, max_size=st.sampled_from([1, 3000, 10**9]))
@settings(deadline=None, max_examples=60)
def test_tarfile_and_ranges_find_every_member(
    tmp_path_factory: pytest.TempPathFactory,
    samples: list[tuple[str, list[tuple[str, bytes]]]],
    max_size: int,
) -> None:
    folder = tmp_path_factory.mktemp("tars")
    places = write(folder, samples, max_size=max_size)
    store = LocalStore(folder)
    wanted = [
        (f"{key}.{extension}", data) for key, members in samples for extension, data in members
    ]
    found = []
    keys = [info.key for info in store.list_objects()] if samples else []
    for key in keys:
        with tarfile.open(fileobj=io.BytesIO(store.get(key).data)) as tar:
            for info in tar:
                assert (info.uid, info.gid, info.mtime, info.mode) == (0, 0, 0, 0o644)
                member = tar.extractfile(info)
                assert member is not None
                found.append((info.name, member.read()))
                assert (key, info.offset_data, info.size) in [
                    (place.tar_key, place.offset, place.length) for place in places
                ]
    assert found == wanted
    ranges = [store.get_range(p.tar_key, offset=p.offset, length=p.length) for p in places]
    assert ranges == [data for _, data in wanted]


@given(samples=SAMPLES.filter(bool), data=st.data())
@settings(deadline=None, max_examples=60)
def test_one_pass_finds_every_member_and_whatever_was_cut_off(
    tmp_path_factory: pytest.TempPathFactory,
    samples: list[tuple[str, list[tuple[str, bytes]]]],
    data: st.DataObject,
) -> None:
    folder = tmp_path_factory.mktemp("tars")
    places = write(folder, samples, max_size=10**9)
    store, key = LocalStore(folder), "x-000.tar"
    whole = store.get(key).data

    def read(size: int) -> list[tuple[str, int, bytes]]:
        members = read_last_members(store, key, start=0, size=size)
        return [(member.name, member.offset, member.read()) for member in members]

    contents = [
        (f"{sample}.{extension}", content)
        for sample, members in samples
        for extension, content in members
    ]
    wanted = [
        (name, place.offset, content)
        for (name, content), place in zip(contents, places, strict=True)
    ]
    assert read(len(whole)) == wanted
    stop = places[-1].offset + places[-1].length
    some = read_members(store, key, start=0, stop=stop)
    assert [(member.name, member.offset, member.read()) for member in some] == wanted
    size = data.draw(st.integers(0, len(whole) - 1))
    store.put(key, whole[:size])
    with pytest.raises(TarError):
        read(size)


@given(samples=SAMPLES.filter(bool))
@settings(deadline=None, max_examples=20)
def test_the_same_samples_give_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, samples: list[tuple[str, list[tuple[str, bytes]]]]
) -> None:
    folders = [tmp_path_factory.mktemp("tars") for _ in range(2)]
    for folder in folders:
        write(folder, samples, max_size=10**9)
    first, second = (LocalStore(folder).get("x-000.tar").data for folder in folders)
    assert first == second


def test_a_plain_header_is_the_one_that_tarfile_makes(tmp_path: Path) -> None:
    write(tmp_path, [("dogs/rex-1f3a9c2b-ac", [("jpg", b"x" * 700)])], max_size=10**9)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("dogs/rex-1f3a9c2b-ac.jpg")
        info.size, info.mode = 700, 0o644
        tar.addfile(info, io.BytesIO(b"x" * 700))
    assert (tmp_path / "x-000.tar").read_bytes() == buffer.getvalue()


def test_a_series_that_fails_leaves_only_tars_that_were_full(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)

    def write_and_fail() -> None:
        with TarSeries(store, lambda n: f"x-{n}.tar", max_size=1) as tars:
            tars.add("a", [("jpg", b"1")])
            tars.add("b", [("jpg", b"2")])
            raise KaleidoscopeError("something else")

    with pytest.raises(KaleidoscopeError):
        write_and_fail()
    assert [info.key for info in store.list_objects()] == ["x-0.tar"]


def test_no_sample_makes_no_tar(tmp_path: Path) -> None:
    with TarSeries(LocalStore(tmp_path), lambda n: f"x-{n}.tar"):
        pass
    assert list(tmp_path.iterdir()) == []
