"""How far the runs of a destination have come, by what lies there."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

from kaleidoscope.errors import ManifestError
from kaleidoscope.lease import read_holder
from kaleidoscope.lineage import Lineage
from kaleidoscope.runs import (
    RunEntry,
    finished_shards,
    list_runs,
    load_report,
    load_request,
    load_run,
)
from kaleidoscope.stores import Store


@dataclass(frozen=True, slots=True)
class RunStatus:
    """How far a run has come."""

    run_id: str
    state: Literal["committed", "interrupted", "left", "unplanned"]
    """Interrupted: goes on when it is started again, or is at work now. Left: a later run was
    committed and did what it would have done. Unplanned: it ended, or is, before its first image.
    """
    num_parts: int = 0
    """Shards that are done."""
    num_shards: int = 0
    num_outputs: int | None = None
    """None until it is committed."""
    failures: Mapping[str, int] = field(default_factory=dict)
    """Failed sources of a committed run by reason."""


@dataclass(frozen=True, slots=True)
class Status:
    """What a destination holds, and who is at work there."""

    destination: str
    source: str
    recipe_digest: str
    runs: tuple[RunStatus, ...]
    """The oldest first."""
    failures: Mapping[str, int]
    """Sources that failed and that no later run has made, by reason: what a retry does again."""
    holder: str | None
    """Who holds the lease, or died while holding it; None if nobody does."""

    @property
    def interrupted(self) -> RunStatus | None:
        """The run that waits to be finished."""
        return next((run for run in self.runs if run.state == "interrupted"), None)

    def to_json(self) -> str:
        """Return the fields as JSON."""
        return json.dumps(asdict(self), indent=2)


def read_status(destination: Store) -> Status:
    """Return how far the runs of a destination have come.

    Raises:
        ManifestError: If there is no run, or the records of one are damaged.
        StoreError: If the destination cannot be read.
    """
    entries = list_runs(destination)
    if not entries:
        raise ManifestError(
            f"there is no run in {destination.uri}; check the path, or start one there"
        )
    request = load_request(destination, entries[-1].run_id)
    committed = [entry for entry in entries if entry.is_committed]
    newest = committed[-1].run_id if committed else ""
    holder = read_holder(destination)
    return Status(
        destination=destination.uri,
        source=request.source,
        recipe_digest=request.recipe.digest,
        runs=tuple(_status_of(destination, entry, newest) for entry in entries),
        failures=_standing_failures(destination) if committed else {},
        holder=None if holder is None else str(holder),
    )


def _status_of(destination: Store, entry: RunEntry, newest_committed: str) -> RunStatus:
    if not entry.is_planned:
        return RunStatus(entry.run_id, "unplanned")
    num_shards = load_run(destination, entry.run_id).plan.num_shards
    if entry.is_committed:
        report = load_report(destination, entry.run_id)
        counts = (num_shards, num_shards, report.num_outputs, dict(report.failures))
        return RunStatus(entry.run_id, "committed", *counts)
    num_parts = len(finished_shards(destination, entry.run_id))
    state: Literal["interrupted", "left"] = (
        "interrupted" if entry.run_id > newest_committed else "left"
    )
    return RunStatus(entry.run_id, state, num_parts, num_shards)


def _standing_failures(destination: Store) -> dict[str, int]:
    reasons = Lineage(destination).failures(["error_type"])["error_type"]
    return {str(reason): int(count) for reason, count in reasons.value_counts().items()}
