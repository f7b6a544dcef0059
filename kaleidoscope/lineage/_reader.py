"""The reader of committed runs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from kaleidoscope.errors import ManifestError
from kaleidoscope.lineage._files import ManifestFile, find_files, make_dataset
from kaleidoscope.lineage._latest import outdated_rows, read_batches, rows_that_stand
from kaleidoscope.lineage._splitting import (
    By,
    SavedSplit,
    SplitOptions,
    check_originals,
    extend_split,
    load_split,
    make_split,
    with_split,
)
from kaleidoscope.manifest import SCHEMA
from kaleidoscope.runs import RunEntry, list_runs
from kaleidoscope.settings import Settings
from kaleidoscope.splits import Shares
from kaleidoscope.stores import Store, open_store

if TYPE_CHECKING:
    import pandas as pd

Filter: TypeAlias = "pc.Expression | Sequence[tuple[str, str, object]] | None"
"""A pyarrow expression, or conditions that all hold, as ``[("label", "=", "cat")]``.

The operators are those of :func:`pyarrow.parquet.filters_to_expression`: ``=``, ``!=``, ``<``,
``<=``, ``>``, ``>=``, ``in`` and ``not in``. None is all rows.
"""

_MADE = ds.field("status") == "ok"


@dataclass(frozen=True, slots=True)
class Step:
    """One operation of the chain that made an output of its source."""

    op: str
    """The transform's name; the first of a chain is ``normalize``."""
    version: int
    params: Mapping[str, Any]
    """The values that were drawn, by name."""


