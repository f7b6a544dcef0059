"""Run a shard: read its sources, make their outputs, write them, and return their rows.

Three kinds of threads: readers fetch a few sources ahead, workers decode, transform and encode,
writers put the outputs. Whatever waits between them is bounded, so memory does not grow with the
shard. OpenCV, hashing and the store's client release the interpreter's lock.
"""

import hashlib
import json
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    Future,
    InvalidStateError,
    ThreadPoolExecutor,
    wait,
)
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from threading import BoundedSemaphore, Lock
from typing import Any, TypeVar

import cv2

from kaleidoscope.augment import Augmenter, EncodedOutput, Root
from kaleidoscope.codecs import EncodeSpec, extension_for
from kaleidoscope.errors import AccessError, KaleidoscopeError, ObjectMissingError, StoreError
from kaleidoscope.identity import label_of, output_id, output_key, source_id
from kaleidoscope.manifest import PartWriter, Record, RunFacts, ShardStats, SourceFacts
from kaleidoscope.model import NodeChoice, ObjectInfo, PlannedSource
from kaleidoscope.recipe import Recipe
from kaleidoscope.stores import InvalidKeyError, Store, StoredObject
from kaleidoscope.tree import ALL_NODES, ROOT, Applied, Sampled

ResultT = TypeVar("ResultT")

NUM_READERS = 4
NUM_WRITERS = 12
"""Measured in `benchmarks/`: the client's rate stops growing between 8 and 16."""

OUTPUTS_PER_WRITE = 4
"""Outputs that a writer is handed at once; to wake a thread costs more than to hash an output."""

MAX_OUTPUTS_WAITING = 96
"""Encoded outputs that may wait for a writer or be under way: two hand-overs for each writer."""

SOURCES_AHEAD = 4
"""Sources that may be read, or done and not recorded, for each worker."""


@dataclass(frozen=True, slots=True)
class _SourceResult:
    """What became of a source."""

    writes: tuple[Future[tuple[Record, ...]], ...]
    """Each returns the rows of some outputs once they are in the store, or why they never are."""
    failures: tuple[Record, ...]
    """The row of what could not be made, if there is such."""
    source_bytes: int


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
            output_bytes=sum(record.size or 0 for record in self.records),
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
    with _OPENCV_THREADS.limited_to_one(), _Threads(workers) as threads:
        task = _SourceTask(Augmenter(recipe), destination, threads)

        def start(planned: PlannedSource) -> Future[_SourceResult]:
            data = threads.readers.submit(source.get, planned.info.key)
            return threads.workers.submit(task.run, planned, data)

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
    start: Callable[[PlannedSource], Future[_SourceResult]],
    *,
    ahead: int,
) -> Iterator[Future[_SourceResult]]:
    """Yield results in the order of the sources, with at most ``ahead`` of them under way.

    One that was yielded counts until the next is asked for.
    """
    under_way: deque[Future[_SourceResult]] = deque()
    for planned in sources:
        if len(under_way) >= ahead:
            yield under_way.popleft()
        under_way.append(start(planned))
    while under_way:
        yield under_way.popleft()


def _when_written(result: _SourceResult, threads: "_Threads") -> _Written:
    """Wait until the outputs of a source are in the store."""
    records = [record for write in result.writes for record in threads.wait_for(write)]
    written = [record for record in records if record.status == "ok"]
    failures = [record for record in records if record.status == "failed"]
    return _Written((*written, *[*failures, *result.failures][:1]), result.source_bytes)


