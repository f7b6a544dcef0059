"""Where a shard runs: in this process, or as a run of the shard deployment.

Both return what the shard's part says, so the flow that maps shards does not know which it is.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from threading import Event
from typing import Protocol, assert_never
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient

from flows.dispatch import (
    ChildRuns,
    Limits,
    ShardDeployment,
    ShardStoppedError,
    cancelled_with_parent,
    error_of,
)
from flows.form import ExecutionName
from flows.progress import Progress
from kaleidoscope.errors import ObjectMissingError
from kaleidoscope.manifest import ShardStats, read_stats
from kaleidoscope.pipeline import run_shard
from kaleidoscope.runs import Run
from kaleidoscope.settings import available_cpus
from kaleidoscope.stores import Store


@dataclass(frozen=True, slots=True)
class Job:
    """A run, opened."""

    source: Store
    destination: Store
    run: Run
    flow_run_id: UUID
    """Of the flow run that does it."""


@dataclass(frozen=True, slots=True)
class Access:
    """How a run of a shard, in another process, opens the stores; see :class:`flows.places.Places`.

    Blocks go by their names, so that no secret stands in a parameter.
    """

    source: str
    destination: str
    aws_credentials: str | None
    endpoint_url: str | None


class Execution(Protocol):
    """How a shard is done."""

    setbacks: list[str]
    """What went wrong so far, a sentence for each try of a shard that came to nothing."""

    def run_shard(self, shard: int) -> ShardStats:
        """Return when the shard's part is in the store, with what the part says.

        Raises:
            KaleidoscopeError: If it is not there; ``retryable`` says whether to try again.
        """


class HereExecution:
    """Runs shards in this process."""

    def __init__(self, job: Job, progress: Progress, *, workers: int) -> None:
        """Prepare to run shards.

        Args:
            job: The run.
            progress: Is told of every source.
            workers: Threads that transform and encode, for each shard.
        """
        self._job = job
        self._progress = progress
        self._workers = workers
        self.setbacks: list[str] = []
        self.stop = Event()
        """Once set, shards end before their next source."""

    def run_shard(self, shard: int) -> ShardStats:
        """See :class:`Execution`."""
        self._progress.begin(shard)
        try:
            stats = run_shard(
                self._job.source,
                self._job.destination,
                self._job.run,
                shard,
                workers=self._workers,
                now=datetime.now(UTC),
                flow_run_id=str(self._job.flow_run_id),
                on_progress=partial(self._count, shard),
            )
        except Exception as error:
            # Only noted: whether there is another try is for the task to say.
            self.setbacks.append(f"shard {shard} failed: {type(error).__name__}: {error}")
            raise
        self._progress.finish(shard, stats)
        return stats

    def _count(self, shard: int, stats: ShardStats) -> None:
        if self.stop.is_set():
            raise ShardStoppedError("the flow run is ending")
        self._progress.add(shard, stats)


class WorkPoolExecution:
    """Runs shards as runs of a deployment and reads the parts that they leave."""

    def __init__(
        self,
        job: Job,
        progress: Progress,
        *,
        deployment: ShardDeployment,
        access: Access,
    ) -> None:
        """Prepare to run shards.

        Args:
            job: The run.
            progress: Is told of every shard.
            deployment: What runs them.
            access: How they open the stores.
        """
        self._job = job
        self._progress = progress
        self._deployment = deployment
        self._access = access
        self.setbacks: list[str] = []

    def run_shard(self, shard: int) -> ShardStats:
        """See :class:`Execution`."""
        stats = self._read_stats(shard)
        if stats is None:
            state = self._deployment.run(
                shard,
                {
                    "run_id": self._job.run.run_id,
                    "shard": shard,
                    **asdict(self._access),
                },
                lambda: self._read_stats(shard) is not None,
            )
            # The store first, the state second: a run may have been reported wrongly.
            stats = self._read_stats(shard)
            if stats is None:
                error = error_of(shard, state)
                self.setbacks.append(str(error))
                raise error
        self._progress.finish(shard, stats)
        return stats

    def _read_stats(self, shard: int) -> ShardStats | None:
        try:
            return read_stats(self._job.destination.get(self._job.run.keys.part(shard)).data)
        except ObjectMissingError:
            return None


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the shards of a run go."""

    execution: ExecutionName
    replicas: int
    """Shards that are under way at a time."""
    deployment: str
    """``flow/deployment`` that runs a shard on a work pool."""
    limits: Limits
    """A run of a shard that takes longer is given up."""
    access: Access
    """How runs of shards open the stores."""


@contextmanager
def open_execution(
    job: Job, progress: Progress, client: SyncPrefectClient, placement: Placement
) -> Iterator[Execution]:
    """Make ready to run shards; on leaving, nothing that was begun is waited for.

    Raises:
        RunError: If there is no such deployment.
    """
    match placement.execution:
        case "local":
            here = HereExecution(
                job, progress, workers=max(1, available_cpus() // placement.replicas)
            )
            try:
                yield here
            finally:
                here.stop.set()
        case "work-pool":
            with (
                ChildRuns(client, limits=placement.limits) as children,
                cancelled_with_parent(client, children, job.flow_run_id),
            ):
                deployment = ShardDeployment(
                    client,
                    children,
                    deployment=placement.deployment,
                    parent_run_id=job.flow_run_id,
                    run_id=job.run.run_id,
                )
                yield WorkPoolExecution(
                    job,
                    progress,
                    deployment=deployment,
                    access=placement.access,
                )
        case _:
            assert_never(placement.execution)
