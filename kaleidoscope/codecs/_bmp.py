"""The header of a Windows bitmap, and whether it is whole (BITMAPINFOHEADER and later)."""

import struct

from kaleidoscope.codecs._header import ImageHeader, Mode
from kaleidoscope.errors import CorruptImageError, TruncatedImageError, UnsupportedFormatError

HEADER_SIZES = (12, 40, 52, 56, 64, 108, 124)
_CORE = 12
_PLAIN, _RLE8, _RLE4, _MASKS, _ALPHA_MASKS = 0, 1, 2, 3, 6
_MODES: dict[int, Mode] = {1: "P", 4: "P", 8: "P", 16: "RGB", 24: "RGB", 32: "RGB"}


def read_bmp(data: bytes) -> ImageHeader:
    """Read the header of a whole bitmap.

    Raises:
        TruncatedImageError: If the file is shorter than its rows.
        UnsupportedFormatError: If it is compressed otherwise than by run lengths.
        CorruptImageError: If it has a depth that does not exist.
        struct.error: If it ends inside its header.
    """
    offset, header_size = struct.unpack_from("<II", data, 10)
    layout = "<HHHH" if header_size == _CORE else "<iiHH"
    width, height, _, depth = struct.unpack_from(layout, data, 18)
    compression, size = (0, 0) if header_size == _CORE else struct.unpack_from("<II", data, 30)
    if depth not in _MODES or width < 0:
        raise CorruptImageError(f"the BMP says {depth} bits a pixel and a width of {width} pixels")
    if compression not in {_PLAIN, _RLE8, _RLE4, _MASKS, _ALPHA_MASKS}:
        raise UnsupportedFormatError(f"BMP compression {compression} is not read")
    if compression not in {_RLE8, _RLE4}:
        # Rows are padded to 32 bits; a negative height means that the top one comes first.
        size = (width * depth + 31) // 32 * 4 * abs(height)
    if offset + size > len(data):
        raise TruncatedImageError(f"the BMP needs {offset + size} bytes and has {len(data)}")
    has_alpha = _has_alpha_mask(data, header_size, compression)
    return ImageHeader.from_stored(
        "bmp",
        (width, abs(height)),
        mode="RGBA" if has_alpha else _MODES[depth],
        bits=min(depth, 8),
        alpha="straight" if has_alpha else "none",
    )


def _has_alpha_mask(data: bytes, header_size: int, compression: int) -> bool:
    """Say whether 32-bit pixels carry alpha; without a mask their fourth byte means nothing."""
    if compression not in {_MASKS, _ALPHA_MASKS} or header_size < 56:  # noqa: PLR2004
        return False
    (mask,) = struct.unpack_from("<I", data, 66)
    return bool(mask)