class _Threads(ExitStack):
    """The three kinds of threads; an error inside stops all that has not begun."""

    def __init__(self, num_workers: int) -> None:
        super().__init__()
        self._waiting = BoundedSemaphore(MAX_OUTPUTS_WAITING // OUTPUTS_PER_WRITE)
        # Left in the reverse order: readers, workers, writers, so none is left without its next.
        self._writers = self.enter_context(ThreadPoolExecutor(NUM_WRITERS, "kaleidoscope-write"))
        self.workers = self.enter_context(ThreadPoolExecutor(num_workers, "kaleidoscope-work"))
        self.readers = self.enter_context(ThreadPoolExecutor(NUM_READERS, "kaleidoscope-read"))
        self.push(self._stop_on_error)
        self._broken: Future[None] = Future()

    def wait_for(self, future: Future[ResultT]) -> ResultT:
        """Return a result, or raise the first error of a write as soon as there is one.

        While a store is down every write takes its full time to fail, so those that wait must
        not be waited for.
        """
        if not future.done():
            either: tuple[Future[Any], ...] = (future, self._broken)
            wait(either, return_when=FIRST_COMPLETED)
        if self._broken.done():
            self._broken.result()
        return future.result()

    def write(self, put: Callable[[], ResultT]) -> Future[ResultT]:
        """Hand outputs to a writer; wait while too many wait already."""
        self._waiting.acquire()
        try:
            future = self._writers.submit(put)
        except RuntimeError:  # The shard has failed elsewhere and the writers are stopped.
            self._waiting.release()
            raise
        future.add_done_callback(self._after_write)
        return future

    def check(self) -> None:
        """Refuse to go on where a write has failed.

        A writer is at its next output before the main thread can have heard of an error and
        stop it.

        Raises:
            CancelledError: If one has.
        """
        if self._broken.done():
            raise CancelledError

    def _after_write(self, write: Future[Any]) -> None:
        self._waiting.release()
        error = None if write.cancelled() else write.exception()
        if error is not None:
            with suppress(InvalidStateError):  # The first error is the one to show.
                self._broken.set_exception(error)

    def _stop_on_error(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            for executor in (self.readers, self.workers, self._writers):
                executor.shutdown(wait=False, cancel_futures=True)


class _SourceTask:
    """What a worker does with a source."""

    def __init__(self, augmenter: Augmenter, destination: Store, threads: _Threads) -> None:
        self._augmenter = augmenter
        self._destination = destination
        self._threads = threads

    def run(self, planned: PlannedSource, reading: Future[StoredObject]) -> _SourceResult:
        """Make and hand over the outputs of a source; one that cannot be used becomes a row."""
        facts = _source_facts(planned.info)
        writes: list[Future[tuple[Record, ...]]] = []
        failures: tuple[Record, ...] = ()
        size = 0
        root: Root | None = None
        choice = ALL_NODES
        num_made = 0
        made: list[tuple[Record, bytes]] = []
        try:
            stored = reading.result()
            facts, size = _source_facts(stored.info), len(stored.data)
            root = self._augmenter.root(stored.data)
            facts = _with_header(facts, root)
            choice = planned.choice(root.sha256)
            for output in self._augmenter.outputs(root, choice):
                made.append((_output_record(facts, root, output), output.data))
                if len(made) == OUTPUTS_PER_WRITE:
                    writes.append(self._write(made))
                    made = []
                num_made += 1
        except (ObjectMissingError, AccessError) as error:
            # The listing was allowed, so a refusal is about this one object. Where all are
            # refused, max_error_rate speaks.
            failures = (_failed_record(facts, self._missing(root, choice, num_made), error),)
        except (StoreError, CancelledError):
            raise
        except Exception as error:  # noqa: BLE001 -- one bad image never ends a shard.
            failures = (_failed_record(facts, self._missing(root, choice, num_made), error),)
        if made:
            writes.append(self._write(made))
        return _SourceResult(tuple(writes), failures, size)

    def _missing(self, root: Root | None, choice: NodeChoice, num_made: int) -> str:
        """Return the node that could not be made, behind ``num_made`` that could."""
        return ROOT if root is None else self._augmenter.output_nodes(root, choice)[num_made]

    def _write(self, made: Sequence[tuple[Record, bytes]]) -> Future[tuple[Record, ...]]:
        return self._threads.write(lambda: tuple(self._put(*output) for output in made))

    def _put(self, record: Record, data: bytes) -> Record:
        """Write an output and return its row.

        A key that the store cannot hold, such as one that is too long with the prefix of the
        destination, is a fault of that source alone, and one that no retry mends.
        """
        self._threads.check()
        try:
            self._destination.put(str(record.output_key), data)
        except InvalidKeyError as error:
            return _failed_record(record.source, record.node, error)
        return record


def _source_facts(info: ObjectInfo) -> SourceFacts:
    return SourceFacts(
        source_id=source_id(info.key),
        source_key=info.key,
        source_etag=info.etag,
        source_version_id=info.version_id,
        label=label_of(info.key),
    )


def _with_header(facts: SourceFacts, root: Root) -> SourceFacts:
    return replace(
        facts,
        source_sha256=root.sha256,
        source_width=root.header.width,
        source_height=root.header.height,
        source_format=root.header.format,
        source_mode=root.header.mode,
        source_conversion=root.header.conversion,
    )


def _output_record(facts: SourceFacts, root: Root, output: EncodedOutput) -> Record:
    node = output.growth.node
    edges: list[Applied[Sampled]] = [root.edge, *output.growth.chain]
    height, width = output.growth.image.shape[:2]
    return Record(
        source=facts,
        output_id=output_id(facts.source_key, node.name),
        parent_id=None if node.parent is None else output_id(facts.source_key, node.parent),
        node=node.name,
        status="ok",
        depth=node.depth,
        op=edges[-1].name,
        params=edges[-1].params,
        ops=f"[{','.join(edge.text for edge in edges)}]",
        encoding=_encoding(output.spec),
        output_key=output_key(facts.source_key, node.name, f".{extension_for(output.spec.format)}"),
        format=output.spec.format,
        width=width,
        height=height,
        size=len(output.data),
        sha256=hashlib.sha256(output.data).hexdigest(),
    )


@lru_cache(maxsize=8)
def _encoding(spec: EncodeSpec) -> str:
    return json.dumps(asdict(spec), separators=(",", ":"))


def _failed_record(facts: SourceFacts, node: str, error: Exception) -> Record:
    # What is not ours is named by its class: a MemoryError, or a defect to report.
    reason = error.reason if isinstance(error, KaleidoscopeError) else type(error).__name__
    return Record(
        source=facts,
        output_id=output_id(facts.source_key, node),
        node=node,
        status="failed",
        error_type=reason,
        error_message=str(error),
    )


class _OpencvThreads:
    """OpenCV's number of threads: one setting of the process, for all shards that run in it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._num_shards = 0
        self._before = 0

    @contextmanager
    def limited_to_one(self) -> Iterator[None]:
        """Keep OpenCV from adding threads of its own to those that share the CPUs already."""
        with self._lock:
            if not self._num_shards:
                self._before = cv2.getNumThreads()
                cv2.setNumThreads(1)
            self._num_shards += 1
        try:
            yield
        finally:
            with self._lock:
                self._num_shards -= 1
                if not self._num_shards:
                    cv2.setNumThreads(self._before)


_OPENCV_THREADS = _OpencvThreads()
