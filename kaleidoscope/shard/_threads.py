"""The threads of a shard: who reads, who transforms and encodes, who writes."""

from collections.abc import Callable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    Future,
    InvalidStateError,
    ThreadPoolExecutor,
    wait,
)
from contextlib import ExitStack, contextmanager, suppress
from threading import BoundedSemaphore, Lock
from typing import Any, TypeVar

import cv2

ResultT = TypeVar("ResultT")

NUM_READERS = 4
NUM_WRITERS = 12
"""Measured in `benchmarks/`: the client's rate stops growing between 8 and 16."""

OUTPUTS_PER_WRITE = 4
"""Outputs that a writer is handed at once; to wake a thread costs more than to hash an output."""

MAX_OUTPUTS_WAITING = 96
"""Encoded outputs that may wait for a writer or be under way: two hand-overs for each writer."""


class Threads(ExitStack):
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
        future.add_done_callback(lambda _: self._waiting.release())
        self.watch(future)
        return future

    def watch(self, write: Future[Any]) -> None:
        """Let whoever waits for anything hear of an error in a write."""
        write.add_done_callback(self._after_write)

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
        error = None if write.cancelled() else write.exception()
        if error is not None:
            with suppress(InvalidStateError):  # The first error is the one to show.
                self._broken.set_exception(error)

    def _stop_on_error(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            for executor in (self.readers, self.workers, self._writers):
                executor.shutdown(wait=False, cancel_futures=True)


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


OPENCV_THREADS = _OpencvThreads()
