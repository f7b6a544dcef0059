"""Make any output again, from its source and its row of the manifest."""

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kaleidoscope.augment import NORMALIZE_VERSION, normalized
from kaleidoscope.codecs import EncodeSpec, encode, probe
from kaleidoscope.errors import ManifestError, TransformError
from kaleidoscope.normalization import Normalization, NormalizationParam
from kaleidoscope.transforms import load_operation

if TYPE_CHECKING:
    import pandas as pd

_ANY_SIZE = 2**40
"""Pixels: the run that made the row took its source for small enough."""


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
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 != row["source_sha256"]:
        raise ManifestError(
            f"the row was made from a source with the SHA-256 {row['source_sha256']}, and these "
            f"bytes have {sha256}; the source has changed since"
        )
    try:
        first, *others = json.loads(row["ops"])
        normalization = _load_normalization(**first)
        operations = [load_operation(op["op"], op["version"], op["params"]) for op in others]
        spec = EncodeSpec(**json.loads(row["encoding"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ManifestError(f"the row's ops or encoding cannot be read: {error!r}") from error
    image = normalized(data, probe(data, max_pixels=_ANY_SIZE), normalization)
    for operation in operations:
        image = operation.apply(image)
    return encode(image, spec)


def _load_normalization(
    op: str, version: int, params: Mapping[str, NormalizationParam]
) -> Normalization:
    if (op, version) != ("normalize", NORMALIZE_VERSION):
        raise TransformError(
            f"the row begins with {op} in version {version}, not with normalize in version "
            f"{NORMALIZE_VERSION}; replay it with the Kaleidoscope release that it names"
        )
    return Normalization.from_params(params)
