"""Removing outputs whose source went away, was replaced or failed, by what the manifest says.

Objects are found through the rows that named them. The listing tells which of them are still
there, and what a run that was killed had made of a source that then went away or failed. What goes
is recorded first, by a committed run that takes the sources out of the data set, and deleted after:
a process that dies in between leaves objects that no row names, and the next prune removes them.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from itertools import chain, islice
from typing import Any

from kaleidoscope.errors import RunError
from kaleidoscope.identity import output_stem, source_id
from kaleidoscope.increments import gone_sources
from kaleidoscope.lease import Lease
from kaleidoscope.lineage import Lineage
from kaleidoscope.listing import BROKEN_LINK, SourceListing
from kaleidoscope.model import ObjectInfo, PlannedSource
from kaleidoscope.pipeline import commit_run, pending_shards, take_out
from kaleidoscope.runs import Run, list_runs, load_request, load_run
from kaleidoscope.stores import Store

EXAMPLES = 10
"""Sources and objects that a report names."""

_DELETED_AT_ONCE = 1_000

_COLUMNS = ("source_id", "output_key", "tar_key", "mask_key")


@dataclass(frozen=True, slots=True)
class Pruning:
    """What a prune takes out of a data set, or took."""

    destination: str
    is_done: bool
    """False if it was only looked at."""
    run_id: str | None
    """The run that recorded it; None if there was no source to take out."""
    num_sources: int
    """Sources that are gone and had outputs or failures in the data set."""
    sources: tuple[str, ...]
    """Keys of the first of them."""
    num_outputs: int
    """Rows of outputs that no longer stand with them."""
    num_objects: int
    """Objects to delete: of these outputs, of earlier ones that no longer stand, and of such that
    no run recorded."""
    size: int
    """Bytes of these objects."""
    objects: tuple[str, ...]
    """Keys of the first of them."""
    num_kept_in_tars: int
    """Outputs whose bytes stay, in tars that hold others too; a tar goes with its last output."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to remove."""
        return not (self.num_sources or self.num_objects)

    def to_json(self) -> str:
        """Return the fields as JSON."""
        return json.dumps(asdict(self), indent=2)


@dataclass(frozen=True, slots=True)
class _Found:
    gone: tuple[PlannedSource, ...]
    doomed: tuple[str, ...]
    report: Pruning


def look(source: Store, destination: Store) -> Pruning:
    """Say what a prune would remove; nothing is written.

    Args:
        source: Where the sources are, as the runs recorded it.
        destination: Where the runs and their outputs are.

    Raises:
        RunError: If a run waits to be finished, or there is no source at all.
        ManifestError: If nothing is committed there, or a manifest is missing or damaged.
        StoreError: If a store fails.
    """
    return _find(source, destination).report


def prune(source: Store, destination: Store, *, now: datetime, lease: Lease) -> Pruning:
    """Take sources that are gone out of the data set, and delete all that no row names any more.

    Doing it again finishes what was interrupted: a run of which every part is there, as of a prune
    that died before its commit, is committed first.

    Args:
        source: Where the sources are, as the runs recorded it.
        destination: Where the runs and their outputs are.
        now: The time, with its zone.
        lease: Of the destination.

    Raises:
        RunError: If a run waits to be finished, there is no source at all, or the lease was lost.
        ManifestError: If nothing is committed there, or a manifest is missing or damaged.
        StoreError: If a store fails.
    """
    lease.check()
    unfinished = _unfinished(destination)
    if unfinished is not None and not pending_shards(destination, unfinished):
        commit_run(destination, unfinished, now=now)
    found = _find(source, destination)
    run_id = None
    lease.check()
    if found.gone:
        run_id = take_out(destination, found.gone, now=now).run_id
    keys = iter(found.doomed)
    while batch := list(islice(keys, _DELETED_AT_ONCE)):
        lease.check()
        destination.delete(batch)
    return replace(found.report, is_done=True, run_id=run_id)


