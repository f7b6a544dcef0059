"""The headers of a JPEG, and whether it is whole.

A decoder fills what is missing of a JPEG with grey and calls it a warning, so the segments are
walked to the end-of-image marker. Markers are those of ITU-T T.81, table B.1.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from kaleidoscope.codecs._header import ImageHeader, Mode
from kaleidoscope.codecs._ifd import orientation_of
from kaleidoscope.errors import CorruptImageError, TruncatedImageError, UnsupportedDepthError

# What follows 0xFF in entropy-coded data is 0 (a stuffed byte) or a restart marker, 0xD0 to 0xD7;
# 0xFF itself is a fill byte. libjpeg too skips whatever stands before the next marker.
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_START, _END, _SCAN, _TEM = 0xD8, 0xD9, 0xDA, 0x01
_APP1, _APP14 = 0xE1, 0xEE
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_READ_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})
_PROGRESSIVE_FRAMES = frozenset({0xC2, 0xCA})
_EXIF = b"Exif\0\0"
_END_BYTES = b"\xff\xd9"
_MODES: dict[int, Mode] = {1: "L", 3: "RGB", 4: "CMYK"}
_ADOBE_YCCK = 2


@dataclass(frozen=True, slots=True)
class _Frame:
    size: tuple[int, int]
    components: int
    is_progressive: bool


def read_jpeg(data: bytes) -> ImageHeader:
    """Read the headers of a whole JPEG.

    Further pictures behind the end-of-image marker, as in an MPO, are left alone.

    Raises:
        TruncatedImageError: If there is no end-of-image marker.
        UnsupportedDepthError: If it is not an 8-bit image of 1, 3 or 4 components, or if it is
            lossless or hierarchical.
        CorruptImageError: If it holds no frame or no scan.
        struct.error: If it ends inside a length.
    """
    frame, orientation, is_ycck, has_scan = None, None, False, False
    for marker, start, end in _segments(data):
        if marker in _FRAMES and frame is None:
            frame = _read_frame(marker, data[start:end])
        elif marker == _APP1 and orientation is None and data.startswith(_EXIF, start, end):
            orientation = orientation_of(data[start + len(_EXIF) : end])
        elif marker == _APP14 and data.startswith(b"Adobe", start, end):
            is_ycck = data[end - 1] == _ADOBE_YCCK
        elif marker == _SCAN:
            has_scan = True
            if frame and _is_only_scan(frame, data[start]) and data.endswith(_END_BYTES):
                break
    if frame is None or not has_scan:
        raise CorruptImageError("the JPEG has no picture between its start and its end marker")
    mode = "YCCK" if frame.components == 4 and is_ycck else _MODES[frame.components]  # noqa: PLR2004
    return ImageHeader.from_stored("jpeg", frame.size, mode=mode, orientation=orientation or 1)


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the marker, the first byte and the end of each segment, up to the end of the image."""
    position = 2
    while found := _MARKER.search(data, position):
        marker, position = data[found.end() - 1], found.end()
        if marker == _END:
            return
        if marker in {_START, _TEM}:
            continue
        (length,) = struct.unpack_from(">H", data, position)
        if position + length > len(data):
            break
        yield marker, position + 2, position + length
        position += length
    raise TruncatedImageError(f"the JPEG has no end-of-image marker in its {len(data)} bytes")


def _read_frame(marker: int, segment: bytes) -> _Frame:
    bits, height, width, components = struct.unpack_from(">BHHB", segment)
    if marker not in _READ_FRAMES:
        raise UnsupportedDepthError(f"JPEG frames of type 0x{marker:X} are lossless or in layers")
    if bits != 8 or components not in _MODES:  # noqa: PLR2004
        raise UnsupportedDepthError(
            f"the JPEG has {components} components of {bits} bits; 1, 3 or 4 of 8 bits are read"
        )
    return _Frame((width, height), components, is_progressive=marker in _PROGRESSIVE_FRAMES)


def _is_only_scan(frame: _Frame, scan_components: int) -> bool:
    """Say whether nothing but entropy-coded data lies between this scan and the end of the image.

    That data has no end marker in it, so an end marker at the end of the file is the image's own.
    It spares most files the search, which takes half a millisecond for each megabyte.
    """
    return not frame.is_progressive and scan_components == frame.components
