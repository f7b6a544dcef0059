"""The headers of a PNG, and whether it is whole. Chunks are those of the PNG specification."""

import struct
from collections.abc import Iterator

from kaleidoscope.codecs._header import Alpha, ImageHeader, Mode
from kaleidoscope.codecs._ifd import orientation_of
from kaleidoscope.errors import CorruptImageError, TruncatedImageError

_MODES: dict[int, Mode] = {0: "L", 2: "RGB", 3: "P", 4: "LA", 6: "RGBA"}
# OpenCV drops the transparent grey of a greyscale image, so that one has no alpha here.
_KEYED = ("RGB", "P")


def read_png(data: bytes) -> ImageHeader:
    """Read the headers of a whole PNG, animated or not.

    Raises:
        TruncatedImageError: If a chunk is cut or the last one is missing.
        CorruptImageError: If the first chunk is not a header.
        struct.error: If it ends inside a chunk's header.
    """
    chunks = {name: data[start:end] for name, start, end in _chunks(data)}
    if b"IHDR" not in chunks or data[12:16] != b"IHDR":
        raise CorruptImageError("the PNG does not begin with a header chunk")
    width, height, bits, color = struct.unpack_from(">IIBB", chunks[b"IHDR"])
    if color not in _MODES:
        raise CorruptImageError(f"the PNG has colour type {color}, which does not exist")
    mode = _MODES[color]
    is_keyed = mode in _KEYED and b"tRNS" in chunks
    alpha: Alpha = "straight" if is_keyed or mode in {"LA", "RGBA"} else "none"
    (num_frames,) = struct.unpack_from(">I", chunks.get(b"acTL", b"\0\0\0\1"))
    return ImageHeader.from_stored(
        "png",
        (width, height),
        mode=mode,
        bits=bits,
        alpha=alpha,
        orientation=orientation_of(chunks.get(b"eXIf", b"")),
        num_frames=max(num_frames, 1),
    )


_KEPT = frozenset({b"IHDR", b"tRNS", b"acTL", b"eXIf"})


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, first byte and end of the chunks that matter, having seen all to the last."""
    position, total = 8, len(data)
    while position < total:
        length, name = struct.unpack_from(">I4s", data, position)
        end = position + 8 + length
        if end + 4 > total:
            break
        if name in _KEPT:
            yield name, position + 8, end
        if name == b"IEND":
            return
        position = end + 4
    raise TruncatedImageError(f"the PNG has no end chunk in its {total} bytes")
