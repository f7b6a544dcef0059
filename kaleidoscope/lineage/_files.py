"""The manifest's files in a store, as pyarrow reads them: by ranges, never as a whole."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from kaleidoscope.errors import ManifestError
from kaleidoscope.manifest import DAMAGE, SCHEMA
from kaleidoscope.model import ObjectInfo
from kaleidoscope.runs import RunEntry, load_report
from kaleidoscope.stores import RangeFile, Store

FILES_AT_ONCE = 8

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

_FORMAT = ds.ParquetFileFormat(
    default_fragment_scan_options=ds.ParquetFragmentScanOptions(
        pre_buffer=True, page_checksum_verification=True
    )
)


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """A file of a committed run's manifest, by its footer."""

    run_id: str
    info: ObjectInfo
    num_rows: int
    first_created_at: datetime
    last_created_at: datetime
    """When the first and the last of its shards began."""


def find_files(store: Store, runs: Sequence[RunEntry]) -> tuple[ManifestFile, ...]:
    """Return the files of the runs' manifests, by run and in row order.

    Only footers are read: a request or two for each million rows.

    Raises:
        ManifestError: If a file is missing, damaged, or the runs' reports count other rows.
    """
    return tuple(chain.from_iterable(each(lambda run: tuple(_files_of_run(store, run)), runs)))


def each(function: Callable[[ItemT], ResultT], items: Sequence[ItemT]) -> Iterator[ResultT]:
    """Yield what a function makes of each item, in order, with several at work at once.

    A file is read by one request after the other; of a store far away, several files are read
    in the time of one.
    """
    with ThreadPoolExecutor(FILES_AT_ONCE, "kaleidoscope-lineage") as threads:
        yield from threads.map(function, items)


def _files_of_run(store: Store, run: RunEntry) -> Iterator[ManifestFile]:
    infos = list(store.list_objects(run.keys.manifest))
    if not infos:  # Even a run that made nothing has a file.
        raise ManifestError(
            f"run {run.run_id} is committed in {store.uri}, and its manifest is missing: "
            f"there is nothing under {run.keys.manifest}; was it deleted?"
        )
    footers = each(lambda info: _read_footer(store, run.run_id, info), infos)
    files = [file for file in footers if file is not None]
    report = load_report(store, run.run_id)
    num_rows = sum(file.num_rows for file in files)
    # A source of which something could not be made has one row that says so, as has one taken out.
    if num_rows != (wanted := report.num_outputs + report.num_failed + report.num_pruned):
        keys = {info.key for info in infos}
        gaps = [key for key in map(run.keys.manifest_file, range(len(infos))) if key not in keys]
        raise ManifestError(
            f"the manifest of run {run.run_id} in {store.uri} has {num_rows:,} rows in "
            f"{len(infos)} files, and its report counts {wanted:,}; "
            + (f"{gaps[0]} is missing" if gaps else "was its last file deleted, or one added?")
        )
    yield from files


def _read_footer(store: Store, run_id: str, info: ObjectInfo) -> ManifestFile | None:
    """Return what a file's footer says; None of a run that found nothing to make."""
    with naming(store, info):
        metadata = pq.read_metadata(_open(store, info.key, info.size))
        schema = metadata.schema.to_arrow_schema()
        for field in SCHEMA:
            # Columns that a later release added are read as missing; others make no manifest.
            position = schema.get_field_index(field.name)
            if position < 0 and not field.nullable:
                raise pa.ArrowInvalid(f"it has no column {field.name}")
            if position >= 0 and schema.field(position).type != field.type:
                raise pa.ArrowInvalid(f"its column {field.name} is no {field.type}")
        if not metadata.num_rows:
            return None
        column = schema.get_field_index("created_at")
        groups = [metadata.row_group(i).column(column) for i in range(metadata.num_row_groups)]
        moments = [group.statistics for group in groups]
        return ManifestFile(
            run_id,
            info,
            metadata.num_rows,
            min(moment.min for moment in moments),
            max(moment.max for moment in moments),
        )


def make_dataset(store: Store, files: Sequence[ManifestFile]) -> Any:
    """Return a :class:`pyarrow.dataset.FileSystemDataset` over files, in their order.

    Each fragment says of which run it is, so that a filter by run opens no other file.
    """
    fragments = [
        _FORMAT.make_fragment(
            _open(store, file.info.key, file.info.size),
            partition_expression=ds.field("run_id") == file.run_id,
        )
        for file in files
    ]
    return ds.FileSystemDataset(fragments, SCHEMA, _FORMAT)


@contextmanager
def naming(store: Store, info: ObjectInfo) -> Iterator[None]:
    """Turn what damage of a file leads to into an error that names the file."""
    try:
        yield
    except DAMAGE as error:
        raise ManifestError(
            f"{store.uri}: {info.key} cannot be read ({info.size} bytes): {error}; was "
            "it damaged, or written by another version of Kaleidoscope?"
        ) from error


def _open(store: Store, key: str, size: int) -> Any:
    return pa.PythonFile(RangeFile(store, key, size), mode="r")
