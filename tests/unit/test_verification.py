import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kaleidoscope import pipeline
from kaleidoscope.errors import ManifestError, SettingsError, StoreError
from kaleidoscope.increments import gone_sources
from kaleidoscope.lineage import Lineage
from kaleidoscope.pipeline import StartOptions, run_shard
from kaleidoscope.runs import RunKeys
from kaleidoscope.stores import LocalStore, Store
from kaleidoscope.verification import (
    EXAMPLES,
    Verification,
    VerifyOptions,
    replay_outputs,
    verify,
)
from tests import data_sets
from tests.data_sets import NOW, Place
from tests.faulty_stores import Action, WatchedStore

RECIPE = data_sets.recipe(steps=2, side=16)
REPLAY = VerifyOptions(replays=True)


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    made = data_sets.of_each_kind(request, tmp_path, 4)
    made.run(RECIPE)
    return made


@pytest.fixture
def local(tmp_path: Path) -> Place:
    made = data_sets.local(tmp_path, data_sets.plain_images(4))
    made.run(RECIPE)
    return made


def check(place: Place, options: VerifyOptions | None = None) -> Verification:
    return verify(
        place.destination, options=options or VerifyOptions(), open_source=lambda _: place.source
    )


def an_output(place: Place, number: int = 5) -> str:
    return str(Lineage(place.destination).to_pandas(["output_key"])["output_key"].iloc[number])


def test_a_run_is_as_its_manifest_says_and_replays(place: Place) -> None:
    found = check(place, REPLAY)
    assert found.is_whole
    assert (found.num_rows, found.num_read) == (16, 16)
    assert found.replays == {"identical": 16}
    assert found.size_read == sum(
        info.size for info in place.destination.list_objects() if info.key.endswith(".jpg")
    )
    assert json.loads(found.to_json())["num_problems"] == {}


def test_what_is_missing_changed_or_too_much_is_named(place: Place) -> None:
    gone, cut, changed = (an_output(place, number) for number in (2, 7, 11))
    place.destination.delete([gone])
    place.destination.put(cut, place.destination.get(cut).data[:-1])
    data = bytearray(place.destination.get(changed).data)
    data[-10] ^= 1
    place.destination.put(changed, bytes(data))
    place.destination.put("0-first/stray.jpg", b"who made this?")
    place.destination.put("z-last/stray.jpg", b"who made this?")
    found = check(place)
    assert not found.is_whole
    assert {(problem.kind, problem.key) for problem in found.examples} == {
        ("missing", gone),
        ("wrong_size", cut),
        ("wrong_hash", cut),
        ("wrong_hash", changed),
        ("unknown_object", "0-first/stray.jpg"),
        ("unknown_object", "z-last/stray.jpg"),
    }
    assert found.num_problems == {
        "missing": 1,
        "wrong_size": 1,
        "wrong_hash": 2,
        "unknown_object": 2,
    }


def test_sources_that_changed_or_went_away_are_named(place: Place) -> None:
    gone, changed = sorted(info.key for info in place.source.list_objects())[:2]
    place.source.delete([gone])
    place.source.put(changed, b"another photograph")
    place.source.put("a/new.jpg", b"new ones are no concern of the outputs")
    found = check(place)
    assert {(p.kind, p.key) for p in found.examples} == {
        ("source_gone", gone),
        ("source_changed", changed),
    }
    assert check(place, VerifyOptions(sources=False)).is_whole


def test_a_source_that_was_written_again_as_it_was_has_not_changed(local: Place) -> None:
    again, other = sorted(info.key for info in local.source.list_objects())[:2]
    data = local.source.get(again).data
    local.source.put(again, data)
    size = local.source.head(other).size
    local.source.put(other, bytes(size))
    found = check(local)
    assert {(p.kind, p.key) for p in found.examples} == {("source_changed", other)}


