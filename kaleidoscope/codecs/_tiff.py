"""The first directory of a TIFF, and whether its pixels are all there (TIFF 6.0)."""

import struct

from kaleidoscope.codecs._header import Alpha, ImageHeader, Mode
from kaleidoscope.codecs._ifd import ORIENTATION, Directory, DirectoryReader, orientation_in
from kaleidoscope.errors import (
    CorruptImageError,
    TruncatedImageError,
    UnsupportedDepthError,
    UnsupportedFormatError,
)

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_SAMPLES, _PLANAR, _EXTRA, _SAMPLE_FORMAT = 277, 284, 338, 339
_STRIPS, _STRIP_SIZES, _TILES, _TILE_SIZES = 273, 279, 324, 325
_WANTED = frozenset(
    {_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _PLANAR, _EXTRA}
    | {_SAMPLE_FORMAT, _STRIPS, _STRIP_SIZES, _TILES, _TILE_SIZES, ORIENTATION}
)
# None, the three CCITT, LZW, JPEG, both Deflates, PackBits: what OpenCV's libtiff is built with.
_READ_COMPRESSIONS = frozenset({1, 2, 3, 4, 5, 7, 8, 32946, 32773})
# Photometric interpretation and samples to mode: grey (white or black is zero), RGB, palette,
# CMYK, YCbCr. Grey with alpha is missing since OpenCV loses the alpha.
_MODES: dict[tuple[int, int], Mode] = {
    (0, 1): "L",
    (1, 1): "L",
    (2, 3): "RGB",
    (2, 4): "RGBX",
    (3, 1): "P",
    (5, 4): "CMYK",
    (6, 3): "RGB",
}
_READ_BITS: dict[Mode, tuple[int, ...]] = {
    "L": (1, 8, 16),
    "RGB": (8, 16),
    "RGBX": (8, 16),
    "P": (1, 4, 8),
    "CMYK": (8,),
}
_WHITE_IS_ZERO = 0
_ASSOCIATED, _UNASSOCIATED = 1, 2
_SEPARATE_PLANES = 2


def read_tiff(data: bytes) -> ImageHeader:
    """Read the first directory of a TIFF or BigTIFF whose pixels are all there.

    Raises:
        TruncatedImageError: If a strip or tile lies beyond the end.
        UnsupportedFormatError: If it has a compression that is not read.
        UnsupportedDepthError: If it has samples or channels that are not read.
        CorruptImageError: If it has no directory, no size or no pixels.
        struct.error: If it ends inside a directory.
    """
    reader, directory = _first_directory(data)
    tags = directory.tags
    if _WIDTH not in tags or _HEIGHT not in tags:
        raise CorruptImageError("the TIFF's first directory states no width or height")
    _check_whole(data, directory)
    mode, bits, alpha = _read_samples(directory)
    return ImageHeader.from_stored(
        "tiff",
        (tags[_WIDTH][0], tags[_HEIGHT][0]),
        mode=mode,
        bits=bits,
        alpha=alpha,
        orientation=orientation_in(directory),
        num_frames=reader.count(),
        is_white_zero=tags.get(_PHOTOMETRIC, (-1,))[0] == _WHITE_IS_ZERO,
    )


def set_upright(data: bytes) -> bytes:
    """Return a TIFF whose first directory says that it is upright.

    OpenCV 5.0 turns a TIFF whatever its flags say, and turns a tiled one wrongly for the
    orientations 2, 3, 6 and 7. So it gets the orientation to see that it may leave alone.

    Args:
        data: A TIFF that :func:`read_tiff` has read.
    """
    _, directory = _first_directory(data)
    if ORIENTATION not in directory.positions:
        return data
    position, layout = directory.positions[ORIENTATION]
    patched = bytearray(data)
    struct.pack_into(layout, patched, position, 1)
    return bytes(patched)


def _first_directory(data: bytes) -> tuple[DirectoryReader, Directory]:
    reader = DirectoryReader.of(data)
    if reader is None or not reader.first_offset:
        raise CorruptImageError("the TIFF has no directory")
    return reader, reader.read(reader.first_offset, _WANTED)


def _check_whole(data: bytes, directory: Directory) -> None:
    tags = directory.tags
    offsets = tags.get(_TILES) or tags.get(_STRIPS) or ()
    sizes = tags.get(_TILE_SIZES) or tags.get(_STRIP_SIZES) or ()
    if not offsets or len(offsets) != len(sizes):
        raise CorruptImageError(f"the TIFF has {len(offsets)} strips or tiles, {len(sizes)} sizes")
    end = max(offset + size for offset, size in zip(offsets, sizes, strict=True))
    if end > len(data):
        raise TruncatedImageError(f"the TIFF needs {end} bytes and has {len(data)}")


def _read_samples(directory: Directory) -> tuple[Mode, int, Alpha]:
    """Return mode, bits per sample and alpha of an image that is read.

    Raises:
        UnsupportedFormatError: If it has a compression that is not read.
        UnsupportedDepthError: If it has samples or channels that are not read.
    """
    tags = directory.tags
    compression = tags.get(_COMPRESSION, (1,))[0]
    if compression not in _READ_COMPRESSIONS:
        raise UnsupportedFormatError(f"TIFF compression {compression} is not read")
    depths, formats = set(tags.get(_BITS, (1,))), set(tags.get(_SAMPLE_FORMAT, (1,)))
    photometric, samples = tags.get(_PHOTOMETRIC, (-1,))[0], tags.get(_SAMPLES, (1,))[0]
    mode, bits = _MODES.get((photometric, samples)), max(depths)
    is_separate = tags.get(_PLANAR, (1,))[0] == _SEPARATE_PLANES
    if (
        mode is None
        or depths - set(_READ_BITS[mode])
        or len(depths) > 1
        or formats != {1}
        # OpenCV 5.0 repeats the first plane of these.
        or (is_separate and bits == 16)  # noqa: PLR2004
    ):
        raise UnsupportedDepthError(
            f"the TIFF has {samples} samples of {sorted(depths)} bits, photometric interpretation "
            f"{photometric}, sample format {sorted(formats)}; unsigned 8 or 16-bit grey and RGB "
            "and 8-bit palettes and CMYK are read"
        )
    extra = tags.get(_EXTRA, (0,))[0]
    if mode != "RGBX" or extra not in {_ASSOCIATED, _UNASSOCIATED}:
        return mode, bits, "none"
    # libtiff multiplies 8-bit alpha in where it was not; 16 bits come as they are.
    is_straight = extra == _UNASSOCIATED and bits == 16  # noqa: PLR2004
    return "RGBA", bits, "straight" if is_straight else "premultiplied"
