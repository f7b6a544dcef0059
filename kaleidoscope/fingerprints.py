"""Which pictures look the same, whatever their bytes: perceptual hashes and pairs of near ones."""

from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt

from kaleidoscope.codecs import decode, probe, reduction_for
from kaleidoscope.model import BgrImage

NEAR_BITS = 8
"""Bits of 64 in which near duplicates differ at most.

Of the photographs in ``examples/``, copies that were scaled, compressed again, brightened or made
grey differ in at most 4 from the first, others in at least 20 and mostly 32. Zauner,
"Implementation and Benchmarking of Perceptual Image Hash Functions", 2010, has such distributions.
"""

_SIDE = 32
_LOW = 8
_DECODED_SIDE = 4 * _SIDE
"""Pixels of the short side: a large JPEG is decoded at a fraction of its size."""

_ROWS_AT_ONCE = 256


def fingerprint(data: bytes, *, max_pixels: int) -> int:
    """Return the perceptual hash of an encoded image, 64 bits.

    Args:
        data: The bytes of its file.
        max_pixels: An image of more is refused.

    Raises:
        CodecError: If the picture cannot be read.
    """
    header = probe(data, max_pixels=max_pixels)
    return perceptual_hash(decode(data, header, reduction=reduction_for(header, _DECODED_SIDE)))


def perceptual_hash(image: BgrImage) -> int:
    """Return 64 bits of which like pictures have nearly the same.

    The signs of the 8 x 8 lowest frequencies of the picture's discrete cosine transform about their
    median: the DCT hash of Zauner, 2010, section 3.2.1, which starts like him at the second row and
    column, since the first say how bright the picture is.

    Args:
        image: ``(H, W, 3)`` uint8, BGR.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    small = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[1 : _LOW + 1, 1 : _LOW + 1].ravel()
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes())


def near_pairs(
    hashes: npt.NDArray[np.uint64], *, max_bits: int = NEAR_BITS
) -> Iterator[tuple[int, int]]:
    """Yield the positions of each two hashes that differ in few bits, the smaller first.

    All are compared with all, a block at a time: a second for 20,000, a minute for 150,000.
    """
    for start in range(0, len(hashes), _ROWS_AT_ONCE):
        block = hashes[start : start + _ROWS_AT_ONCE, np.newaxis]
        distances = np.bitwise_count(block ^ hashes[np.newaxis, start:])
        rows, columns = np.nonzero(distances <= max_bits)
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            if row < column:
                yield start + row, start + column
