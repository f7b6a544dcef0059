"""Our whole shard: read, augment, hash, write, record; to memory or to S3, manifest included."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import cast

from benchmarks.variants._interface import Options, Variant
from benchmarks.variants.engine import make_recipe
from kaleidoscope.manifest import RunFacts
from kaleidoscope.model import ObjectInfo, PlannedSource
from kaleidoscope.recipe import Recipe
from kaleidoscope.settings import Settings
from kaleidoscope.shard import augment_shard
from kaleidoscope.stores import Store, StoredObject, open_store


class _Memory:
    """A store in memory, without any input or output; it may forget what is written."""

    uri = "memory"

    def __init__(self, *, keeps: bool) -> None:
        self._keeps = keeps
        self._objects: dict[str, bytes] = {}

    def get(self, key: str) -> StoredObject:
        return StoredObject(ObjectInfo(key, len(self._objects[key]), key), self._objects[key])

    def put(self, key: str, data: bytes) -> None:
        if self._keeps:
            self._objects[key] = data


class _Shard:
    def __init__(self, recipe: Recipe, source: Store, destination: Store, workers: int) -> None:
        self._recipe = recipe
        self._source = source
        self._destination = destination
        self._workers = workers
        self._num_runs = 0
        self._infos: list[ObjectInfo] = []

    def prepare(self, photographs: Sequence[bytes]) -> None:
        self._infos = []
        for index, data in enumerate(photographs):
            key = f"source/{index:03d}.jpg"
            self._source.put(key, data)
            self._infos.append(self._source.get(key).info)

    def run(self, photographs: Sequence[bytes]) -> int:
        del photographs
        self._num_runs += 1
        facts = RunFacts(
            run_id=f"benchmark-{self._num_runs}",
            recipe_digest=self._recipe.digest,
            source_root=self._source.uri,
            seed=self._recipe.seed,
            shard=0,
            flow_run_id=None,
            kaleidoscope_version="",
            opencv_version="",
            numpy_version="",
            created_at=datetime.now(UTC),
        )
        part, stats = augment_shard(
            [PlannedSource(info) for info in self._infos],
            self._source,
            self._destination,
            self._recipe,
            facts,
            workers=self._workers,
        )
        self._destination.put("part.parquet", part)
        return stats.num_outputs


def make_variant(options: Options) -> Variant:
    """Return the shard for :func:`make_recipe`, ``workers`` threads and ``uri``."""
    workers = int(options.get("workers", 1))
    recipe = make_recipe(options)
    uri = options.get("uri")
    if uri is None:
        # They have what a shard uses of a store.
        source, destination = cast(Store, _Memory(keeps=True)), cast(Store, _Memory(keeps=False))
        return _Shard(recipe, source, destination, workers)
    store = open_store(str(uri), settings=Settings.from_environment())
    return _Shard(recipe, store, store, workers)
