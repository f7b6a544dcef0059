"""The table that makes a destination an ImageFolder of Hugging Face's ``datasets``.

``metadata.parquet`` lies beside the images, at the top, with a row for each: ``file_name`` relative
to it, the label, and where the image came from. It is derived from the manifest, and may be written
again at any time. Images without a row, which a destination keeps of sources that went away, are
none of the data set then.
"""

import io
from collections.abc import Iterable
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
    "attributes",
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
    schema = pa.schema([(_NAMES.get(name, name), SCHEMA.field(name).type) for name in COLUMNS])
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, schema, compression="zstd") as writer:
        for batch in batches:
            # Without what the manifest's schema says of missing values.
            columns = [batch.column(name) for name in COLUMNS]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
    return buffer.getvalue()
