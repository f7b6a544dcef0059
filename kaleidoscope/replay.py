"""Make any output again, from its source and its row of the manifest."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np

from kaleidoscope.augment import NORMALIZE_VERSION, normalized
from kaleidoscope.codecs import EncodeSpec, decode_mask, encode, encode_mask, probe
from kaleidoscope.errors import ManifestError, TransformError
from kaleidoscope.normalization import Normalization, NormalizationParam
from kaleidoscope.outputs import ANY_SIZE, decode_output, decode_output_mask
from kaleidoscope.runs import Versions
from kaleidoscope.transforms import Operation, load_operation

if TYPE_CHECKING:
    import pandas as pd

COMPARED_COLUMNS = (
    "status",
    "source_sha256",
    "ops",
    "encoding",
    "sha256",
    "kaleidoscope_version",
    "opencv_version",
    "numpy_version",
)
"""What :func:`compare` has to know of an output."""

COMPARED_MASK_COLUMNS = ("source_mask_sha256", "mask_sha256")
"""What :func:`compare_mask` has to know beside them."""

EQUIVALENT_LEVELS = 16
"""Grey levels of 255 by which another library or CPU may round differently, after encoding. Of one
level before, JPEG makes several at an edge of its blocks."""


def replay(row: "Mapping[str, Any] | pd.Series[Any]", data: bytes) -> bytes:
    """Make an output again, from its source and what its row says of it.

    Nothing is drawn, so a transform whose distribution has changed since does not matter. With
    the versions that the row names, the result has the row's ``sha256``.

    Args:
        row: A row of :func:`kaleidoscope.lineage.read_manifest`, with at least the columns
            ``status``, ``source_sha256``, ``ops`` and ``encoding``.
        data: The bytes of its source.

    Raises:
        ManifestError: If the row is no output's, is damaged, or the bytes are not its source's.
        CodecError: If the source cannot be decoded here.
        TransformError: If an operation has another version here than when it was recorded.
    """
    if row["status"] != "ok":
        raise ManifestError("a source that failed has no output that could be made again")
    _check_unchanged(data, row["source_sha256"], "source")
    recorded = _Recorded.of(row)
    image = normalized(data, probe(data, max_pixels=ANY_SIZE), recorded.normalization)
    for operation in recorded.operations:
        image = operation.apply(image)
    return encode(image, recorded.spec)


def replay_mask(row: "Mapping[str, Any] | pd.Series[Any]", data: bytes) -> bytes:
    """Make the mask of an output again, from that of its source and the output's row.

    Args:
        row: A row as :func:`replay` takes it, with the column ``source_mask_sha256``.
        data: The bytes of its source's mask.

    Raises:
        ManifestError: If the row is damaged, or the bytes are not its source's mask.
        CodecError: If the mask cannot be decoded here.
        TransformError: If an operation has another version here than when it was recorded.
    """
    _check_unchanged(data, row["source_mask_sha256"], "mask")
    recorded = _Recorded.of(row)
    mask = recorded.normalization.apply_mask(decode_mask(data, max_pixels=ANY_SIZE))
    for operation in recorded.operations:
        mask = operation.apply_mask(mask)
    return encode_mask(mask)


def _check_unchanged(data: bytes, recorded: str, what: str) -> None:
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 != recorded:
        raise ManifestError(
            f"the row was made from a {what} with the SHA-256 {recorded}, and these "
            f"bytes have {sha256}; the {what} has changed since"
        )


@dataclass(frozen=True, slots=True)
class _Recorded:
    """What a row says of how its output was made."""

    normalization: Normalization
    operations: tuple[Operation, ...]
    spec: EncodeSpec

    @classmethod
    def of(cls, row: "Mapping[str, Any] | pd.Series[Any]") -> "_Recorded":
        try:
            first, *others = json.loads(row["ops"])
            encoding = json.loads(row["encoding"])
            encoding.pop("png_level", None)  # Of rows before PNG had an encoder of its own.
            return cls(
                _load_normalization(**first),
                tuple(load_operation(op["op"], op["version"], op["params"]) for op in others),
                EncodeSpec(**encoding),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ManifestError(f"the row's ops or encoding cannot be read: {error!r}") from error


def _load_normalization(
    op: str, version: int, params: Mapping[str, NormalizationParam]
) -> Normalization:
    if (op, version) != ("normalize", NORMALIZE_VERSION):
        raise TransformError(
            f"the row begins with {op} in version {version}, not with normalize in version "
            f"{NORMALIZE_VERSION}; replay it with the Kaleidoscope release that it names"
        )
    return Normalization.from_params(params)


@dataclass(frozen=True, slots=True)
class Replayed:
    """How an output compares with what its source and parameters give here."""

    outcome: Literal["identical", "equivalent", "different"]
    """Equivalent is another encoding of nearly the same pixels: see :data:`EQUIVALENT_LEVELS`."""
    largest_difference: int | None
    """Of any sample of any pixel, in grey levels, [0, 255]; None for other sizes, and for masks."""
    changed_versions: Mapping[str, tuple[str, str]]
    """Libraries of another version here: the one that made the output, and the one here."""

    def __str__(self) -> str:
        if self.outcome == "identical":
            return "identical"
        difference = self.largest_difference
        by = (
            "of other size or values"
            if difference is None
            else f"by at most {difference} grey levels"
        )
        cause = "; ".join(
            f"made with {name} {then}, replayed with {now}"
            for name, (then, now) in self.changed_versions.items()
        )
        return f"{self.outcome}: {by} ({cause or 'same versions, so the CPU or its code differs'})"


def compare(row: "Mapping[str, Any] | pd.Series[Any]", source: bytes, stored: bytes) -> Replayed:
    """Make an output again and compare it with the one that is stored.

    Args:
        row: Its row, with at least the :data:`COMPARED_COLUMNS`.
        source: The bytes of its source.
        stored: Its own bytes, as the store has them.

    Raises:
        ManifestError: If the row is damaged, or the bytes are not its source's.
        CodecError: If the source or the stored output cannot be decoded here.
        TransformError: If an operation has another version here than when it was recorded.
    """
    again = replay(row, source)
    changed = _changed_versions(row)
    if hashlib.sha256(again).hexdigest() == row["sha256"]:
        return Replayed("identical", 0, changed)
    then, now = decode_output(stored), decode_output(again)
    if then.shape != now.shape:
        return Replayed("different", None, changed)
    difference = int(cv2.absdiff(then, now).max())
    is_near = difference <= EQUIVALENT_LEVELS
    return Replayed("equivalent" if is_near else "different", difference, changed)


def compare_mask(
    row: "Mapping[str, Any] | pd.Series[Any]", source: bytes, stored: bytes
) -> Replayed:
    """Make the mask of an output again and compare it with the one that is stored.

    Equivalent is another file with the same values; of values that are names none is near another.

    Args:
        row: The output's row, with the :data:`COMPARED_COLUMNS` and :data:`COMPARED_MASK_COLUMNS`.
        source: The bytes of its source's mask.
        stored: The bytes of its own mask, as the store has them.

    Raises:
        ManifestError: If the row is damaged, or the bytes are not its source's mask.
        CodecError: If one of the masks cannot be decoded here.
        TransformError: If an operation has another version here than when it was recorded.
    """
    again = replay_mask(row, source)
    changed = _changed_versions(row)
    if hashlib.sha256(again).hexdigest() == row["mask_sha256"]:
        return Replayed("identical", 0, changed)
    is_equal = np.array_equal(decode_output_mask(stored), decode_output_mask(again))
    return Replayed("equivalent" if is_equal else "different", 0 if is_equal else None, changed)


def _changed_versions(row: "Mapping[str, Any] | pd.Series[Any]") -> dict[str, tuple[str, str]]:
    here = Versions.installed()
    names = ("kaleidoscope", "opencv", "numpy")
    pairs = {name: (str(row[f"{name}_version"]), getattr(here, name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