def _find(source: Store, destination: Store) -> _Found:
    lineage = Lineage(destination)
    _refuse_unfinished(destination)
    masks = load_request(destination, lineage.runs[-1]).recipe.masks_folder
    listed = _listed(source, SourceListing(source, destination, masks=masks))
    gone = tuple(gone_sources(listed, destination, lineage.runs))
    keys = [planned.info.key for planned in gone]
    gone_ids = frozenset(map(source_id, keys))
    fallen = _fallen(lineage, gone_ids)
    listed_sizes = _list_removable(lineage, fallen, keys, masks)
    doomed = fallen.objects | listed_sizes.keys()
    if doomed:
        for row in _rows(lineage.scan(_COLUMNS)):
            if row["source_id"] not in gone_ids:
                doomed.difference_update(_objects(row))
    sizes = {key: size for key, size in listed_sizes.items() if key in doomed}
    report = Pruning(
        destination=destination.uri,
        is_done=False,
        run_id=None,
        num_sources=len(gone),
        sources=tuple(keys[:EXAMPLES]),
        num_outputs=fallen.num_outputs,
        num_objects=len(sizes),
        size=sum(sizes.values()),
        objects=tuple(islice(sizes, EXAMPLES)),
        num_kept_in_tars=sum(n for key, n in fallen.members.items() if key not in doomed),
    )
    return _Found(gone, tuple(sizes), report)


def _refuse_unfinished(destination: Store) -> None:
    run = _unfinished(destination)
    if run is None:
        return
    if pending_shards(destination, run):
        raise RunError(
            f"run {run.run_id} in {destination.uri} is not finished, and may be making outputs "
            "that a prune would remove; finish it first, with `kaleidoscope retry`"
        )
    raise RunError(
        f"run {run.run_id} in {destination.uri} has all its parts and is not committed, so nobody "
        "can tell yet what a prune would remove; `kaleidoscope prune --yes`, or any prune that is "
        "no dry run, commits it first, as does the next run"
    )


def _unfinished(destination: Store) -> Run | None:
    """Return the newest run if it was planned and did not commit."""
    planned = [entry for entry in list_runs(destination) if entry.is_planned]
    if not planned or planned[-1].is_committed:
        return None
    return load_run(destination, planned[-1].run_id)


def _listed(source: Store, listing: SourceListing) -> Iterator[ObjectInfo]:
    """List the sources; a lost disk is no wish to remove what was made of it."""
    is_empty = True
    for info in listing:
        is_empty = False
        yield info
    if is_empty:
        raise RunError(
            f"there is no source at all under {source.uri}, so every output would go; check the "
            "place, or delete the destination yourself if that is what you want"
        )
    if num_broken := listing.left_out[BROKEN_LINK]:
        raise RunError(
            f"{num_broken} links under {source.uri} lead nowhere, and the photographs behind them "
            "may be on a disk that is away; bring it back, or remove the links, which the log names"
        )


@dataclass(frozen=True, slots=True)
class _Fallen:
    """What rows tell of that no longer stand once sources are gone."""

    objects: set[str]
    members: Counter[str]
    """How many of the rows lie in each tar."""
    num_outputs: int
    """Rows that fall with the sources."""


def _fallen(lineage: Lineage, gone: frozenset[str]) -> _Fallen:
    objects: set[str] = set()
    members: Counter[str] = Counter()
    num_outputs = 0
    with_sources = lineage.scan(_COLUMNS, [("source_id", "in", sorted(gone))]) if gone else ()
    for batches in (lineage.scan_outdated(_COLUMNS), with_sources):
        for row in _rows(batches):
            num_outputs += batches is with_sources
            objects.update(_objects(row))
            if row["tar_key"] is not None:
                members[row["tar_key"]] += 1
    return _Fallen(objects, members, num_outputs)


def _list_removable(
    lineage: Lineage, fallen: _Fallen, gone: Iterable[str], masks: str | None
) -> dict[str, int]:
    """Return the sizes of objects that are there of fallen rows, and of sources gone or failed.

    Rows that stand may name some of them.
    """
    failed = lineage.failures(columns=["source_key"])["source_key"]
    stems = {output_stem(str(key)) for key in chain(gone, failed)}
    folder = "" if masks is None else f"{masks}/"
    return {
        info.key: info.size
        for info in (lineage.store.list_objects() if stems or fallen.objects else ())
        if info.key in fallen.objects or info.key.removeprefix(folder).rpartition("-")[0] in stems
    }


def _rows(batches: Iterable[Any]) -> Iterator[dict[str, Any]]:
    for batch in batches:
        yield from batch.to_pylist()


def _objects(row: dict[str, Any]) -> tuple[str, ...]:
    if row["tar_key"] is not None:
        return (row["tar_key"],)
    return tuple(row[name] for name in ("output_key", "mask_key") if row[name] is not None)
