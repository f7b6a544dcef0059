from datetime import timedelta
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from kaleidoscope.errors import ManifestError, SplitError
from kaleidoscope.increments import gone_sources
from kaleidoscope.lineage import Lineage
from kaleidoscope.manifest import SCHEMA
from kaleidoscope.pipeline import StartOptions, take_out
from kaleidoscope.splits import audit_split
from kaleidoscope.stores import LocalStore
from tests import data_sets, image_files, manifests
from tests.data_sets import NOW, Place

RECIPE = data_sets.recipe(steps=2, side=16)
ADDED = {
    f"new/{i}.jpg": image_files.opencv(".jpg", image_files.picture(40 + i, 40)) for i in range(6)
}


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, Lineage]:
    """A split of 30 sources, and the lineage when six more have come."""
    place = data_sets.local(tmp_path_factory.mktemp("grown"), data_sets.plain_images(30))
    place.run(RECIPE, StartOptions())
    before = Lineage(place.destination).split(0.5, 0.25, 0.25, seed=3, save_as="half")
    data_sets.put_all(place.source, ADDED)
    place.run(RECIPE, StartOptions(), now=NOW + timedelta(days=1))
    return before, Lineage(place.destination)


def test_a_split_has_whole_families_in_train_and_originals_elsewhere(
    grown: tuple[pd.DataFrame, Lineage],
) -> None:
    rows, _ = grown
    assert list(rows.columns) == [*(n for n in SCHEMA.names if n != "split"), "split"]
    assert rows["source_id"].nunique() == 30
    audit_split(rows, originals_only=("val", "test"))
    sizes = rows.groupby(["split", "source_id"]).size().groupby("split").unique()
    assert {name: list(found) for name, found in sizes.items()} == {
        "train": [4],
        "val": [1],
        "test": [1],
    }
    counts = rows.groupby(["label", "split"])["source_id"].nunique()
    assert counts.xs("train", level="split").between(6, 9).all()
    assert counts.xs("val", level="split").between(2, 5).all()


