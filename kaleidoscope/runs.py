"""The records of runs in a destination: where they lie, what they say, which are committed.

``<destination>/_kaleidoscope/runs/<run_id>/`` holds what the run was asked (``recipe.json``), its
plan, a part for each finished shard, and, once it is committed, the manifest, the report and
``_SUCCESS``, written last. What the store holds is the only truth about a run's progress.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib import metadata
from typing import Any, Self

import cv2
import numpy as np

from kaleidoscope.balance import ClassShare
from kaleidoscope.errors import ManifestError, ObjectMissingError
from kaleidoscope.identity import RESERVED_FOLDER
from kaleidoscope.planning import Estimate, Plan
from kaleidoscope.recipe import Recipe
from kaleidoscope.stores import Store

RUNS_PREFIX = f"{RESERVED_FOLDER}/runs/"


@dataclass(frozen=True, slots=True)
class RunKeys:
    """Where the records of a run lie, relative to the destination."""

    run_id: str

    @property
    def folder(self) -> str:
        """The prefix of everything below, with its last slash."""
        return f"{RUNS_PREFIX}{self.run_id}/"

    @property
    def request(self) -> str:
        """What the run was asked to do."""
        return f"{self.folder}recipe.json"

    @property
    def plan(self) -> str:
        """The numbers of the plan; written after its shards."""
        return f"{self.folder}plan/plan.json"

    def shard(self, index: int) -> str:
        """The sources of a shard."""
        return f"{self.folder}plan/shard-{index:05d}.parquet"

    @property
    def parts(self) -> str:
        """The prefix of all parts."""
        return f"{self.folder}parts/"

    def part(self, index: int) -> str:
        """The rows of a shard, and the mark that it is done."""
        return f"{self.parts}part-{index:05d}.parquet"

    @property
    def manifest(self) -> str:
        """The prefix of the manifest's files."""
        return f"{self.folder}manifest/"

    def manifest_file(self, index: int) -> str:
        """A file of the manifest."""
        return f"{self.manifest}manifest-{index:05d}.parquet"

    @property
    def report(self) -> str:
        """Counts, bytes, seconds and failures by reason."""
        return f"{self.folder}report.json"

    @property
    def success(self) -> str:
        """The mark that the run is committed."""
        return f"{self.folder}_SUCCESS"


@dataclass(frozen=True, slots=True)
class Versions:
    """What the bytes of an output depend on beside its source and recipe."""

    kaleidoscope: str
    opencv: str
    numpy: str

    @classmethod
    def installed(cls) -> Self:
        """Return the versions that are in use here."""
        return cls(metadata.version("kaleidoscope"), cv2.__version__, np.__version__)


@dataclass(frozen=True, slots=True)
class Request:
    """What a run was asked to do."""

    run_id: str
    source: str
    """URI of the source prefix."""
    recipe: Recipe
    created_at: datetime
    versions: Versions
    transform_versions: tuple[int, ...]
    """Of the recipe's steps when the run was started."""
    upon: tuple[str, ...] = ()
    """The runs that were committed when this one was planned; runs of before there was this field
    name none."""

    def matches(self, source: str, recipe: Recipe) -> bool:
        """Whether the same was asked."""
        return self.source == source and self.recipe.digest == recipe.digest

    def to_json(self) -> bytes:
        """Return the document that :meth:`from_json` reads."""
        document = {
            "run_id": self.run_id,
            "source": self.source,
            "recipe_digest": self.recipe.digest,
            "recipe": self.recipe.model_dump(mode="json"),
            "created_at": self.created_at.isoformat(),
            "versions": asdict(self.versions),
            "transform_versions": self.transform_versions,
            "upon": self.upon,
        }
        return json.dumps(document, indent=2).encode()

    @classmethod
    def from_json(cls, data: bytes, *, origin: str = "the request of a run") -> Self:
        """Read what :meth:`to_json` wrote.

        Args:
            data: The document.
            origin: What to call it in an error.

        Raises:
            ManifestError: If it is damaged.
            RecipeError: If this release does not know a field or a transform of the recipe.
        """
        with _reading(origin):
            document = json.loads(data)
            return cls(
                run_id=document["run_id"],
                source=document["source"],
                recipe=Recipe.from_mapping(document["recipe"], origin=f"run {document['run_id']}"),
                created_at=datetime.fromisoformat(document["created_at"]),
                versions=Versions(**document["versions"]),
                transform_versions=tuple(document["transform_versions"]),
                upon=tuple(document.get("upon", ())),
            )


@dataclass(frozen=True, slots=True)
class Run:
    """A run that is planned."""

    request: Request
    plan: Plan

    @property
    def run_id(self) -> str:
        """The run's name; names sort by the time when runs were started."""
        return self.request.run_id

    @property
    def keys(self) -> RunKeys:
        """Where its records lie."""
        return RunKeys(self.run_id)


