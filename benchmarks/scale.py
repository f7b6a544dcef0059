"""Large numbers: listing and planning many keys, writing and reading manifests of many rows.

Each measurement is a process of its own, so that its peak memory is its own:

    python -m benchmarks.scale plan 1000000
    python -m benchmarks.scale manifest 10000000
    python -m benchmarks.scale s3 100000      (needs the environment of an S3 store in URI)
    python -m benchmarks.scale fill 10000000  (writes runs of so many rows to URI)
    python -m benchmarks.scale label 10000000 (reads one class of what fill wrote to URI)
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

from benchmarks.measuring import ROOT
from benchmarks.worker import peak_bytes
from kaleidoscope.errors import ObjectMissingError
from kaleidoscope.identity import output_id, output_key, source_id
from kaleidoscope.lineage import Lineage
from kaleidoscope.manifest import (
    PartWriter,
    Record,
    RunFacts,
    ShardStats,
    SourceFacts,
    merge_parts,
)
from kaleidoscope.model import ObjectInfo
from kaleidoscope.pipeline import StartOptions, start_run
from kaleidoscope.recipe import Recipe
from kaleidoscope.runs import Report, RunKeys
from kaleidoscope.settings import Settings
from kaleidoscope.stores import Store, StoredObject, open_store

ROWS_PER_PART = 100_000
"""As a shard of 1,560 photographs with 64 outputs each has."""

NODES = 64
"""Outputs of a source."""

SOURCES_PER_CLASS = 1_000

NUM_RUNS = 4
"""Runs of a manifest that is read; each has a quarter of every class."""

SHARE_AGAIN = 100
"""A run makes the images of one in so many sources of each run before it again."""

_ODD = int("9e3779b97f4a7c15f39cc0605cedc834" * 2, 16)

_NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Scale:
    """What a number of keys or rows took."""

    number: int
    wall_s: float
    cpu_s: float
    before_bytes: int
    """Peak memory after the imports."""
    peak_bytes: int


def measure(kind: str, number: int, *, environment: dict[str, str] | None = None) -> Scale:
    """Return what ``number`` keys (``plan``, ``s3``) or rows (the others) take."""
    command = [sys.executable, "-m", "benchmarks.scale", kind, str(number)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return Scale(number, **json.loads(done.stdout))


class _ManyKeys:
    """A store of keys that are made while they are listed."""

    uri = "memory://source"

    def __init__(self, number: int) -> None:
        self._number = number

    def list_objects(self, prefix: str = "", **_: object) -> Iterator[ObjectInfo]:
        del prefix
        for index in range(self._number):
            yield ObjectInfo(f"class-{index // 5000:04d}/image-{index:08d}.jpg", 100_000, "e" * 32)


class _Forgetful:
    """A destination that is empty and stays so."""

    uri = "memory://destination"

    def list_objects(self, prefix: str = "", **_: object) -> Iterator[ObjectInfo]:
        del prefix
        return iter(())

    def get(self, key: str) -> StoredObject:
        raise ObjectMissingError(key)

    def put(self, key: str, data: bytes) -> None:
        """Forget it."""

    create = put


def _plan(number: int) -> None:
    source, destination = cast(Store, _ManyKeys(number)), cast(Store, _Forgetful())
    start_run(source, destination, Recipe.preset("classic"), now=_NOW, options=StartOptions())


def _plan_s3(number: int) -> None:
    store = open_store(os.environ["URI"], settings=Settings.from_environment())
    num_keys = sum(1 for _ in store.list_objects())
    if num_keys != number:
        raise ValueError(f"{store.uri} has {num_keys} objects, not {number}")


def fill_s3(uri: str, settings: Settings, number: int) -> None:
    """Write ``number`` tiny objects."""
    store = open_store(uri, settings=settings)
    with ThreadPoolExecutor(16) as threads:
        keys = (f"class-{index // 5000:04d}/image-{index:08d}.jpg" for index in range(number))
        for _ in threads.map(lambda key: store.put(key, b"x"), keys):
            pass


def _merge(number: int) -> None:
    """Write parts and merge them as a commit does; the store is a generator on the one side."""
    size = sum(len(data) for data in merge_parts(_parts(number)))
    if not size:
        raise ValueError("the manifest is empty")


def _parts(number: int) -> Iterator[bytes]:
    num_sources = -(-number // NODES)
    yield from _parts_of("run", range(num_sources), number=number)


def _parts_of(run_id: str, sources: Sequence[int], *, number: int) -> Iterator[bytes]:
    """Yield the parts of a run with the first ``number`` outputs of its sources."""
    for index, start in enumerate(range(0, number, ROWS_PER_PART)):
        run = RunFacts(run_id, "0" * 16, "source", 0, index, None, "1", "5", "2", _NOW)
        part = PartWriter(run)
        part.write(_records(sources, start, min(start + ROWS_PER_PART, number)))
        yield part.finish(ShardStats())


def _records(sources: Sequence[int], start: int, end: int) -> Iterable[Record]:
    for row in range(start, end):
        source, node = sources[row // NODES], row % NODES
        label = _label_of(source)
        key = f"{label}/image-{source:08d}.jpg"
        facts = SourceFacts(
            source_id(key), key, f"{source:032x}", None, label, source_sha256=_hash(source)
        )
        yield Record(
            facts,
            output_id=output_id(key, str(node)),
            node=str(node),
            status="ok",
            depth=3,
            op="Rotate",
            params=f'{{"angle_deg":{row * 0.37 % 180}}}',
            ops=f'[{{"op":"Rotate","version":1,"params":{{"angle_deg":{row * 0.37 % 180}}}}}]' * 3,
            encoding='{"format":"jpeg","quality":95}',
            output_key=output_key(key, str(node), ".jpg"),
            format="jpeg",
            width=400,
            height=400,
            size=40_000 + row % 1000,
            sha256=_hash(row),
        )


def _hash(number: int) -> str:
    """Return 64 hex digits that compress as badly as those of a hash."""
    return f"{number * _ODD % 2**256:064x}"


def _label_of(source: int) -> str:
    return f"class-{source // SOURCES_PER_CLASS:05d}"


def _fill(number: int) -> None:
    """Write runs of which so many rows stand, and some that do not, as their commits would."""
    store = open_store(os.environ["URI"], settings=Settings.from_environment())
    num_sources = number // NODES
    for run in range(NUM_RUNS):
        sources = [
            source
            for source in range(num_sources)
            if source % NUM_RUNS == run
            or (source % NUM_RUNS < run and source // NUM_RUNS % SHARE_AGAIN == run)
        ]
        _commit(store, f"2026010{run + 1}T000000Z-run", sources)


def _commit(store: Store, run_id: str, sources: Sequence[int]) -> None:
    keys, num_outputs = RunKeys(run_id), len(sources) * NODES
    parts = _parts_of(run_id, sources, number=num_outputs)
    for index, data in enumerate(merge_parts(parts)):
        store.put(keys.manifest_file(index), data)
    report = Report(
        run_id=run_id,
        source="source",
        destination=store.uri,
        num_sources=len(sources),
        num_done=0,
        num_failed=0,
        num_outputs=num_outputs,
        source_bytes=0,
        output_bytes=0,
        num_shards=1,
        shard_s=0,
        elapsed_s=0,
        failures={},
        max_error_rate=0,
    )
    store.put(keys.request, b"{}")
    store.put(keys.report, report.to_json())
    store.put(keys.success, b"")


def _read_class(number: int) -> None:
    """Read all columns of the class in the middle; it is as large in every manifest."""
    lineage = Lineage.open(os.environ["URI"])
    label = _label_of(number // NODES // 2)
    num_rows = len(lineage.to_pandas(filter=[("label", "=", label)]))
    if num_rows != SOURCES_PER_CLASS * NODES:
        raise ValueError(f"{label} has {num_rows} rows, not {SOURCES_PER_CLASS * NODES}")


def main() -> None:
    """Print what one measurement took, as JSON."""
    kind, number = sys.argv[1], int(sys.argv[2])
    work = {
        "plan": _plan,
        "s3": _plan_s3,
        "manifest": _merge,
        "fill": _fill,
        "label": _read_class,
    }[kind]
    before = peak_bytes()
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    work(number)
    answer = {
        "wall_s": time.perf_counter() - wall_s,
        "cpu_s": time.process_time() - cpu_s,
        "before_bytes": before,
        "peak_bytes": peak_bytes(),
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
