"""Walks between outputs: up to the source, down to what was made of them, and across."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from kaleidoscope.errors import ManifestError
from kaleidoscope.lineage._rows import Rows, check_columns, to_frame

if TYPE_CHECKING:
    import pandas as pd

Output: TypeAlias = "str | pd.Series[Any]"
"""An output's key, its URI, its ``output_id``, or its row with ``source_key`` and ``output_id``."""

Wanted: TypeAlias = tuple[float, float] | float | str | bool
"""The interval that a parameter lies in, ends included, or the value that it has."""

_NORMALIZE = "normalize"

_OUTPUT_ID = re.compile(r"(?P<source_id>[0-9a-f]{16})-[a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Step:
    """One operation of the chain that made an output of its source."""

    op: str
    """The transform's name; the first of a chain is ``normalize``."""
    version: int
    params: Mapping[str, Any]
    """The values that were drawn, by name."""


class Walks(Rows):
    """Ways from one output to others; a walk reads a row group or two, wherever it begins."""

    def find(self, output: Output) -> "pd.Series[Any]":
        """Return the whole row of an output.

        Args:
            output: Its key, its URI or its ``output_id``. By key is quicker.

        Raises:
            ManifestError: If there is no such output.
        """
        if not isinstance(output, str):
            output = str(output["output_id"])
        named = _OUTPUT_ID.fullmatch(output)
        if named:
            rows = self._family(self._source_key(named["source_id"]), output_id=output)
        else:
            key = output.removeprefix(f"{self.store.uri}/")
            rows = self.to_pandas(filter=[("output_key", "=", key)])
        if rows.empty:
            raise ManifestError(
                f"no committed run in {self.store.uri} made {output}; give an output's key, as in "
                "the column output_key, or its output_id"
            )
        return rows.iloc[0]

    def parent(self, output: Output) -> "pd.Series[Any] | None":
        """Return the row of what an output was made of by one step.

        None for an original, and where the recipe did not keep the parent.
        """
        row = self._row(output)
        if not isinstance(row["parent_id"], str):  # Missing, in pandas' way.
            return None
        parents = self._family(row["source_key"], output_id=row["parent_id"])
        return None if parents.empty else parents.iloc[0]

    def children(self, output: Output) -> "pd.DataFrame":
        """Return the rows of what was made of an output by one more step."""
        row = self._row(output)
        return self._family(row["source_key"], parent_id=row["output_id"])

    def siblings(self, output: Output) -> "pd.DataFrame":
        """Return the rows of all other outputs of the same source."""
        row = self._row(output)
        is_other = ds.field("output_id") != row["output_id"]
        return self.to_pandas(filter=(ds.field("source_key") == row["source_key"]) & is_other)

    def from_source(self, source_key: str, columns: Sequence[str] | None = None) -> "pd.DataFrame":
        """Return everything that was made of a source; nothing if it is not known."""
        return self.to_pandas(columns, [("source_key", "=", source_key)])

    def chain(self, output: Output) -> tuple[Step, ...]:
        """Return what was done to the source, in order, to make an output.

        Raises:
            ManifestError: If there is no such output, or its row is damaged.
        """
        row = output if not isinstance(output, str) and "ops" in output else self.find(output)
        return _steps(str(row["ops"]))

    def made_by(
        self,
        op: str,
        where: Mapping[str, Wanted] | None = None,
        *,
        anywhere: bool = False,
        columns: Sequence[str] | None = None,
    ) -> "pd.DataFrame":
        """Return the outputs that a transform made.

        Args:
            op: The transform's name, for example ``Rotate``.
            where: What its parameters are, by name: ``{"angle_deg": (10, 20)}``.
            anywhere: Also the outputs that were made of those by further steps.
            columns: Which to return; None returns all.

        Raises:
            ManifestError: If there is no such column, a row is damaged, or nothing was made and
                there is no transform or parameter of this name.
        """
        made = self._made_by(op, where, anywhere=anywhere, columns=columns)
        if made.empty:
            _refuse_unknown(op, where or {})
        return made

    def _made_by(
        self,
        op: str,
        where: Mapping[str, Wanted] | None,
        *,
        anywhere: bool,
        columns: Sequence[str] | None,
    ) -> "pd.DataFrame":
        wanted = check_columns(columns)
        by_op = ds.field("op") == op
        if anywhere:
            by_op = pc.match_substring(ds.field("ops"), f'"op":{json.dumps(op)}')
        if where is None:
            return self.to_pandas(wanted, by_op)
        source = "ops" if anywhere else "params"
        batches = self.scan(list(dict.fromkeys([*wanted, source])), by_op)
        return to_frame(_with_params(batches, op, where, source, wanted), wanted)

    def _row(self, output: Output) -> "pd.Series[Any]":
        if isinstance(output, str) or not {"source_key", "parent_id"} <= set(output.index):
            return self.find(output)
        return output

    def _family(self, source_key: str, **fields: str) -> "pd.DataFrame":
        # The source's key leads to a row group or two; ids are spread over all.
        wanted = ds.field("source_key") == source_key
        for name, value in fields.items():
            wanted &= ds.field(name) == value
        return self.to_pandas(filter=wanted)

    def _source_key(self, source_id: str) -> str:
        for batch in self.scan(["source_key"], ds.field("source_id") == source_id):
            return str(batch.column("source_key")[0])
        raise ManifestError(
            f"no committed run in {self.store.uri} made an output of source {source_id}"
        )


def _refuse_unknown(op: str, where: Mapping[str, Wanted]) -> None:
    """Say that a name is wrong, where that is why nothing was found."""
    from kaleidoscope.transforms import TRANSFORMS  # noqa: PLC0415 -- OpenCV, for a typo only.

    if op == _NORMALIZE:
        return
    transform = TRANSFORMS.get(op)
    if transform is None:
        raise ManifestError(
            f"nothing was made by {op!r}, and no transform is called so; there are "
            f"{', '.join(TRANSFORMS)}"
        )
    known = [field.name for field in fields(transform.operation)]
    if unknown := [name for name in where if name not in known]:
        raise ManifestError(
            f"{op} records no parameter {unknown[0]!r}; it has {', '.join(known) or 'none'}"
        )


def _with_params(
    batches: Iterator[Any], op: str, where: Mapping[str, Wanted], source: str, columns: list[str]
) -> Iterator[Any]:
    for batch in batches:
        texts = batch.column(source).to_pylist()
        if source == "params":
            kept = [_fits(_decoded(text), where) for text in texts]
        else:
            kept = [
                any(step.op == op and _fits(step.params, where) for step in _steps(text))
                for text in texts
            ]
        yield batch.select(columns).filter(pa.array(kept, pa.bool_()))


def _fits(params: Mapping[str, Any], where: Mapping[str, Wanted]) -> bool:
    return all(name in params and _is_in(params[name], value) for name, value in where.items())


def _is_in(value: Any, wanted: Wanted) -> bool:
    if not isinstance(wanted, tuple):
        return bool(value == wanted)
    low, high = wanted
    return isinstance(value, int | float) and low <= value <= high


def _steps(ops: str) -> tuple[Step, ...]:
    try:
        return tuple(Step(**step) for step in _decoded(ops))
    except TypeError as error:
        raise ManifestError(f"a row's ops cannot be read: {ops[:200]!r}") from error


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError) as error:
        raise ManifestError(f"a row's parameters cannot be read: {text!r:.200}") from error
