"""Let variants take turns on the same photographs, and say what the rounds came to.

The machine may be shared and its speed may change from second to second, so figures of different
moments cannot be compared. In each round every variant runs once, in random order, on the same
photographs; a ratio is taken within a round, and of all rounds the median and the quartiles.
"""

import contextlib
import json
import os
import random
import statistics
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).parent.parent
"""The repository."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """A variant and how to run it."""

    name: str
    module: str
    """Below ``benchmarks.variants``."""
    options: Mapping[str, str | int] = field(default_factory=dict)
    python: str = ""
    """The interpreter; empty is the project's own."""
    environment: Mapping[str, str] = field(default_factory=dict)
    is_slow: bool = False
    """Whether it gets a quarter of the photographs of a round."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one variant did in one round."""

    num_images: int
    cpu_s: float
    """CPU seconds of the process and all its children."""
    wall_s: float
    peak_bytes: int
    """Peak memory of the process since its start."""

    @property
    def cpu_ms(self) -> float:
        """CPU milliseconds for each image."""
        return self.cpu_s / self.num_images * 1e3

    @property
    def wall_ms(self) -> float:
        """Milliseconds for each image."""
        return self.wall_s / self.num_images * 1e3


@dataclass(frozen=True, slots=True)
class Spread:
    """A median with its quartiles."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Return that of some values, at least one."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        return cls(*statistics.quantiles(values, n=4, method="inclusive"))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}-{self.high:.2f})"


@dataclass(frozen=True, slots=True)
class Rounds:
    """The measurements of all rounds, by name of the variant, in the order of the rounds."""

    by_name: Mapping[str, tuple[Measurement, ...]]

    def ratio(
        self, name: str, over: str, quantity: Callable[[Measurement], float] | None = None
    ) -> Spread:
        """Return how much more a variant takes than another, round by round.

        Args:
            name: The variant.
            over: The other.
            quantity: What is compared; by default CPU time for each image.
        """
        of = quantity or (lambda measurement: measurement.cpu_ms)
        pairs = zip(self.by_name[name], self.by_name[over], strict=True)
        return Spread.of([of(one) / of(other) for one, other in pairs])

    def cpu_ms(self, name: str) -> Spread:
        """Return the CPU milliseconds for each image."""
        return Spread.of([measurement.cpu_ms for measurement in self.by_name[name]])

    def wall_ms(self, name: str) -> Spread:
        """Return the milliseconds for each image."""
        return Spread.of([measurement.wall_ms for measurement in self.by_name[name]])

    def peak_mb(self, name: str) -> float:
        """Return the peak memory of the variant's process in megabytes."""
        return max(measurement.peak_bytes for measurement in self.by_name[name]) / 1e6


class WorkerError(RuntimeError):
    """A variant's process could not do its work; the message ends with what it printed."""


class Worker:
    """A process that waits for its turn; see :mod:`benchmarks.worker`."""

    def __init__(self, contestant: Contestant, *, python: str) -> None:
        """Start the process; it must be entered before it is used."""
        self._contestant = contestant
        command = [contestant.python or python, "-m", "benchmarks.worker"]
        command += [f"benchmarks.variants.{contestant.module}", json.dumps(contestant.options)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **contestant.environment}
        for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            environment.setdefault(variable, "1")
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        self._read()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()

    def measure(self, photographs: Sequence[Path]) -> Measurement:
        """Run the variant once."""
        stdin = self._process.stdin
        if stdin is None:
            raise WorkerError("the worker was started without an input")
        stdin.write(json.dumps([str(path) for path in photographs]) + "\n")
        stdin.flush()
        return Measurement(**self._read())

    def _read(self) -> dict[str, int | float]:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            status = self._process.wait()
            raise WorkerError(f"{self._contestant.name} ended with status {status}")
        answer: dict[str, int | float] = json.loads(line)
        return answer


def run_rounds(
    contestants: Sequence[Contestant],
    photographs: Sequence[Path],
    *,
    python: str,
    num_rounds: int,
    per_round: int,
) -> Rounds:
    """Let all contestants take turns.

    Args:
        contestants: Their names differ. One that cannot start is left out, with a printed line.
        photographs: From which each round takes the next few.
        python: The interpreter of those that name none.
        num_rounds: Rounds that count; one more comes before them, to warm up.
        per_round: Photographs for each round.
    """
    rng = random.Random(1)  # noqa: S311 -- not a secret.
    measured: dict[str, list[Measurement]] = {}
    with contextlib.ExitStack() as stack:
        workers: dict[str, tuple[Contestant, Worker]] = {}
        for contestant in contestants:
            try:
                worker = stack.enter_context(Worker(contestant, python=python))
            except WorkerError as error:
                print(f"  left out: {error}")
                continue
            workers[contestant.name] = contestant, worker
        for index, chosen in enumerate(_choose(photographs, num_rounds + 1, per_round)):
            for name in rng.sample(sorted(workers), len(workers)):
                contestant, worker = workers[name]
                few = chosen[: max(1, per_round // 4)] if contestant.is_slow else chosen
                measurement = worker.measure(few)
                if index:
                    measured.setdefault(name, []).append(measurement)
    return Rounds({c.name: tuple(measured[c.name]) for c in contestants if c.name in measured})


def _choose(photographs: Sequence[Path], num_rounds: int, per_round: int) -> Iterator[list[Path]]:
    for number in range(num_rounds):
        start = number * per_round
        yield [photographs[(start + i) % len(photographs)] for i in range(per_round)]
