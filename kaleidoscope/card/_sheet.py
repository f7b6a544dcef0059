"""A picture of some images of a data set: a row for each sample."""

from collections.abc import Sequence

import cv2
import numpy as np

from kaleidoscope.card._facts import Shown
from kaleidoscope.codecs import EncodeSpec, encode
from kaleidoscope.errors import CodecError, ObjectMissingError
from kaleidoscope.model import BgrImage
from kaleidoscope.outputs import decode_output, read_output
from kaleidoscope.stores import Store

TILE_PX = 128
"""Side of the square that an image is fitted into."""

GAP_PX = 4


def draw_samples(store: Store, samples: Sequence[Sequence[Shown]]) -> bytes | None:
    """Return a JPEG, or None if there is nothing to show.

    The place of an image that is missing or damaged, which ``verify`` names, stays white.

    Raises:
        StoreError: If the store is down.
    """
    rows = [row for row in samples if row]
    if not rows:
        return None
    pitch = TILE_PX + GAP_PX
    width = pitch * max(map(len, rows)) - GAP_PX
    sheet = np.full((pitch * len(rows) - GAP_PX, width, 3), 255, np.uint8)
    for y, row in enumerate(rows):
        for x, shown in enumerate(row):
            try:
                tile = _fit(decode_output(read_output(store, *shown.place)))
            except (ObjectMissingError, CodecError):
                continue
            top, left = pitch * y, pitch * x
            sheet[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return encode(sheet, EncodeSpec(format="jpeg", quality=85))


def _fit(image: BgrImage) -> BgrImage:
    """Shrink or enlarge to the longest side of a tile."""
    height, width = image.shape[:2]
    scale = TILE_PX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    return cv2.resize(image, size, interpolation=method).astype(np.uint8, copy=False)
