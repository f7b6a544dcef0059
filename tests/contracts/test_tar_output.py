"""Outputs in tars: the images of single files, whoever reads them and however they are made."""

import gc
import hashlib
import io
import json
import signal
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import webdataset

from kaleidoscope.errors import StoreError
from kaleidoscope.pipeline import StartOptions
from kaleidoscope.recipe import Recipe
from kaleidoscope.settings import Settings
from kaleidoscope.shard import _sinks
from kaleidoscope.stores import LocalStore, S3Credentials, open_store
from kaleidoscope.tars import TarSeries
from tests import data_sets, image_files, interrupted_run
from tests.data_sets import MANY_SHARDS, NOW, Place
from tests.faulty_stores import WRITES, DownFrom, Requests, WatchedStore

TARS = {"format": "jpeg", "container": "webdataset"}
RECIPE = data_sets.recipe(output=TARS)
TWO_SHARDS = StartOptions(min_shards=2)

WRITES_OF_A_PLAN = 12
"""Of ten shards: the run's name, a file for each shard, and the plan."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The same images, each as an object."""
    place = data_sets.local(tmp_path_factory.mktemp("files"), data_sets.odd_images())
    place.run(data_sets.recipe(), TWO_SHARDS)
    return place


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """The odd images, not run yet, with a destination of each kind."""
    local = data_sets.local(tmp_path, data_sets.odd_images())
    if request.param == "local":
        return local
    settings: Settings = request.getfixturevalue("s3_settings")
    credentials: S3Credentials = request.getfixturevalue("s3_credentials")
    uri: str = request.getfixturevalue("s3_uri")
    return Place(local.source, open_store(uri, settings=settings, credentials=credentials))


def images_of(place: Place) -> dict[str, bytes]:
    """Every image of the manifest by its name, read by a range request."""
    rows = place.rows()
    rows = rows[rows["status"] == "ok"]
    columns = ("output_key", "tar_key", "offset", "length", "sha256", "size")
    found = {}
    for key, tar, offset, length, sha256, size in rows[list(columns)].itertuples(index=False):
        data = place.destination.get_range(tar, offset=offset, length=length)
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (sha256, size)
        found[key] = data
    return found


def members_of(place: Place) -> dict[str, bytes]:
    """Every member of every tar by its name, in order, as Python reads them."""
    found: dict[str, bytes] = {}
    for key in sorted(place.output_keys()):
        with tarfile.open(fileobj=io.BytesIO(place.destination.get(key).data)) as tar:
            for info in tar:
                member = tar.extractfile(info)
                assert member is not None
                assert info.name not in found
                found[info.name] = member.read()
    return found


def test_ranges_tars_and_single_files_hold_the_same_images(place: Place, files: Place) -> None:
    report = place.run(RECIPE, TWO_SHARDS)
    images = images_of(place)
    assert images == data_sets.outputs(files)
    assert len(images) == report.num_outputs
    members = members_of(place)
    assert {name: data for name, data in members.items() if not name.endswith(".json")} == images
    rows = place.rows().set_index("output_key")
    assert list(dict.fromkeys(name.rpartition(".")[0] for name in members)) == [
        key.rpartition(".")[0] for key in rows.index
    ]
    for key, row in rows.iterrows():
        about = json.loads(members[str(key).rpartition(".")[0] + ".json"])
        names = ("output_id", "source_id", "source_key", "node", "label")
        assert about == {name: None if row[name] != row[name] else row[name] for name in names}


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # By webdataset.
def test_webdataset_reads_every_sample(place: Place, files: Place, tmp_path: Path) -> None:
    place.run(RECIPE, TWO_SHARDS)
    paths = []
    for key in sorted(place.output_keys()):
        path = tmp_path / key
        path.write_bytes(place.destination.get(key).data)
        paths.append(str(path))
    assert len(paths) == 2
    samples: list[Any] = list(webdataset.WebDataset(paths, shardshuffle=False))
    gc.collect()  # Here, where the warning is expected.
    images = {f"{sample['__key__']}.jpg": sample["jpg"] for sample in samples}
    assert images == data_sets.outputs(files)
    for sample in samples:
        about = json.loads(sample["json"])
        assert sample["__key__"].endswith(f"{about['source_id'][:8]}-{about['node']}")


@pytest.mark.parametrize("workers", [1, 5])
def test_any_number_of_workers_writes_the_same_tars(tmp_path: Path, workers: int) -> None:
    written = []
    for number in (2, workers):
        place = data_sets.local(tmp_path / f"{number}", data_sets.odd_images())
        place.run(RECIPE, TWO_SHARDS, workers=number)
        written.append(data_sets.outputs(place))
    assert written[0] == written[1]


def test_outputs_that_must_wait_for_their_turn_are_written_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = data_sets.local(tmp_path / "undisturbed", data_sets.plain_images(12))
    undisturbed.run(RECIPE, StartOptions())
    monkeypatch.setattr(_sinks, "OUTPUTS_AHEAD_PER_WORKER", 0)
    monkeypatch.setattr(_sinks, "MAX_OUTPUTS_WAITING", 1)
    place = data_sets.local(tmp_path / "narrow", data_sets.plain_images(12))
    place.run(RECIPE, StartOptions(), workers=6)
    assert data_sets.outputs(place) == data_sets.outputs(undisturbed)


