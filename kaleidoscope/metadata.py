"""The table that makes a destination an ImageFolder of Hugging Face's ``datasets``.

``metadata.parquet`` lies beside the images, at the top, with a row for each: ``file_name`` relative
to it, the label, and where the image came from. It is derived from the manifest, and may be written
again at any time. Images without a row, which a destination keeps of sources that went away, are
none of the data set then.
"""

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kaleidoscope.manifest import ROWS_PER_FILE, SCHEMA
from kaleidoscope.recipe import Recipe
from kaleidoscope.transforms import TargetKind

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

_NAMES = {"output_key": "file_name", "mask_key": "mask_file_name"}
"""What ``datasets`` calls a column; the others keep their names. It loads what a column that ends
on ``file_name`` names."""

_OBJECTS = pa.struct(
    [("bbox", pa.list_(pa.list_(pa.float64()))), ("categories", pa.list_(pa.string()))]
)


_COLUMN_OF: Mapping[TargetKind, str] = {"masks": "mask_key", "boxes": "objects"}


def columns_for(recipe: Recipe) -> tuple[str, ...]:
    """Return the columns of the manifest that the table has for images of a recipe."""
    kinds = recipe.target_kinds
    return (*COLUMNS, *(column for kind, column in _COLUMN_OF.items() if kind in kinds))


def to_metadata(batches: Iterable[Any], columns: Sequence[str] = COLUMNS) -> bytes:
    """Return the table for rows of the manifest.

    Args:
        batches: Record batches with the columns, of outputs only.
        columns: What :func:`columns_for` returned.
    """
    schema = pa.schema([(_NAMES.get(name, name), _type_of(name)) for name in columns])
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, schema, compression="zstd") as writer:
        for batch in batches:
            # Without what the manifest's schema says of missing values.
            arrays = [_array_of(name, batch.column(name)) for name in columns]
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
    return buffer.getvalue()


def _type_of(column: str) -> pa.DataType:
    return _OBJECTS if column == "objects" else SCHEMA.field(column).type


def _array_of(column: str, values: pa.Array) -> pa.Array:
    if column != "objects":
        return values
    # Other fields, such as the share that is visible, stay in the manifest.
    texts = values.to_pylist()
    return pa.array([None if text is None else json.loads(text) for text in texts], _OBJECTS)
