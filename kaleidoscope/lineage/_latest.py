"""Which rows of several runs still stand.

Of a source that several runs did, the rows of its newest content stand: those of the newest run,
and those of earlier runs of the same content whose output no later run made again. Of its
failures the newest stands. Of a source that a run took out of the data set,
nothing of before stands.

Only sources that more than one run did can have rows that do not stand, so only they are kept in
mind: their contents, and the names of the outputs that each run made of them, of which nearly all
sources of a run share one set. A set of ids is held for every run but the largest. What is held
grows with the sources of the smaller runs, not with the rows.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, groupby
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from kaleidoscope.errors import ManifestError, RecipeError
from kaleidoscope.lineage._files import FILES_AT_ONCE, ManifestFile, each, make_dataset, naming
from kaleidoscope.manifest import ROWS_PER_GROUP
from kaleidoscope.runs import load_request
from kaleidoscope.stores import Store

_READ_AHEAD = 2
"""Row groups; a group of all columns takes about 20 MB."""

_FEW_ROWS = ROWS_PER_GROUP
"""A file of so many rows is read as a whole."""


def read_batches(
    store: Store, files: Sequence[ManifestFile], columns: Sequence[str], wanted: Any
) -> Iterator[Any]:
    """Yield the rows of files for which an expression is true, in order, as record batches.

    At most a few row groups are in memory. Row groups of which the footer's statistics say that
    no row can be wanted are not read, nor are other columns.

    Args:
        store: Where the files are.
        files: Of :func:`~kaleidoscope.lineage._files.find_files`.
        columns: Which to read.
        wanted: A :class:`pyarrow.compute.Expression`, or None for all rows.

    Raises:
        ManifestError: If the expression does not fit the columns, or a file is damaged.
    """

    def read(file: ManifestFile) -> Iterator[Any]:
        return _read_file(store, file, columns, wanted)

    for is_small, group in groupby(files, lambda file: file.num_rows <= _FEW_ROWS):
        some = tuple(group)
        if not is_small:
            yield from chain.from_iterable(map(read, some))
            continue
        # Of many small runs the requests take the time, so several are read at once.
        for start in range(0, len(some), FILES_AT_ONCE):
            window = some[start : start + FILES_AT_ONCE]
            yield from chain.from_iterable(each(lambda file: list(read(file)), window))


def _read_file(
    store: Store, file: ManifestFile, columns: Sequence[str], wanted: Any
) -> Iterator[Any]:
    try:
        scanner = make_dataset(store, [file]).scanner(
            columns=list(columns),
            filter=wanted,
            # Row groups are read ahead by the rows of so many batches.
            batch_size=ROWS_PER_GROUP,
            batch_readahead=_READ_AHEAD,
            cache_metadata=False,
        )
    except (pa.ArrowException, TypeError) as error:
        raise ManifestError(f"the filter {wanted} does not fit the manifest: {error}") from error
    with naming(store, file.info):
        yield from (batch for batch in scanner.to_batches() if batch.num_rows)


_NO_NODE = frozenset({""})
"""What the row of a source says that was taken out of the data set."""


@dataclass(slots=True)
class _Made:
    """What a run made of a source."""

    content: str
    """The SHA-256 of the source; empty for what could not even be read, which is no content."""
    recipe_digest: str
    nodes: frozenset[str]
    failed: str | None
    """The node that could not be made, which is among ``nodes``."""

    @property
    def is_pruned(self) -> bool:
        """Whether the run took the source out of the data set."""
        return self.nodes == _NO_NODE


@dataclass(slots=True)
class Outdated:
    """The rows of a run that do not stand."""

    source_ids: list[str] = field(default_factory=list)
    """Sources of which no row stands."""
    output_ids: list[str] = field(default_factory=list)
    """Of other sources, outputs that were made again."""


def outdated_rows(store: Store, files: Sequence[ManifestFile]) -> Mapping[str, Outdated]:
    """Return what does not stand, by run; runs of which all stands are left out.

    Args:
        store: Where the files are.
        files: All of them, the oldest run first.

    Raises:
        ManifestError: If a file is damaged, or runs that overlapped in time made different
            outputs of one source, so that nobody knows which of them the store holds.
    """
    runs = {run_id: tuple(group) for run_id, group in groupby(files, lambda file: file.run_id)}
    repeated = _sources_of_several(store, runs)
    outdated: dict[str, Outdated] = defaultdict(Outdated)
    if not repeated:
        return outdated
    is_repeated = ds.field("source_id").isin(pa.array(sorted(repeated), pa.string()))
    later: dict[str, list[tuple[str, _Made]]] = defaultdict(list)
    for run_id, own in reversed(runs.items()):
        for source_id, made in _made_by(store, own, is_repeated).items():
            _refuse_contradiction(store, runs, source_id, (run_id, made), later[source_id])
            _compare(outdated, run_id, source_id, made, [m for _, m in later[source_id]])
            later[source_id].append((run_id, made))
    return outdated


def rows_that_stand(outdated: Mapping[str, Outdated]) -> Any:
    """Return the :class:`pyarrow.compute.Expression` that is true for them, None for all rows."""
    standing = None
    for run_id, rows in outdated.items():
        gone = ds.field("source_id").isin(pa.array(rows.source_ids, pa.string()))
        if rows.output_ids:
            gone |= ds.field("output_id").isin(pa.array(rows.output_ids, pa.string()))
        term = ~((ds.field("run_id") == run_id) & gone)
        standing = term if standing is None else standing & term
    return standing


def _sources_of_several(
    store: Store, runs: Mapping[str, tuple[ManifestFile, ...]]
) -> frozenset[str]:
    """Return the sources that more than one run did, with no memory of the largest run."""
    *smaller, largest = sorted(runs.values(), key=lambda files: sum(f.num_rows for f in files))
    seen: set[str] = set()
    repeated: set[str] = set()
    for files in smaller:
        ids = frozenset().union(*_source_ids(store, files))
        repeated |= ids & seen
        seen |= ids
    if seen:
        for some in _source_ids(store, largest):
            repeated.update(seen.intersection(some))
    return frozenset(repeated)


def _source_ids(store: Store, files: Sequence[ManifestFile]) -> Iterator[frozenset[str]]:
    """Yield the sources of each file."""

    def read(file: ManifestFile) -> frozenset[str]:
        batches = read_batches(store, [file], ["source_id"], None)
        return frozenset(name for b in batches for name in b.column(0).unique().to_pylist())

    return each(read, files)


def _made_by(store: Store, files: Sequence[ManifestFile], wanted: Any) -> dict[str, _Made]:
    found: dict[str, _Made] = {}
    shared: dict[frozenset[str], frozenset[str]] = {}
    columns = ["source_id", "source_sha256", "recipe_digest", "node", "status"]
    for batch in read_batches(store, files, columns, wanted):
        is_failed = pc.equal(batch.column("status"), "failed")
        failed = pc.if_else(is_failed, batch.column("node"), None)
        aggregates = [
            ("source_sha256", "max"),
            ("recipe_digest", "max"),
            ("node", "distinct"),
            ("failed", "max"),
        ]
        table = pa.Table.from_batches([batch]).append_column("failed", failed)
        for row in table.group_by("source_id").aggregate(aggregates).to_pylist():
            nodes = frozenset(row["node_distinct"])
            before = found.get(row["source_id"])
            if before is not None:  # Its rows lie in two batches.
                nodes |= before.nodes
            found[row["source_id"]] = _Made(
                row["source_sha256_max"] or (before.content if before else ""),
                row["recipe_digest_max"],
                shared.setdefault(nodes, nodes),
                row["failed_max"] or (before.failed if before else None),
            )
    return found


def _compare(
    outdated: dict[str, Outdated], run_id: str, source_id: str, made: _Made, later: Sequence[_Made]
) -> None:
    """Note what of ``made`` does not stand beside what ``later`` runs, the newest first, made."""
    if not later:
        return
    again = made.nodes & frozenset().union(*(run.nodes for run in later))
    if made.failed is not None and any(run.failed is not None for run in later):
        again |= {made.failed}
    is_pruned = any(run.is_pruned for run in later)
    if is_pruned or made.content != later[0].content or again == made.nodes:
        outdated[run_id].source_ids.append(source_id)
    elif again:
        outdated[run_id].output_ids += [f"{source_id}-{node}" for node in sorted(again)]


def _refuse_contradiction(
    store: Store,
    runs: Mapping[str, tuple[ManifestFile, ...]],
    source_id: str,
    earlier: tuple[str, _Made],
    later: Sequence[tuple[str, _Made]],
) -> None:
    run_id, made = earlier
    ended = max(file.last_created_at for file in runs[run_id])
    made_again: set[str] = set()
    for other_id, other in later:
        began = min(file.first_created_at for file in runs[other_id])
        is_same = (made.content, made.recipe_digest) == (other.content, other.recipe_digest)
        is_doubtful = began < ended and not is_same and (made.nodes & other.nodes) - made_again
        # Clocks differ from machine to machine, while what a plan knew of is certain.
        if is_doubtful and run_id not in _runs_before(store, other_id):
            raise ManifestError(
                f"runs {run_id} and {other_id} ran at the same time and both wrote outputs of "
                f"source {source_id}, of different contents or by different recipes, so the store "
                "may hold either's; write the source again, so that another run makes it again, "
                "or name the runs to read"
            )
        made_again |= other.nodes


def _runs_before(store: Store, run_id: str) -> Sequence[str]:
    """Return the runs that were committed when a run was planned, as far as it is known."""
    try:
        return load_request(store, run_id).upon
    except (ManifestError, RecipeError):  # Its manifest can be read without it.
        return ()
