"""Read what committed runs made, as a data frame."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from kaleidoscope.errors import ManifestError
from kaleidoscope.manifest import SCHEMA
from kaleidoscope.runs import RunEntry, list_runs
from kaleidoscope.stores import Store

if TYPE_CHECKING:
    import pandas as pd

_IDENTITY = ("output_id", "source_id", "source_sha256", "run_id", "status")
"""What tells a row from the one that took its place."""


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
    wanted = list(SCHEMA.names if columns is None else columns)
    if unknown := [name for name in wanted if name not in SCHEMA.names]:
        raise ManifestError(f"the manifest has no columns {unknown}; it has {SCHEMA.names}")
    committed = [entry for entry in list_runs(destination) if entry.is_committed]
    if not committed:
        raise ManifestError(
            f"no run is committed in {destination.uri}; check the path, or finish the run there"
        )
    needed = [*wanted, *(name for name in _IDENTITY if name not in wanted)]
    tables = [table for entry in committed for table in _read_tables(destination, entry, needed)]
    rows: pd.DataFrame = pa.concat_tables(tables).to_pandas(types_mapper=_nullable_type)
    if len(committed) > 1:
        rows = _latest(rows)
    return rows.loc[:, wanted]


def _read_tables(destination: Store, entry: RunEntry, columns: list[str]) -> Iterator[pa.Table]:
    files = list(destination.list_objects(entry.keys.manifest))
    if not files:  # A committed run has at least one source, and so a row.
        raise ManifestError(
            f"run {entry.run_id} is committed in {destination.uri}, and its manifest is missing: "
            f"there is nothing under {entry.keys.manifest}; was it deleted?"
        )
    for file in files:
        data = destination.get(file.key).data
        try:
            yield pq.read_table(
                pa.BufferReader(data), columns=columns, page_checksum_verification=True
            )
        except (pa.ArrowException, OSError) as error:
            raise ManifestError(
                f"{destination.uri}: {file.key} cannot be read ({len(data)} bytes): {error}; was "
                "it damaged, or written by another version of Kaleidoscope?"
            ) from error


def _nullable_type(kind: pa.DataType) -> Any:
    """Return a type in which whole numbers stay whole where some are missing."""
    # Only who reads a manifest needs pandas; a shard does without its second and its 50 MB.
    import pandas as pd  # noqa: PLC0415

    nullable = {pa.int8(): pd.Int8Dtype, pa.int32(): pd.Int32Dtype, pa.int64(): pd.Int64Dtype}
    return nullable[kind]() if kind in nullable else None


def _latest(rows: "pd.DataFrame") -> "pd.DataFrame":
    """Keep of each output the row of its newest run; runs come in the order of their start."""
    newest = rows.drop_duplicates("source_id", keep="last").set_index("source_id")
    run_id = rows["source_id"].map(newest["run_id"])
    # An empty name stands for what could not even be read, which is no content of before.
    content = rows["source_id"].map(newest["source_sha256"].fillna(""))
    is_outdated = (rows["run_id"] != run_id) & (
        (rows["status"] == "failed") | (rows["source_sha256"].fillna("") != content)
    )
    rows = rows[~is_outdated].drop_duplicates("output_id", keep="last")
    return rows.reset_index(drop=True)
