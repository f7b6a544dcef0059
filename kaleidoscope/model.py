"""Values that pass between the stages of the pipeline.

They are frozen and hold no behaviour beyond what follows from their own fields.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

BgrImage: TypeAlias = npt.NDArray[np.uint8]
"""Pixels, ``(H, W, 3)`` uint8, channels in the order blue, green, red as OpenCV has them."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a listing says of an object; nothing has been read of it yet."""

    key: str
    """Relative to the store's URI, with ``/`` between folders and none at the start."""

    size: int
    """Bytes."""

    etag: str
    """The store's own name for this version of the content, without quotes."""

    version_id: str | None = None
    """The S3 version of the object; None where the store keeps no versions."""
