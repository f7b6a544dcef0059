"""The tables of a run, in parquet: its manifest, and the sources of each shard of its plan.

The manifest has one row for every output and every failed source.
A shard streams its rows into a part, which is its commit marker. When every part is there they
are merged into the run's manifest. Neither step holds more than a row group in memory beside the
compressed bytes of the one file that it writes.
"""

import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from kaleidoscope.columns import repeated, to_column
from kaleidoscope.errors import ManifestError
from kaleidoscope.model import ObjectInfo, PlannedSource, SourceLabels

SCHEMA = pa.schema(
    [
        pa.field("output_id", pa.string(), nullable=False),
        pa.field("parent_id", pa.string()),
        pa.field("source_id", pa.string(), nullable=False),
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("recipe_digest", pa.string(), nullable=False),
        pa.field("source_root", pa.string(), nullable=False),
        pa.field("source_key", pa.string(), nullable=False),
        pa.field("source_etag", pa.string(), nullable=False),
        pa.field("source_version_id", pa.string()),
        pa.field("source_sha256", pa.string()),
        pa.field("source_width", pa.int32()),
        pa.field("source_height", pa.int32()),
        pa.field("source_format", pa.string()),
        pa.field("source_mode", pa.string()),
        pa.field("source_conversion", pa.string()),
        pa.field("node", pa.string(), nullable=False),
        pa.field("depth", pa.int8(), nullable=False),
        pa.field("op", pa.string()),
        pa.field("params", pa.string()),
        pa.field("ops", pa.string()),
        pa.field("encoding", pa.string()),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("attributes", pa.string()),
        pa.field("objects", pa.string()),
        pa.field("objects_dropped", pa.string()),
        pa.field("source_mask_key", pa.string()),
        pa.field("source_mask_sha256", pa.string()),
        pa.field("mask_key", pa.string()),
        pa.field("mask_offset", pa.int64()),
        pa.field("mask_size", pa.int64()),
        pa.field("mask_sha256", pa.string()),
        pa.field("split", pa.string()),
        pa.field("output_key", pa.string()),
        pa.field("tar_key", pa.string()),
        pa.field("offset", pa.int64()),
        pa.field("length", pa.int64()),
        pa.field("format", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("size", pa.int64()),
        pa.field("sha256", pa.string()),
        pa.field("status", pa.string(), nullable=False),
        pa.field("error_type", pa.string()),
        pa.field("error_message", pa.string()),
        pa.field("shard", pa.int32(), nullable=False),
        pa.field("flow_run_id", pa.string()),
        pa.field("kaleidoscope_version", pa.string(), nullable=False),
        pa.field("opencv_version", pa.string(), nullable=False),
        pa.field("numpy_version", pa.string(), nullable=False),
        pa.field("created_at", pa.timestamp("us", tz="UTC"), nullable=False),
    ]
)
"""The columns. ``params``, ``ops``, ``encoding``, ``attributes``, ``objects`` and
``objects_dropped`` are JSON; ``size`` and ``mask_size`` are bytes."""

ROWS_PER_GROUP = 16_384
"""Rows that are compressed together in a manifest; about 20 MB of text."""

ROWS_HELD = 4_096
"""Records that a shard holds before it compresses them; about 6 MB."""

ROWS_PER_FILE = 1_000_000
"""Rows of one file of a merged manifest; about 150 MB compressed."""

_PLAN_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("etag", pa.string(), nullable=False),
        pa.field("version_id", pa.string()),
        pa.field("nodes", pa.string()),
        pa.field("made", pa.string()),
        pa.field("made_sha256", pa.string()),
        pa.field("labels", pa.string()),
    ]
)
"""The fields of a planned source; sets of nodes are text, so that parquet keeps equal ones once.

``labels`` holds JSON.
"""

_STATS_KEY = b"kaleidoscope.shard"

