"""The life of a run: start it, run its shards anywhere and in any order, commit it.

Everything a run knows lies in the destination, so each of these steps may happen in another
process, may be killed, and may be done twice.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import chain, islice

from kaleidoscope.calibration import calibrate
from kaleidoscope.errors import (
    KaleidoscopeError,
    ObjectExistsError,
    ObjectMissingError,
    PlanError,
    RunError,
    StoreError,
)
from kaleidoscope.identity import output_id, source_id
from kaleidoscope.increments import NUM_READERS, History, MissingSources, find_conflict
from kaleidoscope.labels import Labels, load_labels, planned_labels
from kaleidoscope.listing import SourceListing
from kaleidoscope.manifest import (
    PartWriter,
    Record,
    RunFacts,
    ShardStats,
    SourceFacts,
    merge_parts,
    read_stats,
    sources_from_parquet,
    sources_to_parquet,
)
from kaleidoscope.model import ObjectInfo, PlannedSource
from kaleidoscope.planning import Plan, Shard, cut_shards, estimate
from kaleidoscope.recipe import Recipe
from kaleidoscope.runs import (
    Report,
    Request,
    Run,
    RunKeys,
    Versions,
    finished_shards,
    list_runs,
    load_report,
    load_request,
    load_run,
    save_plan,
)
from kaleidoscope.shard import augment_shard
from kaleidoscope.stores import Store

_TAKEN_OUT_AT_ONCE = 10_000
"""Sources in a part of those that are taken out."""

_RUN_TIME = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, slots=True)
class StartOptions:
    """How a run is cut, and what it does about what is there already."""

    min_shards: int = 1
    """Cut a small data set into so many shards, so that every worker has one."""
    shard_s: float = 60.0
    """CPU seconds of a full shard: what a crash can cost for each worker."""
    num_measured: int = 0
    """Make the outputs of so many sources first, to cut by what they take and not by estimates."""
    retry_failed: bool = False
    """Do the sources that failed in earlier runs again, though they did not change."""


def make_plan(
    source: Store, destination: Store | None, recipe: Recipe, *, options: StartOptions
) -> Plan:
    """Return what a run would do; nothing is written.

    Args:
        source: Where the sources are.
        destination: Where outputs would go: what is done there is not done again. None for a
            destination that is still empty.
        recipe: What to make.
        options: How to cut the run.

    Raises:
        PlanError: If there is no image, the recipe makes none of those that are there, or the
            destination holds another recipe's images.
    """
    earlier = _NO_RUNS if destination is None else _earlier_runs(source, destination, recipe)
    return _plan(source, destination, recipe, options, earlier=earlier)


def start_run(
    source: Store, destination: Store, recipe: Recipe, *, now: datetime, options: StartOptions
) -> Run:
    """Plan a run, or return the one that was interrupted in doing the same.

    Args:
        source: Where the sources are.
        destination: Where the outputs and all records go.
        recipe: What to make.
        now: The time, with its zone; runs sort by it.
        options: How to cut the run; an interrupted run keeps its shards.

    Returns:
        The run. If nothing is missing it is the newest one, with a plan without shards.

    Raises:
        PlanError: If there is no image, the recipe makes none of those that are there, or the
            destination holds another recipe's images.
    """
    earlier = _earlier_runs(source, destination, recipe)
    if earlier.interrupted is not None:
        return load_run(destination, earlier.interrupted)
    run_id = _name_run(now, recipe, newest=earlier.newest)
    request = Request(
        run_id,
        source.uri,
        recipe,
        now,
        Versions.installed(),
        recipe.versions,
        upon=earlier.committed,
    )
    new = _NewRun(destination, request)
    try:
        plan = _plan(source, destination, recipe, options, earlier=earlier, save=new.save_shard)
    except KaleidoscopeError:
        new.take_back()
        raise
    if not plan.num_shards:  # All is done, and what is done was committed by someone.
        return Run(load_request(destination, earlier.committed[-1]), plan)
    run = Run(new.request, plan)
    save_plan(destination, run)
    try:
        # Again, since another process may have looked before this plan was there. Whoever looks
        # last sees both, and no image is made before.
        _earlier_runs(source, destination, recipe)
    except PlanError:
        destination.delete([run.keys.plan])
        raise
    return run


class _NewRun:
    """Writes the plan of a run under a name that no other process writes to.

    Two plans of one name would be cut differently if an option or the listing differed, and
    sources would be lost between them.
    """

    def __init__(self, destination: Store, request: Request) -> None:
        self.request = request
        self._destination = destination
        self._written: list[str] = []

    def take_back(self) -> None:
        """Leave no record of a run that was refused while it was planned."""
        with suppress(StoreError):
            self._destination.delete(self._written)

    def save_shard(self, shard: Shard) -> None:
        if shard.index == 0:  # A run with nothing to do leaves no record.
            self._claim_name()
        key = RunKeys(self.request.run_id).shard(shard.index)
        self._written.append(key)
        self._destination.put(key, sources_to_parquet(shard.sources))

    def _claim_name(self) -> None:
        while True:
            request = self.request
            try:
                self._destination.create(RunKeys(request.run_id).request, request.to_json())
            except ObjectExistsError:
                later = _name_run(request.created_at, request.recipe, newest=request.run_id)
                self.request = replace(request, run_id=later)
            else:
                self._written.append(RunKeys(request.run_id).request)
                return


def _name_run(now: datetime, recipe: Recipe, *, newest: str | None) -> str:
    """Return a name that sorts behind ``newest``, whose machine's clock may have been ahead."""
    started = now.astimezone(UTC).replace(microsecond=0)
    if newest is not None:
        with suppress(ValueError):  # A folder that someone else made.
            before = datetime.strptime(newest.partition("-")[0], _RUN_TIME).replace(tzinfo=UTC)
            started = max(started, before + timedelta(seconds=1))
    return f"{started.strftime(_RUN_TIME)}-{recipe.digest[:8]}"


