"""The table that makes a destination an ImageFolder of Hugging Face's ``datasets``.

``metadata.parquet`` lies beside the images, at the top, with a row for each: ``file_name`` relative
to it, the label, and where the image came from. It is derived from the manifest, and may be written
again at any time. Images without a row, which a destination keeps of sources that went away, are
none of the data set then.
"""

import io
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kaleidoscope.manifest import ROWS_PER_FILE, SCHEMA

MAX_ROWS = ROWS_PER_FILE
"""Images above which there is no such table. ``datasets`` wants a single one, and it is made in
memory, some 100 MB at this size. So large a data set is better written as tars."""

COLUMNS = (
    "output_key",
    "label",
    "split",
    "node",
    "depth",
    "op",
    "params",
    "source_key",
    "source_id",
    "output_id",
    "parent_id",
    "run_id",
    "width",
    "height",
    "size",
    "sha256",
)
"""Of the manifest, those that the table has."""

_NAMES = {"output_key": "file_name"}
"""What ``datasets`` calls a column; the others keep their names."""


def to_metadata(batches: Iterable[Any]) -> bytes:
    """Return the table for rows of the manifest.

    Args:
        batches: Record batches with the :data:`COLUMNS`, of outputs only.
    """
    schema = pa.schema([SCHEMA.field(name).with_name(_NAMES.get(name, name)) for name in COLUMNS])
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, schema, compression="zstd") as writer:
        for batch in _without_empty(batches):
            writer.write_table(
                pa.Table.from_batches([batch]).select(COLUMNS).rename_columns(schema.names)
            )
    return buffer.getvalue()


def _without_empty(batches: Iterable[Any]) -> Iterator[Any]:
    return (batch for batch in batches if batch.num_rows)