DAMAGE = (pa.ArrowException, OSError, UnicodeDecodeError)
"""What pyarrow raises for bytes that were cut short or changed."""


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What all rows of a part share."""

    run_id: str
    recipe_digest: str
    source_root: str
    seed: int
    shard: int
    flow_run_id: str | None
    kaleidoscope_version: str
    opencv_version: str
    numpy_version: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What all rows of a source share; what could not be read is None."""

    source_id: str
    source_key: str
    source_etag: str
    source_version_id: str | None
    label: str | None
    source_sha256: str | None = None
    source_width: int | None = None
    source_height: int | None = None
    source_format: str | None = None
    source_mode: str | None = None
    source_conversion: str | None = None
    attributes: str | None = None
    """What a table of labels says beside the label, as a JSON object."""
    source_mask_key: str | None = None
    """Where the source's mask is, relative to the source prefix."""
    source_mask_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One output, or one source that failed or was taken out of the data set."""

    source: SourceFacts
    output_id: str
    node: str
    status: Literal["ok", "failed", "pruned"]
    """Pruned: no row of an earlier run stands for the source, of which the data set has nothing."""
    depth: int = 0
    parent_id: str | None = None
    op: str | None = None
    params: str | None = None
    ops: str | None = None
    encoding: str | None = None
    split: str | None = None
    output_key: str | None = None
    tar_key: str | None = None
    offset: int | None = None
    length: int | None = None
    format: str | None = None
    width: int | None = None
    height: int | None = None
    size: int | None = None
    sha256: str | None = None
    objects: str | None = None
    """Boxes in the output, as :func:`kaleidoscope.targets.boxes_to_json` has them."""
    objects_dropped: str | None = None
    """Those of the source of which too little is left in it; None if there is none."""
    mask_key: str | None = None
    """Where the output's mask is, in the destination or within the tar of the output."""
    mask_offset: int | None = None
    """Bytes from the tar's begin to the mask; None for an object of its own."""
    mask_size: int | None = None
    """Bytes."""
    mask_sha256: str | None = None
    error_type: str | None = None
    error_message: str | None = None


@dataclass(frozen=True, slots=True)
class ShardStats:
    """What a shard did, kept in its part's metadata."""

    num_sources: int = 0
    num_failed: int = 0
    num_outputs: int = 0
    source_bytes: int = 0
    output_bytes: int = 0
    wall_s: float = 0.0
    """Seconds from the shard's start to its part."""
    errors: Mapping[str, int] = field(default_factory=dict)
    """Failed sources by ``error_type``."""
    num_pruned: int = 0
    """Sources that were taken out of the data set."""

    @classmethod
    def total(cls, shards: Iterable["ShardStats"]) -> "ShardStats":
        """Return the sums over shards."""
        documents = [asdict(shard) for shard in shards]
        errors: Counter[str] = Counter()
        for document in documents:
            errors.update(document.pop("errors"))
        names = [f.name for f in fields(cls) if f.name != "errors"]
        sums = {name: sum(document[name] for document in documents) for name in names}
        return cls(**sums, errors=dict(errors))


@dataclass(frozen=True, slots=True)
class ShardFacts:
    """What a part says of its shard beside its rows."""

    stats: ShardStats
    started_at: datetime | None
    """None of a shard without a row."""
    flow_run_id: str | None
    """The orchestrated run that did it."""


_RUN_FIELDS = frozenset(f.name for f in fields(RunFacts))
_SOURCE_FIELDS = frozenset(f.name for f in fields(SourceFacts))


class PartWriter:
    """Collects a shard's records into the bytes of its part."""

    def __init__(self, run: RunFacts) -> None:
        """Start an empty part."""
        self._run = run
        self._buffer = io.BytesIO()
        self._writer = _open_writer(self._buffer)
        self._records: list[Record] = []

    def write(self, records: Iterable[Record]) -> None:
        """Add rows, in the order in which readers will find them."""
        for record in records:
            self._records.append(record)
            if len(self._records) >= ROWS_HELD:
                self._flush()

    def finish(self, stats: ShardStats) -> bytes:
        """Return the part; nothing can be written to it any more."""
        self._flush()
        self._writer.add_key_value_metadata({_STATS_KEY: json.dumps(asdict(stats)).encode()})
        self._writer.close()
        return self._buffer.getvalue()

    def _flush(self) -> None:
        if self._records:
            self._writer.write_table(_to_table(self._records, self._run))
            self._records.clear()