class Lineage:
    """The outputs of the committed runs of a destination, and where each came from.

    A row is an output, with the columns of :data:`kaleidoscope.manifest.SCHEMA`; sources that
    failed are apart, in :meth:`failures`. Of an output that several runs made, the row of the last
    stands; of a source that changed, only rows of its newest content.

    Nothing is held but a few numbers for each file, and some for each source that more than one run
    did. Rows are read when they are asked for, by range requests, in parts that a filter can skip:
    rows lie in the order of their source's key, so filters by ``label``, ``source_key`` or
    ``output_key`` read little.
    """

    def __init__(self, destination: Store, *, runs: Sequence[str] | None = None) -> None:
        """Look which runs are committed, and whether all their files are there.

        Args:
            destination: Where the runs are.
            runs: The names of those to read; None reads all.

        Raises:
            ManifestError: If nothing is committed there, one of ``runs`` is not, or a file of a
                manifest is missing or damaged.
        """
        self._store = destination
        entries = _committed(destination, runs)
        self.runs = tuple(entry.run_id for entry in entries)
        """The names of the runs, the oldest first."""
        self._files: tuple[ManifestFile, ...] = find_files(destination, entries)

    @classmethod
    def open(
        cls,
        uri: str | Path,
        *,
        runs: Sequence[str] | None = None,
        settings: Settings | None = None,
    ) -> Self:
        """Open the lineage of a destination.

        Args:
            uri: The folder or ``s3://bucket/prefix`` that runs wrote to.
            runs: The names of the runs to read; None reads all that are committed.
            settings: For S3; None takes them from the environment.

        Raises:
            KaleidoscopeError: If nothing is committed there, a file of a manifest is missing or
                damaged, or the store cannot be read.
        """
        settings = Settings.from_environment() if settings is None else settings
        return cls(open_store(str(uri), settings=settings), runs=runs)

    @property
    def store(self) -> Store:
        """Where the outputs are; the keys of rows are relative to it."""
        return self._store

    def to_dataset(self) -> Any:
        """Return the outputs as a :class:`pyarrow.dataset.Dataset`, for polars, DuckDB and others.

        Columns and filters that its scanners are given are pushed down as in :meth:`scan`.
        """
        return make_dataset(self._store, self._files).filter(self._where(_MADE))

    def scan(
        self,
        columns: Sequence[str] | None = None,
        filter: Filter = None,  # noqa: A002 -- pyarrow's.
    ) -> Iterator[Any]:
        """Yield the outputs as :class:`pyarrow.RecordBatch`, a few row groups in memory at a time.

        Args:
            columns: Which to read, in this order; None reads all. A few are much faster.
            filter: Which rows.

        Raises:
            ManifestError: If there is no such column, the filter does not fit, or a file is
                damaged.
        """
        return self._read(_known(columns), _both(_MADE, _expression(filter)))

    def to_pandas(
        self,
        columns: Sequence[str] | None = None,
        filter: Filter = None,  # noqa: A002 -- pyarrow's.
    ) -> "pd.DataFrame":
        """Return the outputs as a data frame; :meth:`scan` says what can be chosen."""
        wanted = _known(columns)
        return _to_pandas(self.scan(wanted, filter), wanted)

    def failures(self, columns: Sequence[str] | None = None) -> "pd.DataFrame":
        """Return a row for each source of which something could not be made, with the reason."""
        wanted = _known(columns)
        return _to_pandas(self._read(wanted, ds.field("status") == "failed"), wanted)

    def split(  # noqa: PLR0913 -- all have defaults that are right for most.
        self,
        train: float = 0.8,
        val: float = 0.1,
        test: float = 0.1,
        *,
        by: By = "source",
        stratify: str | None = "label",
        seed: int = 0,
        originals_only: Sequence[str] = ("val", "test"),
        save_as: str | None = None,
        columns: Sequence[str] | None = None,
        filter: Filter = None,  # noqa: A002 -- pyarrow's.
    ) -> "pd.DataFrame":
        """Return the outputs with a column ``split`` in which no source is in two splits.

        A source keeps its split when runs add others; :mod:`kaleidoscope.splits` says how.

        Args:
            train: Share of the sources, dimensionless, in [0, 1]; the three add up to 1.
            val: The same, for validation.
            test: The same, for the test.
            by: What stays together.
            stratify: A column by whose values the shares hold in each; None for none.
            seed: Other seeds give other splits.
            originals_only: Splits that get the original of each source, and nothing made of it.
            save_as: Keep the split beside the data set under this name, for :meth:`load_split`. One
                that is there already is extended by the sources that are new.
            columns: Which to return beside ``split``, in this order; None returns all.
            filter: Which rows to return; sources are split without regard to it.

        Raises:
            SplitError: If the shares do not add up to 1, a split has no originals, or the saved one
                was made with other options.
            ManifestError: If there is no such column, the filter does not fit, or a file is
                damaged.
        """
        options = SplitOptions(Shares(train, val, test), seed, by, stratify, tuple(originals_only))
        _known([] if stratify is None else [stratify])
        split = make_split(self._arrivals(stratify), options)
        if save_as is not None:
            split = extend_split(self._store, save_as, split)
        return self._with_split(split, columns, filter)

    def load_split(
        self,
        name: str,
        *,
        columns: Sequence[str] | None = None,
        filter: Filter = None,  # noqa: A002 -- pyarrow's.
    ) -> "pd.DataFrame":
        """Return the outputs with the column ``split`` of a split that was saved.

        Args:
            name: What :meth:`split` saved it as.
            columns: Which to return beside ``split``; None returns all.
            filter: Which rows to return.

        Raises:
            SplitError: If there is none of that name, or sources have come since it was saved.
            ManifestError: If there is no such column, the filter does not fit, or a file is
                damaged.
        """
        return self._with_split(load_split(self._store, name), columns, filter)

    def _with_split(
        self,
        split: SavedSplit,
        columns: Sequence[str] | None,
        filter: Filter,  # noqa: A002 -- pyarrow's.
    ) -> "pd.DataFrame":
        wanted = [*(name for name in _known(columns) if name != "split"), "split"]
        needed = [*wanted[:-1], *(n for n in ("source_id", "node") if n not in wanted)]
        rows = _to_pandas(with_split(self.scan(needed, filter), split, wanted), wanted)
        if filter is None:
            check_originals(split, rows)
        return rows

    def _arrivals(self, stratify: str | None) -> Iterator[tuple[int, Any]]:
        """Yield the outputs of every run, outdated ones too, with the run's number."""
        columns = list(dict.fromkeys(["source_id", "source_key", "label", stratify or "label"]))
        for number, run_id in enumerate(self.runs):
            files = [file for file in self._files if file.run_id == run_id]
            for batch in read_batches(self._store, files, columns, _MADE):
                yield number, batch

    def _read(self, columns: Sequence[str], wanted: Any) -> Iterator[Any]:
        return read_batches(self._store, self._files, columns, self._where(wanted))

    def _where(self, wanted: Any) -> Any:
        return _both(self._standing, wanted)

    @cached_property
    def _standing(self) -> Any:
        if len(self.runs) == 1:
            return None
        return rows_that_stand(outdated_rows(self._store, self._files))