def test_a_source_keeps_its_split_when_a_run_adds_others(
    grown: tuple[pd.DataFrame, Lineage],
) -> None:
    before, lineage = grown
    after = lineage.split(0.5, 0.25, 0.25, seed=3)
    assert after["source_id"].nunique() == 36
    known = after[after["source_id"].isin(before["source_id"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(known, before)


def test_a_saved_split_refuses_what_came_since_until_it_is_extended(
    grown: tuple[pd.DataFrame, Lineage],
) -> None:
    before, lineage = grown
    columns = ["output_key", "sha256"]
    old = [("label", "in", ["a", "b"])]
    again = lineage.load_split("half", columns=columns, filter=old)
    pd.testing.assert_frame_equal(again, before[[*columns, "split"]])
    with pytest.raises(SplitError, match="came after the split was saved"):
        lineage.load_split("half")
    with pytest.raises(SplitError, match="choose another name"):
        lineage.split(0.5, 0.25, 0.25, seed=4, save_as="half")
    extended = lineage.split(0.5, 0.25, 0.25, seed=3, save_as="half")
    pd.testing.assert_frame_equal(lineage.load_split("half"), extended)
    with pytest.raises(SplitError, match=r"has no split 'full'; it has \['half'\]"):
        lineage.load_split("full")
    assert lineage.saved_splits() == ("half",)
    with pytest.raises(SplitError, match="a split's name"):
        lineage.load_split("../runs")
    lineage.store.put("_kaleidoscope/splits/cut.parquet", b"PAR1")
    with pytest.raises(SplitError, match="is no saved split"):
        lineage.load_split("cut")


def test_a_split_without_originals_among_the_outputs_is_refused(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, data_sets.plain_images(10))
    place.run(data_sets.recipe(steps=1, side=16, select={"keep_original": False}), StartOptions())
    lineage = Lineage(place.destination)
    with pytest.raises(SplitError, match="keep_original, or pass originals_only"):
        lineage.split(0.4, 0.3, 0.3)
    rows = lineage.split(0.4, 0.3, 0.3, originals_only=())
    assert len(rows) == 10
    with pytest.raises(SplitError, match="source, near_duplicate; got 'near_duplicates'"):
        lineage.split(by="near_duplicates")  # type: ignore[arg-type] # a notebook checks none.
    with pytest.raises(SplitError, match=r"originals_only names splits \['valid'\]"):
        lineage.split(originals_only=["valid"])
    with pytest.raises(ManifestError, match=r"no columns \['breed'\]"):
        lineage.split(stratify="breed")


def test_a_split_of_which_all_sources_were_pruned_is_empty(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, data_sets.plain_images(10))
    place.run(RECIPE, StartOptions())
    before = Lineage(place.destination).split(0.5, 0.2, 0.3, save_as="first")
    gone = sorted(set(before.loc[before["split"] == "val", "source_key"]))
    assert gone
    place.source.delete(gone)
    runs = Lineage(place.destination).runs
    sources = list(gone_sources(place.source.list_objects(), place.destination, runs))
    take_out(place.destination, sources, now=NOW + timedelta(days=1))
    lineage = Lineage(place.destination)
    for rows in (lineage.load_split("first"), lineage.split(0.5, 0.2, 0.3, save_as="second")):
        left = before[before["split"] != "val"].reset_index(drop=True)
        pd.testing.assert_frame_equal(rows, left)


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Photographs, and copies of them that are smaller or were compressed again."""
    images = {}
    for path in sorted(data_sets.PHOTOS.rglob("*.jpg")):
        picture = cv2.imread(str(path))
        assert picture is not None
        small = cv2.resize(picture, None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA)
        images[f"first/{path.name}"] = path.read_bytes()
        images[f"again/{path.name}"] = image_files.opencv(".jpg", small.astype(np.uint8))
    place = data_sets.local(tmp_path_factory.mktemp("copied"), images)
    place.run(RECIPE, StartOptions())
    return place


def num_torn(rows: pd.DataFrame) -> int:
    names = rows["source_key"].str.rpartition("/")[2]
    return len([name for name, splits in rows["split"].groupby(names) if len(set(splits)) > 1])


def test_near_duplicates_stay_together_if_asked(copied: Place) -> None:
    lineage = Lineage.open(copied.destination.uri)
    apart = [lineage.split(0.5, 0.25, 0.25, seed=seed) for seed in range(3)]
    together = [lineage.split(0.5, 0.25, 0.25, seed=seed, by="near_duplicate") for seed in range(3)]
    assert min(num_torn(rows) for rows in apart) > 0
    assert [num_torn(rows) for rows in together] == [0, 0, 0]
    assert all(set(rows["split"]) == {"train", "val", "test"} for rows in together)


def test_a_source_that_is_gone_is_like_no_other(
    copied: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lineage = Lineage(copied.destination, open_source=lambda _: LocalStore(tmp_path))
    rows = lineage.split(0.5, 0.25, 0.25, by="near_duplicate")
    pd.testing.assert_frame_equal(rows, lineage.split(0.5, 0.25, 0.25))
    assert "is taken to be like no other: " in caplog.text


def test_a_split_of_a_thousand_sources_shares_none_by_the_names_alone(tmp_path: Path) -> None:
    keys = list(manifests.source_keys([f"class{i}" for i in range(10)], 100))
    run_id = "20261122T120000Z-0123abcd"
    store = LocalStore(tmp_path)
    manifests.commit(store, run_id, [manifests.many_rows(keys, run_id=run_id)])
    rows = Lineage(store).split(originals_only=(), columns=["output_key"])
    assert len(rows) == 64_000
    sources: dict[str, set[str]] = {}
    for key, split in rows.itertuples(index=False):
        digits = key.rpartition("-")[0][-8:]
        sources.setdefault(split, set()).add(digits)
    assert {name: len(found) for name, found in sources.items()} == pytest.approx(
        {"train": 800, "val": 100, "test": 100}, abs=20
    )
    assert sum(map(len, sources.values())) == len(set.union(*sources.values())) == 1_000


def test_copies_of_a_source_stay_together(tmp_path: Path) -> None:
    images = data_sets.plain_images(12)
    copies = {f"copies/{key.replace('/', '-')}": data for key, data in images.items()}
    place = data_sets.local(tmp_path, {**images, **copies})
    place.run(data_sets.recipe(steps=1, side=16), StartOptions())
    rows = Lineage(place.destination).split(0.4, 0.3, 0.3)
    audit_split(rows)
    assert rows["source_sha256"].nunique() == 12
    assert rows["split"].nunique() == 3


def test_sources_that_became_copies_stay_together(tmp_path: Path) -> None:
    images = data_sets.plain_images(12)
    place = data_sets.local(tmp_path, images)
    place.run(RECIPE, StartOptions())
    place.source.put("a/000.jpg", images["b/001.jpg"])
    place.run(RECIPE, StartOptions(), now=NOW + timedelta(days=1))
    for seed in range(8):
        rows = Lineage(place.destination).split(0.5, 0.25, 0.25, seed=seed)
        audit_split(rows)


def test_a_copy_that_comes_later_joins_what_is_saved_though_the_first_is_gone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    photos = sorted(data_sets.PHOTOS.rglob("*.jpg"))
    place = data_sets.local(tmp_path, {f"{path.stem}/0.jpg": path.read_bytes() for path in photos})
    data_sets.put_all(place.source, {f"{p.stem}/1.jpg": _again(p, quality=90) for p in photos})
    place.run(RECIPE, StartOptions())

    def split() -> pd.DataFrame:
        lineage = Lineage.open(place.destination.uri)
        return lineage.split(0.4, 0.3, 0.3, by="near_duplicate", stratify=None, save_as="kept")

    split()
    place.source.delete([f"{path.stem}/0.jpg" for path in photos])
    data_sets.put_all(place.source, {f"{p.stem}/2.jpg": _again(p, quality=80) for p in photos})
    place.run(RECIPE, StartOptions(), now=NOW + timedelta(days=1))
    rows = split()
    folders = rows["source_key"].str.partition("/")[0]
    assert rows["source_key"].nunique() == 3 * len(photos)
    assert set(rows["split"].groupby(folders).nunique()) == {1}
    assert "are in two splits" not in caplog.text


def test_sources_that_became_alike_since_they_were_saved_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = data_sets.plain_images(12)
    place = data_sets.local(tmp_path, images)
    place.run(RECIPE, StartOptions())

    def split() -> pd.DataFrame:
        return Lineage(place.destination).split(0.4, 0.3, 0.3, save_as="kept")

    split_of = split().drop_duplicates("source_key").set_index("source_key")["split"]
    other = next(key for key in images if split_of[key] != split_of["a/000.jpg"])
    place.source.put("a/000.jpg", images[other])
    place.run(RECIPE, StartOptions(), now=NOW + timedelta(days=1))
    split()
    assert "1 pairs of sources that are alike are in two splits" in caplog.text


def _again(path: Path, *, quality: int) -> bytes:
    picture = cv2.imread(str(path))
    assert picture is not None
    done, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    return data.tobytes()
