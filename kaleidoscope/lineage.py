"""Read what committed runs made: the manifest of a destination as a data frame."""

from collections.abc import Sequence

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from kaleidoscope.errors import ManifestError
from kaleidoscope.manifest import SCHEMA
from kaleidoscope.runs import list_runs
from kaleidoscope.stores import Store

_IDENTITY = ("output_id", "source_id", "run_id", "status")
"""What tells a row from the one that took its place."""

_NULLABLE = {
    pa.int8(): pd.Int8Dtype(),
    pa.int32(): pd.Int32Dtype(),
    pa.int64(): pd.Int64Dtype(),
}
"""Whole numbers stay whole where some are missing, as a failed source's width is."""


def read_manifest(destination: Store, *, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Return one row for each output, and one for each source that failed.

    Only committed runs count. Where a later run made an output again, or did a source that had
    failed before, the later row stands.

    Args:
        destination: Where the runs are.
        columns: Which of :data:`kaleidoscope.manifest.SCHEMA` to read, in this order; None reads
            all. A few are much faster than all.

    Raises:
        ManifestError: If nothing is committed there, or there is no such column.
    """
    wanted = list(SCHEMA.names if columns is None else columns)
    if unknown := [name for name in wanted if name not in SCHEMA.names]:
        raise ManifestError(f"the manifest has no columns {unknown}; it has {SCHEMA.names}")
    committed = [entry for entry in list_runs(destination) if entry.is_committed]
    if not committed:
        raise ManifestError(
            f"no run is committed in {destination.uri}; check the path, or finish the run there"
        )
    needed = [*wanted, *(name for name in _IDENTITY if name not in wanted)]
    tables = [
        pq.read_table(pa.BufferReader(destination.get(file.key).data), columns=needed)
        for entry in committed
        for file in destination.list_objects(entry.keys.manifest)
    ]
    rows: pd.DataFrame = pa.concat_tables(tables).to_pandas(types_mapper=_NULLABLE.get)
    if len(committed) > 1:
        rows = _latest(rows)
    return rows.loc[:, wanted]


def _latest(rows: pd.DataFrame) -> pd.DataFrame:
    """Keep of each output the row of its newest run; runs come in the order of their start."""
    newest_run = rows.groupby("source_id")["run_id"].transform("max")
    is_outdated_failure = (rows["status"] == "failed") & (rows["run_id"] != newest_run)
    rows = rows[~is_outdated_failure].drop_duplicates("output_id", keep="last")
    return rows.reset_index(drop=True)