def pending_shards(destination: Store, run: Run) -> tuple[int, ...]:
    """Return the indices of the shards that are not done, in order."""
    finished = finished_shards(destination, run.run_id)
    return tuple(index for index in range(run.plan.num_shards) if index not in finished)


def run_shard(  # noqa: PLR0913 -- where from, where to, which shard, and how.
    source: Store,
    destination: Store,
    run: Run,
    index: int,
    *,
    workers: int,
    now: datetime,
    flow_run_id: str | None = None,
    on_progress: Callable[[ShardStats], None] | None = None,
) -> ShardStats:
    """Make the outputs of a shard and then write its part; do nothing if the part is there.

    Args:
        source: Where the sources are.
        destination: Where the outputs and the part go.
        run: The run.
        index: Which of its shards.
        workers: Threads that transform and encode, at least 1.
        now: The time, with its zone; recorded in every row.
        flow_run_id: Recorded in every row: which orchestrated run did it.
        on_progress: Called after each source, from this thread, with what it came to.

    Raises:
        StoreError: If the source or the destination keeps failing. What was written is written
            again, with the same bytes, when the shard is run again.
    """
    with suppress(ObjectMissingError):
        return read_stats(destination.get(run.keys.part(index)).data)
    sources = sources_from_parquet(destination.get(run.keys.shard(index)).data)
    facts = _facts(run.request, index, now=now, flow_run_id=flow_run_id)
    try:
        part, stats = augment_shard(
            sources,
            source,
            destination,
            run.request.recipe,
            facts,
            workers=workers,
            on_progress=on_progress,
        )
        destination.create(run.keys.part(index), part)
    except ObjectExistsError:
        # Another process did the shard meanwhile, and what is committed is what it made.
        return read_stats(destination.get(run.keys.part(index)).data)
    return stats


def _facts(request: Request, shard: int, *, now: datetime, flow_run_id: str | None) -> RunFacts:
    versions = Versions.installed()
    return RunFacts(
        run_id=request.run_id,
        recipe_digest=request.recipe.digest,
        source_root=request.source,
        seed=request.recipe.seed,
        shard=shard,
        flow_run_id=flow_run_id,
        kaleidoscope_version=versions.kaleidoscope,
        opencv_version=versions.opencv,
        numpy_version=versions.numpy,
        created_at=now,
    )


def commit_run(destination: Store, run: Run, *, now: datetime) -> Report:
    """Merge the parts into the manifest, write the report and, last, the mark of success.

    Args:
        destination: Where the run's records are.
        run: The run; one that is committed already is left as it is.
        now: The time, with its zone.

    Raises:
        RunError: If a shard is not done.
    """
    keys = run.keys
    if any(entry.run_id == run.run_id and entry.is_committed for entry in list_runs(destination)):
        return load_report(destination, run.run_id)
    if pending := pending_shards(destination, run):
        raise RunError(
            f"run {run.run_id} cannot be committed: {len(pending)} of {run.plan.num_shards} shards "
            f"are not done ({_first_few(pending)}); start the run again to do them"
        )
    stats: list[ShardStats] = []

    def parts() -> Iterator[bytes]:
        for index in range(run.plan.num_shards):
            part = destination.get(keys.part(index)).data
            stats.append(read_stats(part))
            yield part

    for index, data in enumerate(merge_parts(parts())):
        destination.put(keys.manifest_file(index), data)
    report = _report(destination, run, stats, now)
    destination.put(keys.report, report.to_json())
    destination.put(keys.success, b"")
    return report


