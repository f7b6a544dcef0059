"""Copies all objects of one store to another: an upload, a download, or bucket to bucket."""

import dataclasses
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from threading import BoundedSemaphore
from typing import TypeAlias

from kaleidoscope.errors import ObjectMissingError, StoreError
from kaleidoscope.model import ObjectInfo
from kaleidoscope.stores import PIECE_SIZE, Store
from kaleidoscope.stores.local import TEMPORARY_FOLDER

DEFAULT_WORKERS = 16

LARGE = 4 * PIECE_SIZE
"""Bytes from which an object is copied in pieces, as tars are; smaller ones are held whole."""

_LARGE_AT_ONCE = 2
"""Each holds as many pieces as the stores send at once."""

_QUEUED_PER_WORKER = 2
"""Objects that wait for each worker; more would only be memory."""


@dataclass(frozen=True, slots=True)
class TransferReport:
    """What a transfer has done so far, or in all when it has ended."""

    num_copied: int = 0
    num_unchanged: int = 0
    """Objects that were at the destination already, with the same size."""

    num_skipped: int = 0
    """Objects that were left out since their keys break the rule for keys, or are those of a
    folder's temporary files, which another tool copied."""

    size_copied: int = 0
    """Bytes."""


ProgressListener: TypeAlias = Callable[[TransferReport], None]


def copy_objects(
    source: Store,
    destination: Store,
    *,
    workers: int = DEFAULT_WORKERS,
    overwrite: bool = False,
    on_progress: ProgressListener | None = None,
) -> TransferReport:
    """Copy every object of ``source`` to the same key of ``destination``.

    An object that is there with the same size is taken to be the same, so that a transfer that
    was interrupted goes on where it ended. Content is not compared: an etag is a hash in some
    stores and not in others. Nothing is deleted.

    Args:
        source: Read in key order.
        destination: What it has already is listed, once, beside the source.
        workers: Threads, at least 1. Each holds an object of less than :data:`LARGE`.
        overwrite: Copy also what is there with the same size.
        on_progress: Called in this thread after each object.

    Raises:
        StoreError: The first one of either store; what was copied until then stays.
    """
    copying = _Copying(source, destination, on_progress or _ignore)
    present = iter(()) if overwrite else _list_or_nothing(destination)
    with ThreadPoolExecutor(workers, thread_name_prefix="transfer") as pool:
        try:
            for info, is_present in _mark_present(copying.list_source(), present):
                if is_present:
                    copying.add_unchanged()
                    continue
                copying.submit(pool, info)
                copying.wait_for_fewer_than(workers * (1 + _QUEUED_PER_WORKER))
            copying.wait_for_fewer_than(1)
        except BaseException:
            # Ctrl-C as well: what has not begun must not begin.
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return copying.report


class _Copying:
    """A transfer that is under way; only its calls of ``_copy`` run in other threads."""

    def __init__(self, source: Store, destination: Store, on_progress: ProgressListener) -> None:
        self.report = TransferReport()
        self._source = source
        self._destination = destination
        self._on_progress = on_progress
        self._running: set[Future[int]] = set()
        self._large = BoundedSemaphore(_LARGE_AT_ONCE)

    def list_source(self) -> Iterator[ObjectInfo]:
        for info in self._source.list_objects(on_skipped=self._add_skipped):
            if info.key.startswith(f"{TEMPORARY_FOLDER}/"):
                self._add_skipped(info.key, "a folder keeps its temporary files there")
            else:
                yield info

    def submit(self, pool: ThreadPoolExecutor, info: ObjectInfo) -> None:
        self._running.add(pool.submit(self._copy, info))

    def wait_for_fewer_than(self, limit: int) -> None:
        while len(self._running) >= limit:
            done, self._running = wait(self._running, return_when=FIRST_COMPLETED)
            for future in done:
                size = future.result()
                self._update(
                    num_copied=self.report.num_copied + 1,
                    size_copied=self.report.size_copied + size,
                )

    def add_unchanged(self) -> None:
        self._update(num_unchanged=self.report.num_unchanged + 1)

    def _add_skipped(self, _key: str, _reason: str) -> None:
        self._update(num_skipped=self.report.num_skipped + 1)

    def _update(self, **counts: int) -> None:
        self.report = dataclasses.replace(self.report, **counts)
        self._on_progress(self.report)

    def _copy(self, info: ObjectInfo) -> int:
        if info.size >= LARGE:
            with self._large:
                return self._copy_in_pieces(info.key)
        data = self._source.get(info.key).data
        self._destination.put(info.key, data)
        return len(data)

    def _copy_in_pieces(self, key: str) -> int:
        info = self._source.head(key)
        with self._destination.write_in_pieces(key) as writer:
            for offset in range(0, info.size, PIECE_SIZE):
                length = min(PIECE_SIZE, info.size - offset)
                writer.write(self._source.get_range(key, offset=offset, length=length))
            if self._source.head(key).etag != info.etag:
                raise StoreError(
                    f"{self._source.uri}: {key} was replaced while it was copied; copy it again"
                )
        return info.size


def _mark_present(
    sources: Iterator[ObjectInfo], present: Iterator[ObjectInfo]
) -> Iterator[tuple[ObjectInfo, bool]]:
    """Yield each source with whether ``present`` has its key and size; both are in key order."""
    other = next(present, None)
    for info in sources:
        while other is not None and other.key < info.key:
            other = next(present, None)
        yield info, other is not None and (other.key, other.size) == (info.key, info.size)


def _list_or_nothing(store: Store) -> Iterator[ObjectInfo]:
    try:
        # What it cannot hold by the rule is no key of the source either.
        yield from store.list_objects(on_skipped=_ignore)
    except ObjectMissingError:
        # A folder that the first write will make.
        return


def _ignore(*_: object) -> None:
    pass