def read_manifest(destination: Store, *, columns: Sequence[str] | None = None) -> "pd.DataFrame":
    """Return one row for each output, and one for each source that failed.

    Only committed runs count. Where a later run made an output again, or did a source that had
    failed before, the later row stands. Of a source that changed, the rows of its newest content
    stand, and none if that failed but the row that says so.

    Args:
        destination: Where the runs are.
        columns: Which of :data:`kaleidoscope.manifest.SCHEMA` to read, in this order; None reads
            all. A few are much faster than all.

    Raises:
        ManifestError: If nothing is committed there, there is no such column, or a file of the
            manifest is missing or damaged.
    """
    wanted = _known(columns)
    return _to_pandas(Lineage(destination)._read(wanted, None), wanted)  # noqa: SLF001 -- one module.


def _committed(destination: Store, runs: Sequence[str] | None) -> list[RunEntry]:
    committed = [entry for entry in list_runs(destination) if entry.is_committed]
    if runs is not None:
        names = {entry.run_id for entry in committed}
        if unknown := [name for name in runs if name not in names]:
            raise ManifestError(
                f"no runs {unknown} are committed in {destination.uri}; there are {sorted(names)}"
            )
        committed = [entry for entry in committed if entry.run_id in runs]
    if not committed:
        raise ManifestError(
            f"no run is committed in {destination.uri}; check the path, or finish the run there"
        )
    return committed


def _known(columns: Sequence[str] | None) -> list[str]:
    wanted = list(SCHEMA.names if columns is None else columns)
    if unknown := [name for name in wanted if name not in SCHEMA.names]:
        raise ManifestError(f"the manifest has no columns {unknown}; it has {SCHEMA.names}")
    return wanted


def _expression(wanted: Filter) -> Any:
    if wanted is None or isinstance(wanted, pc.Expression):
        return wanted
    try:
        return pq.filters_to_expression(list(wanted))
    except (TypeError, ValueError) as error:
        raise ManifestError(
            f"a filter is a pyarrow expression or a list like [('label', '=', 'cat')]; "
            f"got {wanted!r}: {error}"
        ) from error


def _both(left: Any, right: Any) -> Any:
    if left is None or right is None:
        return right if left is None else left
    return left & right


def _to_pandas(batches: Iterator[Any], columns: Sequence[str]) -> "pd.DataFrame":
    schema = pa.schema([SCHEMA.field(name) for name in columns])
    table = pa.Table.from_batches(batches, schema=schema)
    frame: pd.DataFrame = table.to_pandas(types_mapper=_nullable_type)
    frame.columns = frame.columns.astype("str")  # Of no columns, the names would be objects.
    return frame


def _nullable_type(kind: pa.DataType) -> Any:
    """Return a type in which whole numbers stay whole where some are missing."""
    # Only who reads a manifest needs pandas; a shard does without its second and its 50 MB.
    import pandas as pd  # noqa: PLC0415

    nullable = {pa.int8(): pd.Int8Dtype, pa.int32(): pd.Int32Dtype, pa.int64(): pd.Int64Dtype}
    return nullable[kind]() if kind in nullable else None
