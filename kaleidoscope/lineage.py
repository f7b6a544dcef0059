"""Read what committed runs made, as a data frame, and make any row of it again."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from kaleidoscope.augment import NORMALIZE_VERSION, normalized
from kaleidoscope.codecs import EncodeSpec, encode, probe
from kaleidoscope.errors import ManifestError, TransformError
from kaleidoscope.manifest import SCHEMA
from kaleidoscope.normalization import Normalization, NormalizationParam
from kaleidoscope.runs import RunEntry, list_runs
from kaleidoscope.stores import Store
from kaleidoscope.transforms import load_operation

if TYPE_CHECKING:
    import pandas as pd

_ANY_SIZE = 2**40
"""Pixels: the run that made the row took its source for small enough."""

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


def replay(row: "Mapping[str, Any] | pd.Series[Any]", data: bytes) -> bytes:
    """Make an output again, from its source and what its row says of it.

    Nothing is drawn, so a transform whose distribution has changed since does not matter. With
    the versions that the row names, the result has the row's ``sha256``.

    Args:
        row: A row of :func:`read_manifest`, with at least the columns ``status``,
            ``source_sha256``, ``ops`` and ``encoding``.
        data: The bytes of its source.

    Raises:
        ManifestError: If the row is no output's, is damaged, or the bytes are not its source's.
        CodecError: If the source cannot be decoded here.
        TransformError: If an operation has another version here than when it was recorded.
    """
    if row["status"] != "ok":
        raise ManifestError("a source that failed has no output that could be made again")
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 != row["source_sha256"]:
        raise ManifestError(
            f"the row was made from a source with the SHA-256 {row['source_sha256']}, and these "
            f"bytes have {sha256}; the source has changed since"
        )
    try:
        first, *others = json.loads(row["ops"])
        normalization = _load_normalization(**first)
        operations = [load_operation(op["op"], op["version"], op["params"]) for op in others]
        spec = EncodeSpec(**json.loads(row["encoding"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ManifestError(f"the row's ops or encoding cannot be read: {error!r}") from error
    image = normalized(data, probe(data, max_pixels=_ANY_SIZE), normalization)
    for operation in operations:
        image = operation.apply(image)
    return encode(image, spec)


def _load_normalization(
    op: str, version: int, params: Mapping[str, NormalizationParam]
) -> Normalization:
    if (op, version) != ("normalize", NORMALIZE_VERSION):
        raise TransformError(
            f"the row begins with {op} in version {version}, not with normalize in version "
            f"{NORMALIZE_VERSION}; replay it with the Kaleidoscope release that it names"
        )
    return Normalization.from_params(params)