def _to_table(records: Sequence[Record], run: RunFacts) -> pa.Table:
    def column(field: pa.Field) -> pa.Array:
        name = field.name
        if name in _RUN_FIELDS:
            return repeated(getattr(run, name), field.type, len(records))
        if name in _SOURCE_FIELDS:
            return to_column([getattr(r.source, name) for r in records], field.type)
        return to_column([getattr(r, name) for r in records], field.type)

    return pa.Table.from_arrays([column(field) for field in SCHEMA], schema=SCHEMA)


def read_stats(part: bytes) -> ShardStats:
    """Return what the shard that wrote a part did.

    Raises:
        ManifestError: If the bytes are not a part.
    """
    metadata = _open(part, SCHEMA).metadata.metadata or {}
    if _STATS_KEY not in metadata:
        raise ManifestError("the part was not finished by a shard: its statistics are missing")
    try:
        return ShardStats(**json.loads(metadata[_STATS_KEY]))
    except (TypeError, ValueError) as error:
        raise ManifestError(f"the part's statistics are damaged: {error}") from error


def read_shard_facts(part: bytes) -> ShardFacts:
    """Return what a part says of its shard, without reading more than its first rows.

    Raises:
        ManifestError: If the bytes are not a part.
    """
    stats = read_stats(part)
    columns = ["created_at", "flow_run_id"]
    batches = _open(part, SCHEMA).iter_batches(batch_size=1, columns=columns)
    row = next((row for batch in batches for row in batch.to_pylist()), None)
    if row is None:
        return ShardFacts(stats, None, None)
    return ShardFacts(stats, row["created_at"], row.get("flow_run_id"))


def _open_writer(file: io.BytesIO) -> pq.ParquetWriter:
    # Compression finds some flipped bits, checksums all of them.
    return pq.ParquetWriter(file, SCHEMA, compression="zstd", write_page_checksum=True)


def _open(data: bytes, schema: pa.Schema) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True)
    except DAMAGE as error:
        raise ManifestError(f"not a whole parquet file ({len(data)} bytes): {error}") from error
    found = file.schema_arrow
    # Columns that a later release added are read as missing. Of what stands in the file each must
    # be as it is here: an unknown one would be lost in a merge, and a bit may have flipped.
    known = pa.schema([column for column in schema if column.name in found.names])
    lacks = [column.name for column in schema if column.name not in found.names]
    if not found.equals(known) or not all(schema.field(name).nullable for name in lacks):
        raise ManifestError(
            f"a table with other columns than expected: {found.names}; "
            "was it written by another version of Kaleidoscope?"
        )
    return file


