"""Reading rows of committed runs, with columns and filters pushed down into the files."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from kaleidoscope.errors import ManifestError
from kaleidoscope.lineage._files import ManifestFile, find_files, make_dataset
from kaleidoscope.lineage._latest import outdated_rows, read_batches, rows_that_stand
from kaleidoscope.manifest import SCHEMA
from kaleidoscope.runs import RunEntry, list_runs
from kaleidoscope.stores import Store

if TYPE_CHECKING:
    import pandas as pd

Filter: TypeAlias = "pc.Expression | Sequence[tuple[str, str, object]] | None"
"""A pyarrow expression, or conditions that all hold, as ``[("label", "=", "cat")]``.

The operators are those of :func:`pyarrow.parquet.filters_to_expression`: ``=``, ``!=``, ``<``,
``<=``, ``>``, ``>=``, ``in`` and ``not in``. None is all rows.
"""

MADE = ds.field("status") == "ok"
FAILED = ds.field("status") == "failed"


class Rows:
    """The rows that stand in a destination: what ``Lineage`` reads by."""

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

    @property
    def store(self) -> Store:
        """Where the outputs are; the keys of rows are relative to it."""
        return self._store

    def to_dataset(self) -> Any:
        """Return the outputs as a :class:`pyarrow.dataset.Dataset`, for polars, DuckDB and others.

        Columns and filters that its scanners are given are pushed down as in :meth:`scan`.
        """
        return make_dataset(self._store, self._files).filter(self._where(MADE))

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
        return self.read_all(check_columns(columns), _both(MADE, _expression(filter)))

    def to_pandas(
        self,
        columns: Sequence[str] | None = None,
        filter: Filter = None,  # noqa: A002 -- pyarrow's.
    ) -> "pd.DataFrame":
        """Return the outputs as a data frame; :meth:`scan` says what can be chosen."""
        wanted = check_columns(columns)
        return to_frame(self.scan(wanted, filter), wanted)

    def failures(self, columns: Sequence[str] | None = None) -> "pd.DataFrame":
        """Return a row for each source of which something could not be made, with the reason."""
        wanted = check_columns(columns)
        return to_frame(self.read_all(wanted, FAILED), wanted)

    def scan_outdated(self, columns: Sequence[str] | None = None) -> Iterator[Any]:
        """Yield the rows of outputs that do not stand: made again, of old content, or pruned.

        Args:
            columns: Which to read, in this order; None reads all.

        Raises:
            ManifestError: If there is no such column, or a file is damaged.
        """
        if self._standing is None:
            return iter(())
        return read_batches(
            self._store, self._files, check_columns(columns), MADE & ~self._standing
        )

    def read_all(self, columns: Sequence[str], wanted: Any) -> Iterator[Any]:
        """Yield rows of outputs and of failed sources for which an expression is true."""
        return read_batches(self._store, self._files, columns, self._where(wanted))

    def _where(self, wanted: Any) -> Any:
        return _both(self._standing, wanted)

    @cached_property
    def _standing(self) -> Any:
        if len({file.run_id for file in self._files}) < 2:  # noqa: PLR2004 -- nothing to compare.
            return None
        return rows_that_stand(outdated_rows(self._store, self._files))


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


def check_columns(columns: Sequence[str] | None) -> list[str]:
    """Return the names of the columns, of all for None.

    Raises:
        ManifestError: If the manifest has no such column.
    """
    wanted = list(SCHEMA.names if columns is None else columns)
    if unknown := [name for name in wanted if name not in SCHEMA.names]:
        raise ManifestError(f"the manifest has no columns {unknown}; it has {SCHEMA.names}")
    return wanted


def _expression(wanted: Filter) -> Any:
    if wanted is None or isinstance(wanted, pc.Expression):
        return wanted
    check_columns([c[0] for c in wanted if isinstance(c, tuple) and c])
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


def to_frame(batches: Iterator[Any], columns: Sequence[str]) -> "pd.DataFrame":
    """Return batches of these columns as one data frame."""
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