def test_a_full_tar_is_followed_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: Place
) -> None:
    class Small(TarSeries):
        def __init__(
            self, store: LocalStore, key_of: Callable[[int], str], *, check: Callable[[], None]
        ) -> None:
            super().__init__(store, key_of, check=check, max_size=20_000)

    monkeypatch.setattr(_sinks, "TarSeries", Small)
    place = data_sets.local(tmp_path, data_sets.odd_images())
    place.run(RECIPE, StartOptions())
    assert len(place.output_keys()) > 3
    assert images_of(place) == data_sets.outputs(files)


def test_a_bad_source_is_a_row_and_no_member(tmp_path: Path) -> None:
    bad = {"a/cut.jpg": image_files.whole_files()["baseline JPEG"][:-400], "b/empty.jpg": b""}
    place = data_sets.local(tmp_path, {**data_sets.plain_images(3), **bad})
    report = place.run(RECIPE, StartOptions())
    assert (report.num_failed, report.num_outputs) == (2, 24)
    failed = place.rows().query("status == 'failed'")
    assert failed[["output_key", "tar_key", "offset", "length"]].isna().all(axis=None)
    assert len(members_of(place)) == 2 * 24


def test_a_run_that_loses_its_store_at_any_write_leaves_the_same_tars(tmp_path: Path) -> None:
    undisturbed = data_sets.local(tmp_path / "undisturbed", data_sets.plain_images(3))
    undisturbed.run(RECIPE, TWO_SHARDS)
    writes = Requests()
    counted = data_sets.local(tmp_path / "counted", data_sets.plain_images(3))
    Place(counted.source, WatchedStore(counted.destination, before=writes)).run(RECIPE, TWO_SHARDS)
    num_writes = len(writes.keys(*WRITES))
    assert num_writes == 4 + 2 * 2 + 3
    for number in range(1, num_writes + 1):
        place = data_sets.local(tmp_path / f"{number}", data_sets.plain_images(3))
        broken = WatchedStore(place.destination, before=DownFrom(number))
        with pytest.raises(StoreError, match="is down"):
            Place(place.source, broken).run(RECIPE, TWO_SHARDS)
        whole = set(data_sets.outputs(undisturbed).values())
        assert set(data_sets.outputs(place).values()) <= whole
        place.run(RECIPE, TWO_SHARDS)
        # A run that died while it was planning leaves its name to nobody.
        assert sorted(data_sets.outputs(place).values()) == sorted(whole)
        assert images_of(place) == images_of(undisturbed)


@pytest.fixture(scope="module")
def forty(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Forty sources in tars, done undisturbed."""
    place = data_sets.local(tmp_path_factory.mktemp("forty"), data_sets.plain_images(40))
    place.run(interrupted_run.IN_TARS, interrupted_run.TEN_SHARDS)
    return place


def check_killed(
    place: Place,
    undisturbed: Place,
    ends: tuple[int, int],
    settings: Settings | None = None,
    credentials: S3Credentials | None = None,
) -> None:
    """Run into a kill that leaves so many tars and so many parts, and then to the end."""
    num_tars, num_parts = ends
    # Each shard ends a tar and then writes its part; it dies before the next of these.
    process = interrupted_run.start(
        place,
        recipe=interrupted_run.IN_TARS,
        die_at=WRITES_OF_A_PLAN + num_tars + num_parts + 1,
        settings=settings,
        credentials=credentials,
    )
    process.join(100)
    assert process.exitcode == -signal.SIGKILL
    left = data_sets.outputs(place)
    assert len(left) == num_tars
    infos = place.destination.list_objects("_kaleidoscope/runs/")
    assert sum("/parts/" in info.key for info in infos) == num_parts
    place.run(interrupted_run.IN_TARS, interrupted_run.TEN_SHARDS)
    tars = data_sets.outputs(place)
    assert left.items() <= tars.items()
    assert sorted(tars.values()) == sorted(data_sets.outputs(undisturbed).values())
    assert images_of(place) == images_of(undisturbed)


@pytest.mark.parametrize("ends", [(2, 2), (3, 2)])
def test_a_process_that_is_killed_leaves_whole_tars_and_is_resumed(
    tmp_path: Path, forty: Place, ends: tuple[int, int]
) -> None:
    check_killed(data_sets.local(tmp_path, data_sets.plain_images(40)), forty, ends)


@pytest.mark.parametrize("ends", [(2, 2), (3, 2)])
def test_a_process_that_is_killed_leaves_whole_tars_in_s3_and_is_resumed(
    forty: Place,
    s3_uri: str,
    s3_settings: Settings,
    s3_credentials: S3Credentials,
    ends: tuple[int, int],
) -> None:
    destination = open_store(s3_uri, settings=s3_settings, credentials=s3_credentials)
    place = Place(forty.source, destination)
    check_killed(place, forty, ends, s3_settings, s3_credentials)


def test_a_later_run_writes_over_no_tar_of_an_earlier_one(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, data_sets.plain_images(3))
    place.run(RECIPE, MANY_SHARDS)
    first = data_sets.outputs(place)
    place.source.put("a/new.jpg", data_sets.plain_images(9)["b/007.jpg"])
    place.run(RECIPE, MANY_SHARDS)
    both = data_sets.outputs(place)
    assert {name: data for name, data in both.items() if name in first} == first
    assert len(both) == 4
    assert len(images_of(place)) == 4 * 8


def test_a_plan_counts_requests_of_uploads_and_not_images(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, data_sets.plain_images(3))
    large: Recipe = data_sets.recipe(side=1024, output=TARS)
    plan = place.start(large, StartOptions(), NOW).plan
    assert (plan.num_outputs, plan.num_shards) == (24, 1)
    # 24 images of 270 KB are less than a part. The upload begins, has a last part and ends.
    assert plan.num_puts == 1 + (3 + 2) + 5
