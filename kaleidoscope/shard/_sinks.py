"""Where the outputs of a shard go: an object each, or members of tars.

Workers hand outputs over and get their rows when they are in the store. What waits is bounded.
"""

import json
from collections import deque
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from threading import Condition
from types import TracebackType
from typing import Any, Protocol, Self

from kaleidoscope.errors import ObjectExistsError, ObjectMissingError
from kaleidoscope.identity import tar_key
from kaleidoscope.manifest import Record, RunFacts
from kaleidoscope.recipe import Recipe
from kaleidoscope.runs import RunKeys
from kaleidoscope.shard._rows import failed_record
from kaleidoscope.shard._threads import MAX_OUTPUTS_WAITING, Threads
from kaleidoscope.stores import InvalidKeyError, Store
from kaleidoscope.tars import TarSeries

MASK_EXTENSION = "mask.png"
"""Of the mask of a sample in a tar."""

OUTPUTS_AHEAD_PER_WORKER = 64
"""Outputs that may wait for their turn in a tar, for each worker: a usual source's."""


@dataclass(frozen=True, slots=True)
class Made:
    """An output as a file, with its mask if it has one."""

    record: Record
    """Its row but for where it lies in a tar."""
    data: bytes
    mask: bytes | None


class Sink(Protocol):
    """Takes outputs. Left by an error, it drops what it was not yet done with."""

    def write(self, position: int, made: Sequence[Made]) -> Future[tuple[Record, ...]]:
        """Take some outputs of a source; wait while too many wait already.

        Args:
            position: Of the source in the shard, from 0.
            made: In the order of their rows.

        Returns:
            Their rows, once they are where readers of the part will look for them.
        """

    def end(self, position: int) -> None:
        """Take note that a source has no further output. Each one ends, in any order."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> bool | None: ...


def open_sink(
    recipe: Recipe, destination: Store, facts: RunFacts, threads: Threads, *, num_workers: int
) -> Sink:
    """Return where the outputs of a shard go by its recipe."""
    if recipe.output.container == "files":
        return FileSink(destination, threads)
    series = TarSeries(
        destination,
        lambda number: tar_key(facts.run_id, facts.shard, number),
        check=lambda: _refuse_if_done(destination, RunKeys(facts.run_id).part(facts.shard)),
    )
    limit = max(MAX_OUTPUTS_WAITING, num_workers * OUTPUTS_AHEAD_PER_WORKER)
    return TarSink(series, threads, max_waiting=limit)


def _refuse_if_done(destination: Store, part_key: str) -> None:
    """Keep a run of the shard that was given up, and went on, from the tars that are committed.

    Sources that changed meanwhile would make other tars than the part tells of.

    Raises:
        ObjectExistsError: If the part is there.
    """
    with suppress(ObjectMissingError):
        destination.head(part_key)
        raise ObjectExistsError(f"{destination.uri}/{part_key} is there: another run did the shard")


class FileSink:
    """Puts each output as an object of its own, many at a time, in any order."""

    def __init__(self, destination: Store, threads: Threads) -> None:
        """Put to ``destination`` in the writing threads."""
        self._destination = destination
        self._threads = threads

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave it to the threads to end."""

    def write(self, position: int, made: Sequence[Made]) -> Future[tuple[Record, ...]]:  # noqa: ARG002
        """See :class:`Sink`."""
        return self._threads.write(lambda: tuple(map(self._put, made)))

    def end(self, position: int) -> None:
        """See :class:`Sink`."""

    def _put(self, made: Made) -> Record:
        """Write an output and return its row.

        A key that the store cannot hold, such as one that is too long with the prefix of the
        destination, is a fault of that source alone, and one that no retry mends.
        """
        self._threads.check()
        record = made.record
        try:
            if made.mask is not None:
                self._destination.put(str(record.mask_key), made.mask)
            self._destination.put(str(record.output_key), made.data)
        except InvalidKeyError as error:
            return failed_record(record.source, record.node, error)
        return record


@dataclass(slots=True)
class _Lane:
    """The outputs of one source that wait for their turn."""

    batches: deque[tuple[Sequence[Made], Future[tuple[Record, ...]]]] = field(default_factory=deque)
    has_ended: bool = False