def test_sources_that_cannot_be_read_are_said_to_be(local: Place, tmp_path: Path) -> None:
    found = verify(
        local.destination,
        options=VerifyOptions(),
        open_source=lambda _: LocalStore(tmp_path / "unmounted"),
    )
    assert found.num_problems == {"sources_unreadable": 1}


def test_the_card_and_the_table_for_loaders_are_no_strangers(local: Place) -> None:
    local.destination.put("README.md", b"# Data set")
    local.destination.put("metadata.parquet", b"")
    assert check(local).is_whole


def test_a_sample_reads_so_many_and_another_seed_others(local: Place) -> None:
    assert check(local, VerifyOptions(sample=0)).num_read == 0
    half = [check(local, VerifyOptions(sample=0.5, seed=seed)) for seed in range(8)]
    assert all(0 < found.num_read < 16 for found in half)
    assert len({found.size_read for found in half}) > 1
    with pytest.raises(SettingsError, match=r"got 2"):
        check(local, VerifyOptions(sample=2))


def test_a_report_names_the_first_and_counts_all(local: Place) -> None:
    for number in range(EXAMPLES + 5):
        local.destination.put(f"stray/{number:02d}.jpg", b"")
    found = check(local)
    assert found.num_problems == {"unknown_object": EXAMPLES + 5}
    assert len(found.examples) == EXAMPLES


