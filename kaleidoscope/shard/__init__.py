"""Run a shard: read its sources, make their outputs, write them, and return their rows.

Three kinds of threads: readers fetch a few sources ahead, workers decode, transform and encode,
writers put the outputs. Whatever waits between them is bounded, so memory does not grow with the
shard. OpenCV, hashing and the store's client release the interpreter's lock.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

from kaleidoscope.augment import Augmenter
from kaleidoscope.manifest import PartWriter, Record, RunFacts, ShardStats
from kaleidoscope.model import PlannedSource
from kaleidoscope.recipe import Recipe
from kaleidoscope.shard._sinks import OUTPUTS_AHEAD_PER_WORKER, open_sink
from kaleidoscope.shard._sources import SourceResult, SourceTask, read_source
from kaleidoscope.shard._threads import (
    MAX_OUTPUTS_WAITING,
    OPENCV_THREADS,
    OUTPUTS_PER_WRITE,
    Threads,
)
from kaleidoscope.stores import Store

__all__ = [
    "MAX_OUTPUTS_WAITING",
    "OUTPUTS_AHEAD_PER_WORKER",
    "OUTPUTS_PER_WRITE",
    "SOURCES_AHEAD",
    "augment_shard",
]

SOURCES_AHEAD = 4
"""Sources that may be read, or done and not recorded, for each worker."""


@dataclass(frozen=True, slots=True)
class _Written:
    """A source whose outputs are in the store."""

    records: tuple[Record, ...]
    source_bytes: int

    def stats(self) -> ShardStats:
        failed = [record for record in self.records if record.status == "failed"]
        return ShardStats(
            num_sources=1,
            num_failed=len(failed),
            num_outputs=len(self.records) - len(failed),
            source_bytes=self.source_bytes,
            output_bytes=sum((r.size or 0) + (r.mask_size or 0) for r in self.records),
            errors=dict(Counter(record.error_type or "" for record in failed)),
        )


def augment_shard(  # noqa: PLR0913 -- what, from where, to where and how are one call.
    sources: Sequence[PlannedSource],
    source: Store,
    destination: Store,
    recipe: Recipe,
    facts: RunFacts,
    *,
    workers: int,
    on_progress: Callable[[ShardStats], None] | None = None,
) -> tuple[bytes, ShardStats]:
    """Write the outputs of some sources and return their part, which is not written yet.

    Args:
        sources: In the order of the part's rows, each with what is to be made of it.
        source: Where they are.
        destination: Where the outputs go.
        recipe: What to make.
        facts: What all rows share.
        workers: Threads that transform and encode, at least 1.
        on_progress: Called after each source, from this thread, with what it came to.

    Returns:
        The bytes of the part, and what was done.

    Raises:
        StoreError: If a store keeps failing; a source that cannot be used is a row instead.
    """
    started_s = time.monotonic()
    part = PartWriter(facts)
    total = ShardStats()
    with (
        OPENCV_THREADS.limited_to_one(),
        Threads(workers) as threads,
        open_sink(recipe, destination, facts, threads, num_workers=workers) as sink,
    ):
        task = SourceTask(Augmenter(recipe), sink, targets=recipe.targets)

        def start(position: int, planned: PlannedSource) -> Future[SourceResult]:
            reading = threads.readers.submit(read_source, source, planned)
            return threads.workers.submit(task.run, position, planned, reading)

        under_way = _in_order(sources, start, ahead=workers * SOURCES_AHEAD)
        for result in map(threads.wait_for, under_way):
            written = _when_written(result, threads)  # Data first: a row stands for an object.
            part.write(written.records)
            done = written.stats()
            total = ShardStats.total([total, done])
            if on_progress is not None:
                on_progress(done)
    total = replace(total, wall_s=time.monotonic() - started_s)
    return part.finish(total), total


def _in_order(
    sources: Iterable[PlannedSource],
    start: Callable[[int, PlannedSource], Future[SourceResult]],
    *,
    ahead: int,
) -> Iterator[Future[SourceResult]]:
    """Yield results in the order of the sources, with at most ``ahead`` of them under way.

    One that was yielded counts until the next is asked for.
    """
    under_way: deque[Future[SourceResult]] = deque()
    for position, planned in enumerate(sources):
        if len(under_way) >= ahead:
            yield under_way.popleft()
        under_way.append(start(position, planned))
    while under_way:
        yield under_way.popleft()


def _when_written(result: SourceResult, threads: Threads) -> _Written:
    """Wait until the outputs of a source are in the store."""
    records = [record for write in result.writes for record in threads.wait_for(write)]
    written = [record for record in records if record.status == "ok"]
    failures = [record for record in records if record.status == "failed"]
    return _Written((*written, *[*failures, *result.failures][:1]), result.source_bytes)
