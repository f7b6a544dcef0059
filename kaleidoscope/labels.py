"""Labels of sources: the folders they lie in, or a table that lies beside them.

The table is CSV, parquet or JSON lines with a column ``file_name``, the source's key relative to
the source prefix. A column ``label`` takes the place of the folder; a source without a row, or
with an empty cell, then has no label, since its folder need not be one. All other columns travel
as attributes. CSV knows no types, so its values stay text and ``007`` keeps its zeros.

A planner holds the table in memory, about 500 bytes for a row with two short attributes, and puts
into the plan of each shard what the table says of its sources.
"""

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import PurePosixPath
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from kaleidoscope.errors import ObjectMissingError, PlanError
from kaleidoscope.identity import label_of
from kaleidoscope.model import ObjectInfo, SourceLabels
from kaleidoscope.stores import Store

_NAMES_SHOWN = 5

_Row: TypeAlias = Mapping[str, Any]


class Labels:
    """What is known of sources before they are read."""

    def __init__(
        self,
        rows: Mapping[str, SourceLabels] | None = None,
        *,
        unlisted: SourceLabels | None = None,
    ) -> None:
        """Take what a table says; without one, folders are labels.

        Args:
            rows: By source key.
            unlisted: What holds for other sources; None makes their folders their labels.
        """
        self._rows = rows or {}
        self._unlisted = unlisted

    def of(self, source_key: str) -> SourceLabels | None:
        """Return what the table says of a source; None leaves it to the folder."""
        return self._rows.get(source_key, self._unlisted)

    def label_of(self, source_key: str) -> str | None:
        """Return the class of a source; None if it has none."""
        labels = self.of(source_key)
        return label_of(source_key) if labels is None else labels.label


def load_labels(source: Store, key: str, listed: Iterable[ObjectInfo]) -> Labels:
    """Read the table of a data set, whole.

    Args:
        source: Where the table lies, with the sources.
        key: Of the table; its extension says what it is.
        listed: The sources, read once to find names that none of them has.

    Raises:
        PlanError: If the table is missing or damaged, names a source twice or one that is not
            there, or holds what is no label.
    """
    origin = f"the labels {source.uri.rstrip('/')}/{key}"
    try:
        data = source.get(key).data
    except ObjectMissingError as error:
        raise PlanError(f"{origin} are not there; check targets.labels") from error
    reader = _TableReader(origin)
    try:
        reader.read(_rows(PurePosixPath(key).suffix, data))
    except (pa.ArrowException, csv.Error, OSError, ValueError, RecursionError) as error:
        raise PlanError(f"{origin} cannot be read: {error}") from error
    labels = reader.finish()
    unknown = dict.fromkeys(labels)
    for info in listed:
        unknown.pop(info.key, None)
    if unknown:
        raise PlanError(
            f"{origin} name {len(unknown)} of {len(labels)} sources that are not under "
            f"{source.uri} ({_first_few(unknown)}); file_name must be a key relative to the "
            "source prefix, such as cats/rex.jpg. Correct the table, or take these rows out"
        )
    return Labels(labels, unlisted=SourceLabels() if reader.has_label else None)


class _TableReader:
    """Collects rows by source, and what is wrong with them."""

    def __init__(self, origin: str) -> None:
        self.has_label = False
        """Whether the table has a column for it."""
        self._origin = origin
        self._labels: dict[str, SourceLabels] = {}
        self._twice: dict[str, None] = {}

    def read(self, rows: Iterable[_Row]) -> None:
        for number, row in enumerate(rows, start=1):
            attributes = dict(row)
            name = attributes.pop("file_name", None)
            if not isinstance(name, str) or not name:
                raise PlanError(
                    f"{self._origin}: row {number} must name a source in file_name, got "
                    f"{name!r:.80}; its columns are {', '.join(map(str, row)) or 'none'}"
                )
            if name in self._labels:
                self._twice[name] = None
            self._check_columns(attributes)
            self.has_label |= "label" in attributes
            label = self._label(attributes.pop("label", None), name)
            self._labels[name] = SourceLabels(label, _to_json(attributes))

    def _check_columns(self, columns: Iterable[str]) -> None:
        """Refuse what was meant for the label: the folder would be taken in its place."""
        for column in columns:
            if column != "label" and column.strip().lower() in {"label", "labels"}:
                raise PlanError(
                    f"{self._origin} have a column {column!r}; call it 'label' if it holds the "
                    "labels, and otherwise by another name"
                )

    def _label(self, value: Any, name: str) -> str | None:
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if value is None or isinstance(value, str):
            return (value or "").strip() or None
        raise PlanError(
            f"{self._origin}: the label of {name} must be text or a whole number, got {value!r:.80}"
        )

    def finish(self) -> Mapping[str, SourceLabels]:
        if self._twice:
            raise PlanError(
                f"{self._origin} name {len(self._twice)} sources more than once "
                f"({_first_few(self._twice)}); leave one row for each"
            )
        if not self._labels:
            raise PlanError(f"{self._origin} hold no row; check targets.labels")
        if self.has_label:
            return self._labels
        return {
            name: SourceLabels(label_of(name), labels.attributes)
            for name, labels in self._labels.items()
        }


def _rows(extension: str, data: bytes) -> Iterator[_Row]:
    """Yield the rows of a table of one of the three kinds."""
    match extension:
        case ".parquet":
            for batch in pq.ParquetFile(io.BytesIO(data)).iter_batches():
                yield from batch.to_pylist()
        case ".csv":
            yield from _csv_rows(data.decode("utf-8-sig"))
        case _:
            yield from _json_rows(data.decode("utf-8-sig"))


def _csv_rows(text: str) -> Iterator[_Row]:
    # Strict, or an open quote would take the rest of the table for one cell.
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    header = next(lines, [])
    if len(set(header)) < len(header):
        raise ValueError(f"a column stands twice in {', '.join(header)}")
    for cells in lines:
        if not cells:  # An empty line.
            continue
        if len(cells) != len(header):
            raise ValueError(
                f"line {lines.line_num} has {len(cells)} cells and the header {len(header)}"
            )
        yield {name: cell or None for name, cell in zip(header, cells, strict=True)}


def _json_rows(text: str) -> Iterator[_Row]:
    # Not splitlines, which parts lines at characters that JSON strings may hold.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        row = json.loads(line)
        if not isinstance(row, dict):
            raise ValueError(f"line {number} must be a JSON object, got {line:.80}")  # noqa: TRY004 -- of the file, not the caller.
        yield row


def _to_json(attributes: Mapping[str, Any]) -> str | None:
    """Return an object of what has a value; None if nothing has."""
    known = {name: value for name, value in attributes.items() if not _is_missing(value)}
    if not known:
        return None
    # Dates and decimals, which parquet has and JSON has not, become text.
    return json.dumps(
        known, separators=(",", ":"), ensure_ascii=False, default=str, allow_nan=False
    )


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def _first_few(names: Iterable[str]) -> str:
    shown = list(islice(names, _NAMES_SHOWN + 1))
    return ", ".join([*shown[:_NAMES_SHOWN], *("…" for _ in shown[_NAMES_SHOWN:])])