@dataclass(frozen=True, slots=True)
class Report:
    """What a committed run did."""

    run_id: str
    source: str
    destination: str
    num_sources: int
    num_done: int
    """Sources that earlier runs had done."""
    num_failed: int
    """Sources of which something could not be made."""
    num_outputs: int
    source_bytes: int
    output_bytes: int
    num_shards: int
    shard_s: float
    """Seconds of all shards added up; they overlap when several workers run."""
    elapsed_s: float
    """Seconds from the run's start to its commit, with all interruptions."""
    failures: Mapping[str, int]
    """Failed sources by reason."""
    max_error_rate: float
    # Reports that were written before there were these do not have them.
    num_gone: int = 0
    """Sources of earlier runs that were no longer listed when this one began."""
    num_pruned: int = 0
    """Sources that it took out of the data set."""

    @property
    def keys(self) -> RunKeys:
        """Where the run's records lie."""
        return RunKeys(self.run_id)

    @property
    def error_rate(self) -> float:
        """Share of the sources that failed, in [0, 1], those of earlier runs counted as good."""
        num_all = self.num_sources + self.num_done
        return self.num_failed / num_all if num_all else 0.0

    def to_json(self) -> bytes:
        """Return the document that :meth:`from_json` reads."""
        return json.dumps(asdict(self), indent=2).encode()

    @classmethod
    def from_json(cls, data: bytes, *, origin: str = "the report of a run") -> Self:
        """Read what :meth:`to_json` wrote.

        Args:
            data: The document.
            origin: What to call it in an error.

        Raises:
            ManifestError: If it is damaged.
        """
        with _reading(origin):
            return cls(**json.loads(data))


@dataclass(frozen=True, slots=True)
class RunEntry:
    """What a listing shows of a run."""

    run_id: str
    is_planned: bool
    is_committed: bool

    @property
    def keys(self) -> RunKeys:
        """Where its records lie."""
        return RunKeys(self.run_id)


def list_runs(destination: Store) -> tuple[RunEntry, ...]:
    """Return the runs that a destination holds, the oldest first."""
    found: dict[str, set[str]] = {}
    for info in destination.list_objects(RUNS_PREFIX):
        run_id, _, record = info.key.removeprefix(RUNS_PREFIX).partition("/")
        found.setdefault(run_id, set()).add(record)
    return tuple(
        RunEntry(run_id, is_planned="plan/plan.json" in records, is_committed="_SUCCESS" in records)
        for run_id, records in sorted(found.items())
        if "recipe.json" in records
    )


def load_request(destination: Store, run_id: str) -> Request:
    """Return what a run was asked to do.

    Raises:
        ManifestError: If the destination has no such run, or its record is damaged.
        RecipeError: If this release does not know a field or a transform of its recipe.
    """
    key = RunKeys(run_id).request
    return Request.from_json(_read(destination, key, run_id), origin=f"{destination.uri}: {key}")


def load_run(destination: Store, run_id: str) -> Run:
    """Return a planned run.

    Raises:
        ManifestError: If the destination has no such run, its plan was not finished, or a record
            is damaged.
        RecipeError: If this release does not know a field or a transform of its recipe.
    """
    request = load_request(destination, run_id)
    key = RunKeys(run_id).plan
    data = _read(destination, key, run_id)
    with _reading(f"{destination.uri}: {key}"):
        document: dict[str, Any] = json.loads(data)
        per_source = document.pop("per_source")
        per_source["cheapest_order"] = tuple(per_source["cheapest_order"])
        document["gone"] = tuple(document.get("gone", ()))
        document["classes"] = tuple(ClassShare(**share) for share in document.get("classes", ()))
        return Run(request, Plan(per_source=Estimate(**per_source), **document))


def load_report(destination: Store, run_id: str) -> Report:
    """Return what a committed run did.

    Raises:
        ManifestError: If the destination has no such report, or it is damaged.
    """
    key = RunKeys(run_id).report
    return Report.from_json(_read(destination, key, run_id), origin=f"{destination.uri}: {key}")


def save_plan(destination: Store, run: Run) -> None:
    """Write the numbers of a plan whose shards are written: from now on the run can be resumed."""
    destination.put(run.keys.plan, json.dumps(asdict(run.plan), indent=2).encode())


def finished_shards(destination: Store, run_id: str) -> frozenset[int]:
    """Return the indices of the shards whose part is in the store."""
    keys = (info.key for info in destination.list_objects(RunKeys(run_id).parts))
    matches = (re.search(r"/part-(\d+)\.parquet$", key) for key in keys)
    return frozenset(int(match[1]) for match in matches if match)


def _read(destination: Store, key: str, run_id: str) -> bytes:
    try:
        return destination.get(key).data
    except ObjectMissingError as error:
        raise ManifestError(
            f"{destination.uri} has no run {run_id!r} that could be read: {key} is missing; "
            "check the destination, or start the run again"
        ) from error


@contextmanager
def _reading(record: str) -> Iterator[None]:
    """Turn what a document without the expected fields leads to into an error of ours."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ManifestError(
            f"{record} is damaged, or was written by another version of Kaleidoscope: {error!r}"
        ) from error
