"""Large numbers: listing and planning many keys, and a manifest of many rows.

Each measurement is a process of its own, so that its peak memory is its own:

    python -m benchmarks.scale plan 1000000
    python -m benchmarks.scale manifest 10000000
    python -m benchmarks.scale s3 100000      (needs the environment of an S3 store in URI)
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

from benchmarks.measuring import ROOT
from benchmarks.worker import peak_bytes
from kaleidoscope.errors import ObjectMissingError
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
from kaleidoscope.settings import Settings
from kaleidoscope.stores import Store, StoredObject, open_store

ROWS_PER_PART = 100_000
"""As a shard of 1,560 photographs with 64 outputs each has."""

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
    """Return what ``number`` keys (``plan``, ``s3``) or rows (``manifest``) take."""
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
    for index, start in enumerate(range(0, number, ROWS_PER_PART)):
        run = RunFacts("run", "0" * 16, "source", 0, index, None, "1", "5", "2", _NOW)
        part = PartWriter(run)
        part.write(_records(start, min(start + ROWS_PER_PART, number)))
        yield part.finish(ShardStats())


def _records(start: int, end: int) -> Iterable[Record]:
    for row in range(start, end):
        source, node = divmod(row, 64)
        key = f"class-{source // 5000:04d}/image-{source:08d}.jpg"
        facts = SourceFacts(
            f"{source:016x}", key, f"{source:032x}", None, "class", f"{source:064x}"
        )
        yield Record(
            facts,
            output_id=f"{source:016x}-{node}",
            node=str(node),
            status="ok",
            depth=3,
            op="Rotate",
            params=f'{{"angle_deg":{row * 0.37 % 180}}}',
            ops=f'[{{"op":"Rotate","version":1,"params":{{"angle_deg":{row * 0.37 % 180}}}}}]' * 3,
            encoding='{"format":"jpeg","quality":95}',
            output_key=f"class/image-{source:08d}-{node}.jpg",
            format="jpeg",
            width=400,
            height=400,
            size=40_000 + row % 1000,
            sha256=f"{row * 2654435761:064x}",
        )


def main() -> None:
    """Print what one measurement took, as JSON."""
    kind, number = sys.argv[1], int(sys.argv[2])
    work = {"plan": _plan, "s3": _plan_s3, "manifest": _merge}[kind]
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
