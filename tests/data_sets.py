"""Small data sets, the recipes that tests make of them, and what a whole destination is."""

import functools
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from kaleidoscope import pipeline
from kaleidoscope.errors import ObjectMissingError
from kaleidoscope.identity import CARD_KEY, METADATA_KEY
from kaleidoscope.lineage import read_manifest
from kaleidoscope.pipeline import StartOptions
from kaleidoscope.recipe import Recipe
from kaleidoscope.runs import Report, Run
from kaleidoscope.stores import LocalStore, Store, open_store
from tests import image_files as files

PHOTOS = Path(__file__).parents[1] / "examples" / "photos"
NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)

MANY_SHARDS = StartOptions(min_shards=1_000)
"""One shard for each source."""


def recipe(*, steps: int = 3, side: int = 24, **fields: Any) -> Recipe:
    """A quick recipe of up to three transforms: geometry, colour and noise."""
    transforms = ["Rotate", "Contrast", "Noise"][:steps]
    fields = {"normalize": {"side": side}, "seed": 7, **fields}
    return Recipe.from_mapping({"transforms": transforms, **fields})


@functools.cache
def odd_images() -> Mapping[str, bytes]:
    """Files of every format, some of odd names, and three photographs."""
    whole = files.whole_files()
    return {
        "top.png": whole["PNG with alpha"],
        "dogs/rex.jpg": whole["progressive JPEG"],
        "dogs/rex.png": whole["palette PNG"],
        "dogs/rex.v2.JPG": whole["JPEG with a thumbnail"],
        "dogs/big/rex.jpg": whole["grey JPEG"],
        "Hündinnen/ä ö 🐕.jpeg": whole["CMYK JPEG"],
        "a b/c+d%20&=.webp": whole["lossy WebP"],
        "a b/#?;~[1]*'\".bmp": whole["BMP"],
        "a-b/pages.tif": whole["TIFF of pages"],
        f"{'long' * 30}/{'name' * 45}.tiff": whole["TIFF"],
        **{
            f"photos/{name}.jpg": (PHOTOS / name).with_suffix(".jpg").read_bytes()
            for name in ("animals/cat", "buildings/igloo", "people/photographer")
        },
    }


@functools.cache
def plain_images(count: int) -> Mapping[str, bytes]:
    """So many small JPEGs in two folders, no two alike."""
    return {
        f"{'ab'[i % 2]}/{i:03d}.jpg": files.opencv(".jpg", files.picture(40 + i, 30 + i // 3))
        for i in range(count)
    }


def put_all(store: Store, images: Mapping[str, bytes]) -> None:
    for key, data in images.items():
        store.put(key, data)


@dataclass(frozen=True)
class Place:
    """A data set's source and destination."""

    source: Store
    destination: Store

    def start(self, made: Recipe, options: StartOptions = MANY_SHARDS, now: datetime = NOW) -> Run:
        return pipeline.start_run(self.source, self.destination, made, now=now, options=options)

    def run(
        self,
        made: Recipe,
        options: StartOptions = MANY_SHARDS,
        *,
        workers: int = 2,
        order: Callable[[Iterable[int]], Iterable[int]] = iter,
        now: datetime = NOW,
    ) -> Report:
        run = self.start(made, options, now)
        for index in order(list(range(run.plan.num_shards))):
            pipeline.run_shard(self.source, self.destination, run, index, workers=workers, now=now)
        return pipeline.commit_run(self.destination, run, now=now)

    def rows(self) -> pd.DataFrame:
        return read_manifest(self.destination)

    def output_keys(self) -> set[str]:
        """All that lies in the destination beside the records and what describes it."""
        try:
            infos = list(self.destination.list_objects())
        except ObjectMissingError:  # A folder that the first write makes.
            return set()
        ours = {CARD_KEY, METADATA_KEY}
        return {
            info.key
            for info in infos
            if not info.key.startswith("_kaleidoscope/") and info.key not in ours
        }


def local(folder: Path, images: Mapping[str, bytes]) -> Place:
    place = Place(LocalStore(folder / "source"), LocalStore(folder / "destination"))
    put_all(place.source, images)
    return place


def of_each_kind(request: pytest.FixtureRequest, folder: Path, count: int) -> Place:
    """So many plain images, in folders or in S3 as the parameter of a fixture says."""
    if request.param == "local":
        return local(folder, plain_images(count))
    uri = request.getfixturevalue("s3_uri")
    options = {
        "settings": request.getfixturevalue("s3_settings"),
        "credentials": request.getfixturevalue("s3_credentials"),
    }
    made = Place(open_store(f"{uri}/in", **options), open_store(f"{uri}/out", **options))
    put_all(made.source, plain_images(count))
    return made


def run_twice(folder: Path, made: Recipe, data: bytes) -> Place:
    """Two runs: two sources, then one of them repaired and another that fails."""
    place = local(folder, {"a.jpg": data, "b.jpg": b"x"})
    place.run(made)
    place.source.put("b.jpg", data + b"after the end")
    place.source.put("c.jpg", b"")
    place.run(made, now=NOW + timedelta(days=1))
    return place


def outputs(place: Place) -> dict[str, bytes]:
    """The bytes of every output."""
    return {key: place.destination.get(key).data for key in place.output_keys()}


def facts(place: Place) -> list[dict[str, Any]]:
    """All that the manifest says, without which run said it and when, and the stores' names."""
    rows = place.rows().drop(columns=["run_id", "created_at", "shard", "source_root"])
    rows = rows.drop(columns=["source_etag", "source_version_id"])
    rows = rows.sort_values("output_id").astype(object)
    rows = rows.where(rows.notna(), None)
    return [dict(zip(rows.columns, row, strict=True)) for row in rows.itertuples(index=False)]


def check_whole(place: Place) -> None:
    """Every row has its object, with its hash and size, and there is nothing else."""
    rows = place.rows()
    assert rows["output_id"].is_unique
    made = rows[rows["status"] == "ok"]
    assert made["output_key"].is_unique
    assert place.output_keys() == set(made["output_key"])
    for key, sha256, size in made[["output_key", "sha256", "size"]].itertuples(index=False):
        data = place.destination.get(key).data
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (sha256, size), key