def _report(destination: Store, run: Run, stats: Iterable[ShardStats], now: datetime) -> Report:
    total = ShardStats.total(stats)
    return Report(
        run_id=run.run_id,
        source=run.request.source,
        destination=destination.uri,
        num_sources=total.num_sources,
        num_done=run.plan.num_done,
        num_failed=total.num_failed,
        num_outputs=total.num_outputs,
        source_bytes=total.source_bytes,
        output_bytes=total.output_bytes,
        num_shards=run.plan.num_shards,
        shard_s=total.wall_s,
        elapsed_s=(now - run.request.created_at).total_seconds(),
        failures=total.errors,
        max_error_rate=run.request.recipe.limits.max_error_rate,
        num_gone=run.plan.num_gone,
        num_pruned=total.num_pruned,
    )


def take_out(destination: Store, sources: Sequence[PlannedSource], *, now: datetime) -> Report:
    """Take sources out of the data set by a run of its own; no object is deleted.

    From its commit on no row of an earlier run stands for them, and if one of them comes back, it
    is new. A process that dies before leaves the data set as it was, or a run that the next one
    commits.

    Args:
        destination: Where the runs are.
        sources: At least one, in key order, as earlier runs planned them.
        now: The time, with its zone.

    Raises:
        ManifestError: If nothing is committed there, or a record is damaged.
    """
    entries = list_runs(destination)
    committed = tuple(entry.run_id for entry in entries if entry.is_committed)
    newest = load_run(destination, committed[-1])
    request = replace(
        newest.request,
        run_id=_name_run(now, newest.request.recipe, newest=entries[-1].run_id),
        created_at=now,
        versions=Versions.installed(),
        upon=committed,
    )
    new = _NewRun(destination, request)
    remaining = iter(sources)
    num_shards = 0
    while batch := tuple(islice(remaining, _TAKEN_OUT_AT_ONCE)):
        # A source of which no node is planned is no source of the data set.
        nothing = [
            PlannedSource(ObjectInfo(planned.info.key, 0, ""), frozenset(), labels=planned.labels)
            for planned in batch
        ]
        new.save_shard(Shard(num_shards, tuple(nothing)))
        facts = _facts(new.request, num_shards, now=now, flow_run_id=None)
        part = PartWriter(facts)
        part.write(map(_taken_out, batch))
        run_keys = RunKeys(new.request.run_id)
        destination.put(run_keys.part(num_shards), part.finish(ShardStats(num_pruned=len(batch))))
        num_shards += 1
    plan = Plan(
        num_sources=0,
        num_done=0,
        num_shards=num_shards,
        source_bytes=0,
        num_outputs=0,
        cpu_s=0.0,
        left_out={},
        per_source=newest.plan.per_source,
    )
    run = Run(new.request, plan)
    save_plan(destination, run)
    return commit_run(destination, run, now=now)


def _taken_out(planned: PlannedSource) -> Record:
    key, label = planned.info.key, planned_labels(planned).label
    attributes = None if planned.labels is None else planned.labels.attributes
    source = SourceFacts(source_id(key), key, "", None, label, attributes=attributes)
    return Record(source, output_id(key, ""), node="", status="pruned")


@dataclass(frozen=True, slots=True)
class _EarlierRuns:
    committed: tuple[str, ...]
    """The oldest first."""
    interrupted: str | None
    """The newest run, if it was planned to make the same and did not commit."""
    newest: str | None
    """The newest of all, those whose planning never ended included."""
    forbidden_labels: frozenset[str]
    """In a ``not_for`` of those that are committed."""


_NO_RUNS = _EarlierRuns((), None, None, frozenset())


def _earlier_runs(source: Store, destination: Store, recipe: Recipe) -> _EarlierRuns:
    entries = list_runs(destination)
    # Without a plan there is no image, and nobody but who made such a run may go on with it.
    planned = [entry for entry in entries if entry.is_planned]
    interrupted = None
    forbidden_labels: set[str] = set()
    with ThreadPoolExecutor(NUM_READERS) as readers:
        requests = list(readers.map(lambda entry: load_request(destination, entry.run_id), planned))
    for entry, request in zip(planned, requests, strict=True):
        _check_adds_to(request, destination, source, recipe)
        # One of a smaller recipe is left as it is: this recipe's run makes all that it would.
        makes_the_same = request.matches(source.uri, recipe)
        interrupted = entry.run_id if makes_the_same and not entry.is_committed else None
        if entry.is_committed:
            forbidden_labels |= request.recipe.forbidden_labels
    return _EarlierRuns(
        committed=tuple(entry.run_id for entry in planned if entry.is_committed),
        interrupted=interrupted,
        newest=entries[-1].run_id if entries else None,
        forbidden_labels=frozenset(forbidden_labels),
    )