class TarSink(ExitStack):
    """Writes outputs into tars in the order of their sources, though they are made at once.

    So a shard's tars have the same bytes whatever the number of workers. One thread writes. The
    source whose turn it is may always hand over, so nobody waits for one that waits itself.
    """

    def __init__(self, series: TarSeries, threads: Threads, *, max_waiting: int) -> None:
        """Prepare to write.

        Args:
            series: The tars.
            threads: Hear of errors.
            max_waiting: Outputs of later sources that may wait.
        """
        super().__init__()
        self._series = series
        self._threads = threads
        self._max_waiting = max_waiting
        self._changed = Condition()
        self._lanes: dict[int, _Lane] = {}
        self._turn = 0
        self._num_waiting = 0
        self._is_stopped = False
        self._is_complete = False

    def __enter__(self) -> Self:
        """Begin to write."""
        super().__enter__()
        thread = self.enter_context(ThreadPoolExecutor(1, "kaleidoscope-tar"))
        self.push(self._end)
        self._writing = thread.submit(self._run)
        self._threads.watch(self._writing)
        return self

    def write(self, position: int, made: Sequence[Made]) -> Future[tuple[Record, ...]]:
        """See :class:`Sink`.

        Raises:
            CancelledError: If the shard has failed elsewhere.
        """
        rows: Future[tuple[Record, ...]] = Future()
        with self._changed:
            self._changed.wait_for(lambda: self._is_stopped or self._may_wait(position))
            if self._is_stopped:
                raise CancelledError
            self._lane(position).batches.append((made, rows))
            self._num_waiting += len(made)
            self._changed.notify_all()
        return rows

    def end(self, position: int) -> None:
        """See :class:`Sink`."""
        with self._changed:
            self._lane(position).has_ended = True
            self._changed.notify_all()

    def _may_wait(self, position: int) -> bool:
        return position == self._turn or self._num_waiting < self._max_waiting

    def _lane(self, position: int) -> _Lane:
        return self._lanes.setdefault(position, _Lane())

    def _end(self, kind: type[BaseException] | None, *_: object) -> None:
        """Let the writing thread finish the last tar, or stop at once after an error."""
        with self._changed:
            self._is_complete = True
            self._is_stopped = kind is not None
            self._changed.notify_all()
        if kind is None:
            self._writing.result()

    def _run(self) -> None:
        try:
            with self._series:
                while (batch := self._next()) is not None:
                    made, rows = batch
                    rows.set_result(tuple(map(self._add, made)))
        except BaseException:
            with self._changed:
                self._is_stopped = True
                self._changed.notify_all()
            raise

    def _next(self) -> tuple[Sequence[Made], Future[tuple[Record, ...]]] | None:
        """Wait for the next outputs in order; None when there are no more.

        Raises:
            CancelledError: If the shard has failed elsewhere, so that no tar is finished.
        """
        with self._changed:
            while not self._is_stopped:
                lane = self._lane(self._turn)
                if lane.batches:
                    made, rows = lane.batches.popleft()
                    self._num_waiting -= len(made)
                    self._changed.notify_all()
                    return made, rows
                if lane.has_ended:
                    del self._lanes[self._turn]
                    self._turn += 1
                    self._changed.notify_all()
                elif self._is_complete:
                    return None
                else:
                    self._changed.wait()
            raise CancelledError

    def _add(self, made: Made) -> Record:
        record = made.record
        stem, _, extension = str(record.output_key).rpartition(".")
        members = [(extension, made.data), ("json", _describe(record))]
        if made.mask is not None:
            members.append((MASK_EXTENSION, made.mask))
        place, _, *masks = self._series.add(stem, members)
        record = replace(record, tar_key=place.tar_key, offset=place.offset, length=place.length)
        if not masks:
            return record
        return replace(record, mask_key=f"{stem}.{MASK_EXTENSION}", mask_offset=masks[0].offset)


def _describe(record: Record) -> bytes:
    """Return what a training that reads tars alone wants to know of an output."""
    document: dict[str, Any] = {
        "output_id": record.output_id,
        "source_id": record.source.source_id,
        "source_key": record.source.source_key,
        "label": record.source.label,
        "node": record.node,
    }
    if record.objects is not None:
        document["objects"] = json.loads(record.objects)
    if record.source.attributes is not None:
        document["attributes"] = json.loads(record.source.attributes)
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
