"""What a person sees of a run that is under way: one line per shard and a progress artifact."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import cast
from uuid import UUID

import httpx
from prefect.artifacts import create_progress_artifact
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.exceptions import PrefectException
from prefect.logging import get_logger

from kaleidoscope.manifest import ShardStats
from kaleidoscope.runs import Run
from kaleidoscope.summary import format_seconds

PUBLISH_INTERVAL_S = 2.0
"""Least time between two updates of the artifact: each is a request to Prefect's server."""

ARTIFACT_KEY = "augment-progress"

logger = get_logger("kaleidoscope.progress")


@dataclass(frozen=True, slots=True)
class Tally:
    """How far a run is; what earlier flow runs did counts as shards only."""

    num_shards: int
    num_shards_before: int
    """Done before this flow run began."""
    num_sources: int
    """Of the whole run."""
    done: ShardStats
    """What this flow run has done."""
    elapsed_s: float
    """Seconds since this flow run began with the shards."""

    @property
    def fraction(self) -> float:
        """Share of the run that is done, in [0, 1]; shards are of about equal work."""
        before = self.num_shards_before / self.num_shards
        return min(before + self.done.num_sources / self.num_sources, 1.0)

    @property
    def images_per_s(self) -> float:
        """Images made per second."""
        return self.done.num_outputs / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds until the end at this pace; None before anything is done."""
        here = self.fraction - self.num_shards_before / self.num_shards
        return self.elapsed_s * (1 - self.fraction) / here if here > 0 else None

    def __str__(self) -> str:
        before = f", {self.num_shards_before} shards before" if self.num_shards_before else ""
        failed = f", {self.done.num_failed:,} sources failed" if self.done.num_failed else ""
        left = "" if self.left_s is None else f", {format_seconds(self.left_s)} left"
        return (
            f"{self.done.num_outputs:,} images from {self.done.num_sources:,} of "
            f"{self.num_sources:,} sources{before}{failed}, {self.images_per_s:,.0f} images/s{left}"
        )


class Progress:
    """Counts what shards report, from any thread, and publishes it now and then."""

    def __init__(
        self,
        client: SyncPrefectClient,
        run: Run,
        *,
        num_pending: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make the artifact of the current flow run.

        Args:
            client: May be shared by threads.
            run: The run, with at least one shard.
            num_pending: Its shards that are not done.
            clock: Seconds that never go back.
        """
        self._client = client
        self._plan = run.plan
        self._num_before = run.plan.num_shards - num_pending
        self._clock = clock
        self._lock = Lock()
        self._started_s = self._published_s = clock()
        self._done: dict[int, ShardStats] = {}
        tally = self.tally()
        artifact_id = create_progress_artifact(
            progress=100 * tally.fraction, key=ARTIFACT_KEY, description=str(tally)
        )
        # A coroutine only where an event loop runs, and flows here are synchronous.
        self._artifact_id = cast(UUID, artifact_id)

    def tally(self) -> Tally:
        """Return how far the run is."""
        with self._lock:
            done = ShardStats.total(self._done.values())
        return Tally(
            num_shards=self._plan.num_shards,
            num_shards_before=self._num_before,
            num_sources=self._plan.num_sources,
            done=done,
            elapsed_s=self._clock() - self._started_s,
        )

    def begin(self, shard: int) -> None:
        """Forget what an earlier try of a shard had done, since this one does it again."""
        with self._lock:
            self._done.pop(shard, None)

    def add(self, shard: int, stats: ShardStats) -> None:
        """Count what more was done of a shard, and publish if the last time was long ago."""
        with self._lock:
            self._done[shard] = ShardStats.total([self._done.get(shard, ShardStats()), stats])
        self._publish_now_and_then()

    def finish(self, shard: int, stats: ShardStats) -> None:
        """Count what a shard that is done came to, whoever did it, in place of what was added."""
        with self._lock:
            self._done[shard] = stats
        self._publish_now_and_then()

    def _publish_now_and_then(self) -> None:
        with self._lock:
            now_s = self._clock()
            if now_s - self._published_s < PUBLISH_INTERVAL_S:
                return
            self._published_s = now_s
        self.publish()

    def publish(self) -> None:
        """Write to the artifact how far the run is."""
        tally = self.tally()
        update = ArtifactUpdate(data=100 * tally.fraction, description=str(tally))
        try:
            self._client.update_artifact(self._artifact_id, update)
        except (httpx.HTTPError, PrefectException) as error:
            # The next update says it all again.
            logger.debug("Progress could not be published: %s", error)


def shard_line(shard: int, stats: ShardStats) -> str:
    """Return what a log says of a shard that is done."""
    failed = f", {stats.num_failed:,} failed" if stats.num_failed else ""
    return (
        f"Shard {shard}: {stats.num_outputs:,} images from {stats.num_sources:,} sources{failed} "
        f"in {format_seconds(stats.wall_s)}"
    )
