"""Arrow columns of Python values, made without pandas.

``pyarrow.array`` and ``pyarrow.scalar`` import pandas with the first value that they convert. A
process that runs shards has no use for it, and would pay 50 MB and a tenth of its start.

Layout of arrays: https://arrow.apache.org/docs/format/Columnar.html.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_column(values: Sequence[Any], kind: Any) -> Any:
    """Return a column of values.

    Args:
        values: Each of the kind, or None.
        kind: A pyarrow type: text, a signed integer, or a timestamp in microseconds with its zone.

    Raises:
        OverflowError: If a number is too large for the kind.
    """
    known = [value for value in values if value is not None]
    if not known:
        return pa.nulls(len(values), kind)
    buffers = [_validity(values) if len(known) < len(values) else None]
    if pa.types.is_string(kind):
        buffers += _text_buffers(values)
    elif pa.types.is_timestamp(kind):
        buffers.append(_numbers(values, lambda value: (value - _EPOCH) // _MICROSECOND, kind))
    else:
        buffers.append(_numbers(values, int, kind))
    return pa.Array.from_buffers(kind, len(values), buffers)


def repeated(value: Any, kind: Any, number: int) -> Any:
    """Return a column that has the same value in each of ``number`` rows."""
    return pa.repeat(to_column([value], kind)[0], number)


def _validity(values: Sequence[Any]) -> Any:
    bits = np.packbits([value is not None for value in values], bitorder="little")
    return pa.py_buffer(bits)


def _text_buffers(values: Sequence[str | None]) -> list[Any]:
    texts = [(value or "").encode() for value in values]
    offsets = np.zeros(len(texts) + 1, np.int32)
    np.cumsum([len(text) for text in texts], out=offsets[1:])
    return [pa.py_buffer(offsets), pa.py_buffer(b"".join(texts))]


def _numbers(values: Sequence[Any], to_number: Any, kind: Any) -> Any:
    numbers = [0 if value is None else to_number(value) for value in values]
    return pa.py_buffer(np.array(numbers, np.dtype(f"i{kind.bit_width // 8}")))