def test_without_a_commit_there_is_nothing_to_verify(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no run is committed"):
        verify(LocalStore(tmp_path), options=VerifyOptions(), open_source=LocalStore)


def rewrite(destination: Store, column: str, values: list[object], *, only: str) -> None:
    """Give the row of one output another value, as another version would have written it."""
    run_id = Lineage(destination).runs[0]
    key = RunKeys(run_id).manifest_file(0)
    table = pq.read_table(io.BytesIO(destination.get(key).data))
    place = table.column("output_key").to_pylist().index(only)
    changed = table.column(column).to_pylist()
    changed[place] = values[0]
    index = table.schema.get_field_index(column)
    field = table.schema.field(index)
    buffer = io.BytesIO()
    pq.write_table(table.set_column(index, field, pa.array(changed, field.type)), buffer)
    destination.put(key, buffer.getvalue())


def write_as_if(place: Place, key: str, data: bytes) -> None:
    """Let an output be what another OpenCV had made of it."""
    place.destination.put(key, data)
    rewrite(place.destination, "sha256", [hashlib.sha256(data).hexdigest()], only=key)
    rewrite(place.destination, "size", [len(data)], only=key)
    rewrite(place.destination, "opencv_version", ["4.13.0"], only=key)


def test_another_opencv_is_named_and_is_no_corruption(local: Place) -> None:
    key, other = an_output(local, 1), an_output(local, 6)
    # Another encoding of the same pixels: a comment in the file.
    data = local.destination.get(key).data
    write_as_if(local, key, data[:2] + b"\xff\xfe\x00\x06abcd" + data[2:])
    found = check(local, REPLAY)
    assert found.is_whole
    assert found.replays == {"identical": 15, "equivalent": 1}
    assert found.changed_versions["opencv"].startswith("4.13.0 made it, ")
    # Other pixels altogether.
    write_as_if(local, key, local.destination.get(other).data)
    found = check(local, REPLAY)
    assert found.num_problems == {"different": 1}
    assert found.largest_difference > 16
    assert "made with opencv 4.13.0, replayed with " in found.examples[0].detail


def test_outputs_are_replayed_by_their_keys(place: Place) -> None:
    lineage = Lineage(place.destination)
    keys = [an_output(place, number) for number in (3, 9)]
    found = replay_outputs(lineage, keys, open_source=lambda _: place.source)
    assert [(output.output_key, output.outcome) for output in found] == [
        (key, "identical") for key in keys
    ]
    with pytest.raises(ManifestError, match=r"has the output dogs/none\.jpg"):
        replay_outputs(lineage, ["dogs/none.jpg"], open_source=lambda _: place.source)


def test_a_replay_tells_corruption_from_a_changed_source(local: Place) -> None:
    corrupt, orphan = an_output(local, 0), an_output(local, 15)
    local.destination.put(corrupt, b"flipped")
    lineage = Lineage(local.destination)
    source = lineage.to_pandas(["source_key", "output_key"]).set_index("output_key")["source_key"]
    local.source.put(source[orphan], b"another photograph")
    found = replay_outputs(lineage, [corrupt, orphan], open_source=lambda _: local.source)
    assert [output.outcome for output in found] == ["corrupt", "not_replayable"]
    assert "the source has changed since" in found[1].detail
    assert not any(output.is_right for output in found)


def test_members_of_tars_are_read_where_their_rows_say(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, data_sets.plain_images(4))
    place.run(data_sets.recipe(steps=2, side=16, output={"container": "webdataset"}))
    found = check(place, REPLAY)
    assert found.is_whole
    assert found.replays == {"identical": 16}
    first = Lineage(place.destination).to_pandas(["output_key", "tar_key", "offset"]).iloc[0]
    tar = bytearray(place.destination.get(first["tar_key"]).data)
    tar[int(first["offset"]) + 9] ^= 1
    place.destination.put(first["tar_key"], bytes(tar))
    found = check(place)
    assert [(p.kind, p.key) for p in found.examples] == [("wrong_hash", first["output_key"])]
    place.destination.put(first["tar_key"], bytes(tar[:100]))
    assert check(place).num_problems == {"wrong_hash": 4, "damaged": 1}
    place.destination.delete([first["tar_key"]])
    found = check(place)
    assert [(p.kind, p.key) for p in found.examples] == [("missing", first["tar_key"])]


def members(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {info.name: info for info in tar}


def with_other_json(data: bytes, name: str) -> bytes:
    start = members(data)[f"{name[:-4]}.json"].offset_data
    return data[:start] + data[start:].replace(b'"label":"a"', b'"label":"b"', 1)


def with_a_broken_header(data: bytes, name: str) -> bytes:
    start = members(data)[name].offset
    return data[:start] + b"?" + data[start + 1 :]


def with_another_name(data: bytes, name: str) -> bytes:
    found = members(data)[name]
    found.name = found.name.replace("-", "_")
    end = found.offset + tarfile.BLOCKSIZE
    return data[: found.offset] + found.tobuf(tarfile.PAX_FORMAT) + data[end:]


def without_its_end(data: bytes, name: str) -> bytes:
    assert name.encode() in data
    return data[: data.rindex(b"}") + tarfile.BLOCKSIZE]


DAMAGES = [
    (with_other_json, ".json says other than the manifest"),
    (with_a_broken_header, "no whole header at byte"),
    (with_another_name, "has the name and size of"),
    (without_its_end, "neither a whole header nor the tar's end"),
]


@pytest.fixture(params=[1024 * 1024, 1])
def in_tars(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Place:
    """A tar of three sources and a fourth between them that no longer stands, read as a whole or
    member by member."""
    monkeypatch.setattr("kaleidoscope.verification._tars._PART_SIZE", request.param)
    place = data_sets.local(tmp_path, data_sets.plain_images(4))
    place.run(
        data_sets.recipe(steps=2, side=16, output={"container": "webdataset"}), StartOptions()
    )
    place.source.delete(["a/002.jpg"])
    pipeline.take_out(
        place.destination,
        list(
            gone_sources(
                place.source.list_objects(), place.destination, Lineage(place.destination).runs
            )
        ),
        now=NOW + timedelta(days=1),
    )
    return place


@pytest.mark.parametrize(("damage", "detail"), DAMAGES)
def test_a_tar_that_readers_of_tars_would_stumble_over_is_damaged(
    in_tars: Place, damage: Callable[[bytes, str], bytes], detail: str
) -> None:
    assert check(in_tars).is_whole
    rows = Lineage(in_tars.destination).to_pandas(["output_key", "tar_key"])
    name, tar_key = rows.iloc[2]
    data = in_tars.destination.get(tar_key).data
    in_tars.destination.put(tar_key, damage(data, name))
    found = check(in_tars)
    assert [(p.kind, p.key) for p in found.examples] == [("damaged", tar_key)]
    assert detail in found.examples[0].detail
    assert found.num_read == 12
    assert check(in_tars, VerifyOptions(sample=0.999)).is_whole


def test_what_an_unfinished_run_made_is_said_to_be_perhaps_its(local: Place) -> None:
    local.source.put("b/new.jpg", data_sets.plain_images(9)["a/008.jpg"])
    run = local.start(RECIPE, now=NOW + timedelta(days=1))
    run_shard(local.source, local.destination, run, 0, workers=1, now=NOW)
    found = check(local)
    assert found.num_problems == {"unknown_object": 4}
    assert f"run {run.run_id} is not finished" in found.examples[0].detail


@pytest.mark.parametrize("container", ["files", "webdataset"])
def test_a_store_that_is_down_is_no_damage(tmp_path: Path, container: str) -> None:
    place = data_sets.local(tmp_path, data_sets.plain_images(2))
    place.run(data_sets.recipe(steps=1, side=16, output={"container": container}))

    def fail(action: Action, key: str) -> None:
        if action == "get" and not key.startswith("_kaleidoscope/"):
            raise StoreError("the store is down")

    with pytest.raises(StoreError, match="the store is down"):
        check(Place(place.source, WatchedStore(place.destination, before=fail)))


REPAIR = VerifyOptions(repairs=True)


def test_what_is_missing_or_damaged_is_made_again_with_the_same_bytes(place: Place) -> None:
    before = data_sets.outputs(place)
    gone, cut = (an_output(place, number) for number in (2, 7))
    place.destination.delete([gone])
    place.destination.put(cut, place.destination.get(cut).data[:-1])
    found = check(place, REPAIR)
    assert found.is_whole
    assert (found.num_repaired, found.num_read) == (2, found.num_rows)
    assert data_sets.outputs(place) == before
    assert check(place, REPAIR).num_repaired == 0


def test_what_cannot_be_made_again_as_it_was_is_said_and_nothing_is_written(
    local: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed, other = (an_output(local, number) for number in (2, 7))
    rows = local.rows().set_index("output_key")
    local.source.put(str(rows.loc[changed, "source_key"]), b"another photograph")
    local.destination.delete([changed, other])
    again = "kaleidoscope.verification._files.replay"
    monkeypatch.setattr(again, lambda *_: b"the bytes of another OpenCV")
    found = check(local, REPAIR)
    assert found.num_problems["missing"] == found.num_problems["not_repairable"] == 2
    assert found.num_repaired == 0
    (why,) = [one.detail for one in found.examples if (one.kind, one.key) == ("missing", other)]
    assert "no object is there" in why
    monkeypatch.undo()
    details = {p.key: p.detail for p in check(local, REPAIR).examples if p.kind == "not_repairable"}
    assert details.keys() == {changed}
    assert "has changed since" in details[changed]
    with pytest.raises(SettingsError, match="a repair looks at every output"):
        check(local, VerifyOptions(repairs=True, sample=0.5))


def test_a_member_of_a_tar_is_not_repaired(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, data_sets.plain_images(2))
    place.run(data_sets.recipe(steps=1, side=16, output={"container": "webdataset"}))
    (tar_key,) = place.output_keys() & set(place.rows()["tar_key"].iloc[:1])
    place.destination.delete([tar_key])
    found = check(place, REPAIR)
    assert f"a member of {tar_key}, which" in found.examples[0].detail
    assert "another destination" in found.examples[0].detail
    assert not place.output_keys() & {tar_key}
