"""Masks: images whose values are names, decoded and encoded without a value changed."""

import cv2
import numpy as np

from kaleidoscope.codecs._decode import decode_stored
from kaleidoscope.codecs._png_writer import SIGNATURE, chunk, write_png
from kaleidoscope.codecs._probe import probe
from kaleidoscope.errors import CorruptImageError, EncodeError, UnsupportedFormatError
from kaleidoscope.model import Mask

_LOSSLESS = ("png", "tiff", "bmp")

_CHUNK_HEADER = 8
_CHECKSUM = 4
_IDENTITY = bytes(value for index in range(256) for value in (index, index, index))


def decode_mask(data: bytes, *, max_pixels: int) -> Mask:
    """Decode a mask as it is stored.

    A palette's indices are the values, not its colours. Samples of fewer than 8 bits without a
    palette are spread over 0 to 255, as other readers have them.

    Args:
        data: A whole PNG, TIFF or BMP file.
        max_pixels: Refuse a larger mask before it is decoded.

    Returns:
        ``(height, width)`` or ``(height, width, C)``, uint8 or uint16; colours in the order BGR.

    Raises:
        CodecError: If it is no such file, or cannot be decoded.
    """
    header = probe(data, max_pixels=max_pixels)
    if header.format not in _LOSSLESS:
        raise UnsupportedFormatError(
            f"a mask must be lossless, {', '.join(_LOSSLESS)}, and this is a {header.format}"
        )
    if header.orientation != 1:
        raise UnsupportedFormatError(
            f"a mask must be stored upright, and this one is to be turned by its orientation "
            f"{header.orientation}"
        )
    if header.is_white_zero:
        raise UnsupportedFormatError(
            "a mask must be stored with black as zero, and in this TIFF white is zero, so that "
            "readers disagree on its values"
        )
    has_palette = header.format == "png" and header.mode == "P"
    pixels = decode_stored(_indexed(data) if has_palette else data, cv2.IMREAD_UNCHANGED)
    if has_palette:
        pixels = np.ascontiguousarray(pixels[..., 0])
    width, height = header.stored_size
    if pixels.shape[:2] != (height, width) or pixels.dtype not in (np.uint8, np.uint16):
        raise CorruptImageError(
            f"the header promises a mask of {width} x {height} pixels and the decoder gave "
            f"{pixels.shape} of {pixels.dtype}"
        )
    if pixels.dtype == np.uint16:
        return pixels.astype(np.uint16, copy=False)
    return pixels.astype(np.uint8, copy=False)


def _indexed(png: bytes) -> bytes:
    """Return a PNG whose palette shows each index as the grey of that level.

    Layout: PNG Specification (Third Edition), sections 5.3 and 11.2, https://www.w3.org/TR/png-3/.
    """
    chunks = [SIGNATURE]
    start = len(SIGNATURE)
    while start < len(png):
        size = int.from_bytes(png[start : start + 4], "big")
        end = start + _CHUNK_HEADER + size + _CHECKSUM
        kind = png[start + 4 : start + _CHUNK_HEADER]
        if kind == b"PLTE":
            chunks.append(chunk(kind, _IDENTITY[:size]))
        elif kind != b"tRNS":  # Transparency would add a channel.
            chunks.append(png[start:end])
        start = end
    return b"".join(chunks)


def encode_mask(mask: Mask) -> bytes:
    """Return a mask as PNG; :func:`decode_mask` gives the same values.

    Args:
        mask: ``(H, W)``, ``(H, W, 3)`` or ``(H, W, 4)``, uint8 or uint16.

    Raises:
        EncodeError: If it has another shape or type.
    """
    is_shaped = mask.ndim in (2, 3) and mask.shape[2:] in ((), (3,), (4,)) and mask.size
    if not is_shaped or mask.dtype not in (np.uint8, np.uint16):
        raise EncodeError(
            "a mask is (H, W), (H, W, 3) or (H, W, 4) of 8 or 16 bits, "
            f"got {mask.shape} of {mask.dtype}"
        )
    return write_png(mask, predict=False)
