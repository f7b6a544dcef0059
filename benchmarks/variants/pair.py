"""Two processes that know nothing of each other, each with all the work of a round.

What they make in the time of one is the most that the machine allows to two threads. CPU time is
not counted: the processes go on from round to round.
"""

import contextlib
import multiprocessing
from collections.abc import Sequence
from multiprocessing.connection import Connection

from benchmarks.variants import shard
from benchmarks.variants._interface import Options, Variant

NUM_PROCESSES = 2


class _Pair:
    def __init__(self, options: Options) -> None:
        context = multiprocessing.get_context("spawn")
        self._processes: list[Connection] = []
        for _ in range(NUM_PROCESSES):
            here, there = context.Pipe()
            context.Process(target=_serve, args=(there, dict(options)), daemon=True).start()
            self._processes.append(here)

    def prepare(self, photographs: Sequence[bytes]) -> None:
        for process in self._processes:
            process.send(photographs)
        for process in self._processes:
            process.recv()

    def run(self, photographs: Sequence[bytes]) -> int:
        for process in self._processes:
            process.send(len(photographs))
        return sum(process.recv() for process in self._processes)


def _serve(parent: Connection, options: Options) -> None:
    """Prepare and run rounds until the parent ends."""
    variant = shard.make_variant(options)
    with contextlib.suppress(EOFError):
        while True:
            photographs: Sequence[bytes] = parent.recv()
            variant.prepare(photographs)
            parent.send(None)
            parent.recv()
            parent.send(variant.run(photographs))


def make_variant(options: Options) -> Variant:
    """Return the pair, each a shard to memory with the options of that variant."""
    return _Pair(options)