def _read_batches(
    data: bytes, schema: pa.Schema, *, columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a file, a row group's number at most at a time.

    Columns that were added since the file was written are null.
    """
    file = _open(data, schema)
    wanted = pa.schema([schema.field(name) for name in columns or schema.names])
    try:
        for batch in file.iter_batches(ROWS_PER_GROUP, columns=columns):
            yield batch if batch.num_columns == len(wanted) else _filled(batch, wanted)
    except DAMAGE as error:
        raise ManifestError(f"a damaged parquet file ({len(data)} bytes): {error}") from error


def _filled(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    arrays = [
        batch.column(column.name)
        if column.name in batch.schema.names
        else pa.nulls(batch.num_rows, column.type)
        for column in schema
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def merge_parts(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the files of a manifest that holds the rows of all parts, in order.

    Args:
        parts: The parts in shard order; each is read when the one before is done with.

    Raises:
        ManifestError: If one of them is not a part.
    """
    groups = _regroup(batch for part in parts for batch in _read_part(part))
    # A run that finds old content under new names makes no row; its manifest is empty, not absent.
    yield _merge_one_file(next(groups, SCHEMA.empty_table()), groups)
    for first in groups:
        yield _merge_one_file(first, groups)


def _read_part(part: bytes) -> Iterator[pa.RecordBatch]:
    read_stats(part)  # Refuses a file that no shard has finished.
    return _read_batches(part, SCHEMA)


def _regroup(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Join the rows of small parts, which would make as many small row groups."""
    held: list[pa.RecordBatch] = []
    num_rows = 0
    for batch in batches:
        held.append(batch)
        num_rows += batch.num_rows
        if num_rows >= ROWS_PER_GROUP:
            yield pa.Table.from_batches(held)
            held, num_rows = [], 0
    if held:
        yield pa.Table.from_batches(held)


def _merge_one_file(first: pa.Table, more: Iterator[pa.Table]) -> bytes:
    """Take row groups until the file is full; the rest stays in ``more``."""
    buffer = io.BytesIO()
    with _open_writer(buffer) as writer:
        writer.write_table(first)
        num_rows = first.num_rows
        while num_rows < ROWS_PER_FILE and (group := next(more, None)) is not None:
            writer.write_table(group)
            num_rows += group.num_rows
    return buffer.getvalue()


def failed_sources(data: bytes) -> dict[str, str | None]:
    """Return the sources that failed, from a file of a manifest.

    Returns:
        For each key the SHA-256 of what was read; None if nothing could be decoded.

    Raises:
        ManifestError: If the bytes are not such a file.
    """
    failed: dict[str, str | None] = {}
    for batch in _read_batches(data, SCHEMA, columns=["source_key", "source_sha256", "status"]):
        rows = zip(*batch.to_pydict().values(), strict=True)
        failed |= {key: sha256 for key, sha256, status in rows if status == "failed"}
    return failed


def source_hashes(data: bytes) -> dict[str, str]:
    """Return the SHA-256 of each source of a part, by key, without those of which anything failed.

    Raises:
        ManifestError: If the bytes are not a part.
    """
    hashes: dict[str, str] = {}
    failed: set[str] = set()
    for batch in _read_batches(data, SCHEMA, columns=["source_key", "source_sha256", "status"]):
        rows = batch.to_pydict()
        for key, sha256, status in zip(*rows.values(), strict=True):
            if status == "failed":
                failed.add(key)
            hashes[key] = sha256
    return {key: sha256 for key, sha256 in hashes.items() if key not in failed}


def sources_to_parquet(sources: Sequence[PlannedSource]) -> bytes:
    """Return a shard's sources as a file of the plan."""
    columns = {f.name: [getattr(s.info, f.name) for s in sources] for f in fields(ObjectInfo)}
    columns["nodes"] = [None if s.nodes is None else _to_text(s.nodes) for s in sources]
    columns["made"] = [_to_text(s.made) or None for s in sources]
    columns["made_sha256"] = [s.made_sha256 for s in sources]
    columns["labels"] = [
        None if s.labels is None else json.dumps(asdict(s.labels)) for s in sources
    ]
    buffer = io.BytesIO()
    table = pa.table(columns, schema=_PLAN_SCHEMA)
    pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
    return buffer.getvalue()


def sources_from_parquet(data: bytes) -> tuple[PlannedSource, ...]:
    """Return a shard's sources from its file of the plan.

    Raises:
        ManifestError: If the bytes are not such a file.
    """
    batches = _read_batches(data, _PLAN_SCHEMA)
    return tuple(_planned(**row) for batch in batches for row in batch.to_pylist())


def _planned(
    *,
    nodes: str | None,
    made: str | None,
    made_sha256: str | None,
    labels: str | None,
    **info: Any,
) -> PlannedSource:
    return PlannedSource(
        ObjectInfo(**info),
        None if nodes is None else _from_text(nodes),
        _from_text(made or ""),
        made_sha256,
        None if labels is None else SourceLabels(**json.loads(labels)),
    )


@lru_cache(maxsize=256)  # Most sources of a run have the same.
def _to_text(nodes: frozenset[str]) -> str:
    return " ".join(sorted(nodes))


@lru_cache(maxsize=256)
def _from_text(text: str) -> frozenset[str]:
    return frozenset(text.split())
