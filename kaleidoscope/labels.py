"""What is known of sources before they are read: labels, boxes, and which masks they have.

Labels are the folders that sources lie in, or come from a table beside them, see
:mod:`kaleidoscope.annotations`, with a column ``file_name``, the source's key relative to the
source prefix. A column ``label`` takes the place of the folder; a source without a row, or with an
empty cell, then has no label, since its folder need not be one. A column ``objects`` has boxes. All
other columns travel as attributes.

A planner holds the table and the names of masks in memory, about 500 bytes for a row with two
short attributes, and puts into the plan of each shard what is known of its sources.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

from kaleidoscope.annotations import Row, read_rows
from kaleidoscope.errors import ObjectMissingError, PlanError, TargetError
from kaleidoscope.identity import label_of
from kaleidoscope.masks import Masks, find_mask, find_masks
from kaleidoscope.model import ObjectInfo, PlannedSource, SourceLabels, StoredTargets
from kaleidoscope.recipe import Targets
from kaleidoscope.stores import Store
from kaleidoscope.targets import check_objects

_NAMES_SHOWN = 5

_OBJECTS = "objects"


class Labels:
    """What is known of sources before they are read."""

    def __init__(
        self,
        rows: Mapping[str, SourceLabels] | None = None,
        *,
        unlisted: SourceLabels | None = None,
        masks: Masks | None = None,
    ) -> None:
        """Take what a table says; without one, folders are labels.

        Args:
            rows: By source key.
            unlisted: What holds for other sources; None makes their folders their labels.
            masks: Of the sources; None if they have none.
        """
        self._rows = rows or {}
        self._unlisted = unlisted
        self._masks = masks
        self.lacking: Mapping[str, int] = {}
        """Listed sources by what is not there for them."""

    def of(self, source_key: str) -> SourceLabels | None:
        """Return what is known of a source; None leaves it to the folder."""
        labels = self._rows.get(source_key, self._unlisted)
        mask = None if self._masks is None else self._masks.of(source_key)
        return labels if mask is None else _with_mask(labels or _of_folder(source_key), mask)

    def label_of(self, source_key: str) -> str | None:
        """Return the class of a source; None if it has none."""
        labels = self.of(source_key)
        return label_of(source_key) if labels is None else labels.label


def planned_labels(planned: PlannedSource) -> SourceLabels:
    """Return what is known of a source of a plan."""
    return planned.labels or _of_folder(planned.info.key)


def _of_folder(source_key: str) -> SourceLabels:
    return SourceLabels(label_of(source_key))


def _with_mask(labels: SourceLabels, mask: ObjectInfo) -> SourceLabels:
    return replace(labels, mask_key=mask.key, mask_etag=mask.etag)


def find_labels(source: Store, targets: Targets | None, source_key: str) -> SourceLabels:
    """Return what is known of one source, with no look at the others.

    Args:
        source: Where the table and the masks lie, if there are any.
        targets: What a recipe says of them.
        source_key: Relative to the source prefix.

    Raises:
        PlanError: If the table is missing or damaged, or the source has several masks.
    """
    labels = None
    if targets is not None and targets.labels is not None:
        table = _read_table(source, targets.labels, targets)
        labels = table.rows.get(source_key, table.unlisted)
    labels = labels or _of_folder(source_key)
    if targets is None or targets.masks is None:
        return labels
    mask = find_mask(source, targets.masks, source_key)
    return labels if mask is None else _with_mask(labels, mask)


def read_targets(source: Store, labels: SourceLabels) -> StoredTargets:
    """Return what belongs to a source, its mask read.

    Args:
        source: Where the mask lies.
        labels: What is known of the source.

    Raises:
        StoreError: If the mask is not there or cannot be read.
    """
    mask = None if labels.mask_key is None else source.get(labels.mask_key).data
    return StoredTargets(labels.label, labels.objects, mask)


def load_labels(source: Store, targets: Targets, listed: Iterable[ObjectInfo]) -> Labels:
    """Read the table of a data set, whole, and list its masks.

    Args:
        source: Where the table and the masks lie, with the sources.
        targets: What a recipe says of them.
        listed: The sources, read once to find names that none of them has.

    Raises:
        PlanError: If the table is missing or damaged, names a source twice or one that is not
            there, or holds what is no label or box; if there is no mask, or one of two sources.
    """
    masks = None if targets.masks is None else find_masks(source, targets.masks)
    table = None if targets.labels is None else _read_table(source, targets.labels, targets)
    rows = {} if table is None else table.rows
    labels = Labels(rows, unlisted=None if table is None else table.unlisted, masks=masks)
    unknown = dict.fromkeys(rows)
    lacking: Counter[str] = Counter()
    for info in listed:
        if table is not None and unknown.pop(info.key, _ABSENT) is _ABSENT:
            lacking[f"a row in {targets.labels}"] += 1
        if masks is not None and masks.claim(info.key) is None:
            lacking[f"a mask in {targets.masks}"] += 1
    if table is not None and unknown:
        raise PlanError(
            f"{table.origin} name {len(unknown)} of {len(rows)} sources that are not under "
            f"{source.uri} ({_first_few(unknown)}); file_name must be a key relative to the "
            "source prefix, such as cats/rex.jpg. Correct the table, or take these rows out"
        )
    labels.lacking = dict(lacking)
    return labels


_ABSENT = object()


@dataclass(frozen=True, slots=True)
class _Table:
    origin: str
    """What to call it in an error."""
    rows: Mapping[str, SourceLabels]
    unlisted: SourceLabels | None


def _read_table(source: Store, key: str, targets: Targets) -> _Table:
    origin = f"the labels {source.uri.rstrip('/')}/{key}"
    try:
        data = source.get(key).data
    except ObjectMissingError as error:
        raise PlanError(f"{origin} are not there; check targets.labels") from error
    reader = _TableReader(origin, has_boxes=targets.boxes is not None)
    try:
        reader.read(read_rows(data, PurePosixPath(key).suffix, origin=origin))
    except ValueError as error:  # NaN in attributes, which JSON does not have.
        raise PlanError(f"{origin} cannot be read: {error}") from error
    rows = reader.finish()
    return _Table(origin, rows, SourceLabels() if reader.has_label else None)


class _TableReader:
    """Collects rows by source, and what is wrong with them."""

    def __init__(self, origin: str, *, has_boxes: bool) -> None:
        self.has_label = False
        """Whether the table has a column for it."""
        self._origin = origin
        self._has_boxes = has_boxes
        self._labels: dict[str, SourceLabels] = {}
        self._twice: dict[str, None] = {}

    def read(self, rows: Iterable[Row]) -> None:
        for number, row in enumerate(rows, start=1):
            attributes = dict(row)
            name = attributes.pop("file_name", None)
            if not isinstance(name, str) or not name:
                raise PlanError(
                    f"{self._origin}: row {number} must name a source in file_name, got "
                    f"{name!r:.80}; its columns are {', '.join(map(str, row)) or 'none'}"
                )
            self._check_encodable("file_name", name, number)
            if name in self._labels:
                self._twice[name] = None
            self._check_columns(attributes)
            self.has_label |= "label" in attributes
            label = self._label(attributes.pop("label", None), name)
            objects = self._objects(attributes.pop(_OBJECTS, None), name)
            known = SourceLabels(label, _to_json(attributes), objects)
            for what, text in (
                ("label", known.label),
                ("attributes", known.attributes),
                (_OBJECTS, known.objects),
            ):
                self._check_encodable(what, text, number)
            self._labels[name] = known

    def _check_encodable(self, what: str, text: str | None, number: int) -> None:
        """Refuse half of a character, as JSON can escape it, which no record of a run can hold."""
        try:
            (text or "").encode()
        except UnicodeEncodeError as error:
            raise PlanError(
                f"{self._origin}: row {number} has half of a character (a lone surrogate) in "
                f"{what}, {text!r:.80}; was text cut in the middle of an emoji? Write it again "
                "whole, or take it out"
            ) from error

    def _check_columns(self, columns: Iterable[str]) -> None:
        """Refuse what was meant for labels or boxes, and would be taken for something else."""
        if self._has_boxes != (_OBJECTS in columns):
            problem = "no column" if self._has_boxes else "a column"
            raise PlanError(
                f"{self._origin} have {problem} {_OBJECTS!r}: it holds boxes, and targets.boxes "
                "says what their numbers mean, coco, pascal_voc or yolo; give both or none"
            )
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

    def _objects(self, value: Any, name: str) -> str | None:
        if value is None or value == "":
            return None
        try:
            return check_objects(value)
        except TargetError as error:
            raise PlanError(f"{self._origin}: the objects of {name}: {error}") from error

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
            name: replace(labels, label=label_of(name)) for name, labels in self._labels.items()
        }


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