def _check_adds_to(earlier: Request, destination: Store, source: Store, recipe: Recipe) -> None:
    """Refuse to mix images that do not belong together.

    Raises:
        PlanError: If the earlier run has another source, or a recipe that this one does not add to.
    """
    if earlier.source != source.uri:
        raise PlanError(
            f"{destination.uri} holds images of {earlier.source}, made by run {earlier.run_id}, "
            f"and not of {source.uri}. Choose another destination"
        )
    if (conflict := find_conflict(earlier, recipe)) is not None:
        raise PlanError(
            f"{destination.uri} holds images of recipe {earlier.recipe.digest}, made by run "
            f"{earlier.run_id}; recipe {recipe.digest} does not only add to it. {conflict}. A "
            "recipe may add transforms behind the others, select more nodes and ask for more "
            "images for each class; anything else would mix two data sets. Choose another "
            "destination, or take the change back"
        )


def _plan(  # noqa: PLR0913 -- the parts of a plan; only this module calls it.
    source: Store,
    destination: Store | None,
    recipe: Recipe,
    options: StartOptions,
    *,
    earlier: _EarlierRuns,
    save: Callable[[Shard], None] | None = None,
) -> Plan:
    listing = SourceListing(source, destination, masks=recipe.masks_folder)
    # Where there is no destination nothing is committed, and the store is not asked.
    history = History(source if destination is None else destination, earlier.committed)
    labels = Labels() if recipe.targets is None else load_labels(source, recipe.targets, listing)
    # A label that an earlier run knew may have lost its sources since.
    _check_forbidden(recipe.forbidden_labels - earlier.forbidden_labels, listing, labels)
    missing = MissingSources(
        listing, history, recipe, retry_failed=options.retry_failed, labels=labels
    )
    sources = iter(missing)
    measured = list(islice(sources, options.num_measured))
    per_source = calibrate(estimate(recipe), source, [planned.info for planned in measured], recipe)
    num_shards = num_sources = source_bytes = num_outputs = largest = 0
    cpu_s = 0.0
    for shard in cut_shards(
        chain(measured, sources),
        per_source,
        shard_s=options.shard_s,
        min_shards=options.min_shards,
    ):
        if save is not None:
            save(shard)
        num_shards += 1
        num_sources += len(shard.sources)
        source_bytes += sum(planned.info.size for planned in shard.sources)
        largest = max(largest, *(planned.info.size for planned in shard.sources))
        num_outputs += sum(p.num_missing(per_source.num_outputs) for p in shard.sources)
        cpu_s += sum(map(per_source.work_s, shard.sources))
    if listing.nested is not None:
        raise PlanError(_explain_nested(source, listing.nested))
    if not num_sources and not missing.num_done:
        others = ", ".join(f"{n} {reason}" for reason, n in listing.left_out.items())
        raise PlanError(f"there is no image under {source.uri}; left out: {others or 'nothing'}")
    if not num_sources and not earlier.committed:
        raise PlanError(
            f"the recipe makes no image of any of the {missing.num_done} sources under "
            f"{source.uri}: not_for forbids all nodes that it selects; name fewer labels, or set "
            "select.keep_original"
        )
    return Plan(
        num_sources=num_sources,
        num_done=missing.num_done,
        num_shards=num_shards,
        source_bytes=source_bytes,
        num_outputs=num_outputs,
        cpu_s=cpu_s,
        left_out=dict(listing.left_out),
        per_source=per_source,
        num_gone=missing.num_gone,
        gone=tuple(missing.gone),
        classes=missing.classes,
        lacking=labels.lacking,
        largest_source_bytes=largest,
        num_unneeded=missing.num_unneeded,
    )


def _explain_nested(source: Store, folder: str) -> str:
    if not folder:
        return (
            f"the source {source.uri} is a data set itself: its images would be taken for "
            "photographs, and those of one photograph for unrelated ones; give the photographs "
            "that it was made of"
        )
    return (
        f"{source.uri}/{folder} is a data set that was made below the source, and its "
        "images would be taken for photographs; move it, or choose a folder beside it"
    )


def _check_forbidden(
    forbidden: Iterable[str], listing: Iterable[ObjectInfo], labels: Labels
) -> None:
    """Refuse a label of a ``not_for`` that no source has, which would forbid nothing.

    Raises:
        PlanError: If there is one.
    """
    unknown = set(forbidden)
    if not unknown:
        return
    for info in listing:
        unknown.discard(labels.label_of(info.key) or "")
        if not unknown:
            return
    raise PlanError(
        f"not_for names labels that no source has ({', '.join(sorted(unknown))}); check how they "
        "are written, or take them away"
    )


def _first_few(indices: tuple[int, ...]) -> str:
    most = 10
    text = ", ".join(str(index) for index in indices[:most])
    return text if len(indices) <= most else f"{text}, …"
