"""Look at an encoded image before any memory is given to its pixels."""

import struct
from collections.abc import Callable

from kaleidoscope.codecs._bmp import HEADER_SIZES, read_bmp
from kaleidoscope.codecs._header import ImageHeader
from kaleidoscope.codecs._jpeg import read_jpeg
from kaleidoscope.codecs._png import read_png
from kaleidoscope.codecs._tiff import read_tiff
from kaleidoscope.codecs._webp import read_webp
from kaleidoscope.errors import (
    EmptyFileError,
    ImageTooLargeError,
    NotAnImageError,
    TruncatedImageError,
    UnsupportedFormatError,
    ZeroAreaError,
)

MAX_SIDE = 2**20
"""Pixels; OpenCV's own limit (CV_IO_MAX_IMAGE_WIDTH)."""

_READERS: dict[bytes, Callable[[bytes], ImageHeader]] = {
    b"\xff\xd8\xff": read_jpeg,
    b"\x89PNG\r\n\x1a\n": read_png,
    b"II*\0": read_tiff,
    b"MM\0*": read_tiff,
    b"II+\0": read_tiff,
    b"MM\0+": read_tiff,
}
# Formats that people do keep images in; the name is for the message.
_UNREAD = {
    b"GIF8": "GIF",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xffO\xffQ": "JPEG 2000",
    b"\xff\n": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"8BPS": "Photoshop",
    b"\0\0\1\0": "icon",
    b"v/1\1": "OpenEXR",
    b"#?RADIANCE": "Radiance HDR",
    b"DDS ": "DDS",
    b"%PDF": "PDF",
    b"qoif": "QOI",
}
_ISO_BRANDS = {b"avif": "AVIF", b"avis": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIF"}


def probe(data: bytes, *, max_pixels: int) -> ImageHeader:
    """Read what an image says of itself, and refuse it now if it cannot be decoded later.

    Nothing is decoded and no memory is taken that depends on the size which the header states.

    Args:
        data: The whole file.
        max_pixels: Refuse images of more pixels, at least 1.

    Raises:
        EmptyFileError: If there are no bytes.
        NotAnImageError: If they are of no known format, whatever the file was called.
        UnsupportedFormatError: If they are of a format that is not read here.
        UnsupportedDepthError: If they hold samples or channels that are not read.
        TruncatedImageError: If the file ends before the image does.
        CorruptImageError: If its structure is damaged.
        ZeroAreaError: If it has no pixels.
        ImageTooLargeError: If it has more than ``max_pixels``, or a side over ``MAX_SIDE``.
    """
    if not data:
        raise EmptyFileError("the file is empty")
    reader = _find_reader(data)
    try:
        header = reader(data)
    except struct.error as error:
        raise TruncatedImageError(f"the image ends inside its headers: {error}") from error
    if not header.width or not header.height:
        raise ZeroAreaError(f"the image has {header.width} x {header.height} pixels")
    if header.width * header.height > max_pixels or max(header.width, header.height) > MAX_SIDE:
        raise ImageTooLargeError(
            f"the image has {header.width} x {header.height} pixels; at most {max_pixels} in all "
            f"and {MAX_SIDE} a side are read, see limits.max_pixels"
        )
    return header


def _find_reader(data: bytes) -> Callable[[bytes], ImageHeader]:
    for magic, reader in _READERS.items():
        if data.startswith(magic):
            return reader
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return read_webp
    # Two letters are too little to go by; text may begin with them.
    if data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in HEADER_SIZES:
        return read_bmp
    name = next((name for magic, name in _UNREAD.items() if data.startswith(magic)), None)
    if data[4:8] == b"ftyp":
        name = _ISO_BRANDS.get(data[8:12])
    if name is None and b"<svg" in data[:1024]:
        name = "SVG"
    if name is not None:
        raise UnsupportedFormatError(f"{name} is not read; JPEG, PNG, WebP, BMP and TIFF are")
    raise NotAnImageError(f"the file begins with {data[:12]!r}, like no image format")
