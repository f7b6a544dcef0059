"""The headers of a WebP, and whether it is whole (RFC 9649).

Pillow's reader allocates an animation canvas as soon as it opens the file, which would let a
header of a few bytes ask for gigabytes.
"""

import struct
from collections.abc import Iterator

from kaleidoscope.codecs._header import ImageHeader
from kaleidoscope.codecs._ifd import orientation_of
from kaleidoscope.errors import CorruptImageError, TruncatedImageError

_ALPHA_FLAG = 0x10
_LOSSLESS_ALPHA = 1 << 28
_EXIF = b"Exif\0\0"


def read_webp(data: bytes) -> ImageHeader:
    """Read the headers of a whole WebP, animated or not.

    Raises:
        TruncatedImageError: If the file is shorter than it says.
        CorruptImageError: If it does not begin with a picture or an extended header.
        struct.error: If it ends inside a header.
    """
    chunks = list(_chunks(data))
    name, start, end = chunks[0] if chunks else (b"", 0, 0)
    size, has_alpha = _read_canvas(name, data[start:end])
    exif = next((data[start:end] for name, start, end in chunks if name == b"EXIF"), b"")
    return ImageHeader.from_stored(
        "webp",
        size,
        mode="RGBA" if has_alpha else "RGB",
        alpha="straight" if has_alpha else "none",
        orientation=orientation_of(exif.removeprefix(_EXIF)),
        num_frames=max(sum(name == b"ANMF" for name, _, _ in chunks), 1),
    )


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, first byte and end of each chunk."""
    (size,) = struct.unpack_from("<I", data, 4)
    total = 8 + size
    if total > len(data):
        raise TruncatedImageError(f"the WebP says that it has {total} bytes and has {len(data)}")
    position = 12
    while position + 8 <= total:
        name, length = struct.unpack_from("<4sI", data, position)
        end = position + 8 + length
        if end > total:
            raise TruncatedImageError(f"the WebP ends inside its {name!r} chunk")
        yield name, position + 8, end
        position = end + length % 2


def _read_canvas(name: bytes, chunk: bytes) -> tuple[tuple[int, int], bool]:
    """Return width and height in pixels, and whether there may be an alpha channel."""
    if name == b"VP8X":
        flags, wide, wide_high, high, high_high = struct.unpack_from("<B3xHBHB", chunk)
        return (1 + wide + (wide_high << 16), 1 + high + (high_high << 16)), bool(
            flags & _ALPHA_FLAG
        )
    if name == b"VP8L":
        (packed,) = struct.unpack_from("<xI", chunk)
        size = (1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF))
        return size, bool(packed & _LOSSLESS_ALPHA)
    if name == b"VP8 ":
        width, height = struct.unpack_from("<6xHH", chunk)
        return (width & 0x3FFF, height & 0x3FFF), False
    raise CorruptImageError(f"the WebP begins with a {name!r} chunk instead of a picture")
