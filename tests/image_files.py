"""Image files of every kind that tests read, made here so that each says what is in it."""

import io
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from kaleidoscope.model import BgrImage

Pixels = npt.NDArray[np.uint8]

_TIFF_TYPES = {"H": 3, "I": 4}
# Tag, struct letter and values; offsets and sizes of strips or tiles are filled in.
TiffTags = Mapping[int, tuple[str, Sequence[int]]]


def picture(width: int = 64, height: int = 48) -> BgrImage:
    """A smooth picture without any symmetry, BGR, so that codecs keep it and turns show."""
    y, x = np.mgrid[0:height, 0:width]
    channels = (255 * x / width, 255 * y / height, 127 + 127 * np.sin((x * 2 + y) / 20))
    return np.dstack(channels).astype(np.uint8)


def to_rgb(image: BgrImage) -> Pixels:
    return np.ascontiguousarray(image[..., ::-1])


def save(image: Image.Image, format: str, **options: Any) -> bytes:  # noqa: A002
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def pillow(image: BgrImage) -> Image.Image:
    return Image.fromarray(to_rgb(image))


def open_with_pillow(data: bytes) -> BgrImage:
    """What Pillow makes of a file, as BGR."""
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    return np.ascontiguousarray(pixels[..., ::-1])


def opencv(extension: str, pixels: npt.NDArray[Any], *parameters: int) -> bytes:
    encoded, data = cv2.imencode(extension, pixels, parameters)
    assert encoded
    return data.tobytes()


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[274] = orientation
    return tags


def png_chunk(name: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )


def png_of_size(width: int, height: int) -> bytes:
    """A whole PNG that only claims its size; its one chunk of pixels is empty."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def tiff(
    pixels: npt.NDArray[Any], tags: TiffTags, *, order: str = "<", tile: int | None = None
) -> bytes:
    """Write an uncompressed TIFF of one strip, or of square tiles, with these tags."""
    height, width = pixels.shape[:2]
    stored = pixels.astype(pixels.dtype.newbyteorder(order))  # type: ignore[arg-type]
    blocks = [stored.tobytes()] if tile is None else _tiles(stored, tile)
    offsets_at = 8
    first = offsets_at + sum(len(block) for block in blocks)
    starts = [offsets_at + sum(len(b) for b in blocks[:i]) for i in range(len(blocks))]
    sizes = [len(block) for block in blocks]
    all_tags = {256: ("I", [width]), 257: ("I", [height]), 259: ("H", [1]), **tags}
    if tile is None:
        all_tags |= {273: ("I", starts), 278: ("I", [height]), 279: ("I", sizes)}
    else:
        all_tags |= {322: ("I", [tile]), 323: ("I", [tile]), 324: ("I", starts), 325: ("I", sizes)}
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", first)
    return head + b"".join(blocks) + _directory(all_tags, first, order)


def _tiles(pixels: npt.NDArray[Any], tile: int) -> list[bytes]:
    height, width = pixels.shape[:2]
    rest = [(0, -height % tile), (0, -width % tile)] + [(0, 0)] * (pixels.ndim - 2)
    padded = np.pad(pixels, rest)
    return [
        padded[y : y + tile, x : x + tile].tobytes()
        for y in range(0, height, tile)
        for x in range(0, width, tile)
    ]


def _directory(tags: TiffTags, start: int, order: str) -> bytes:
    beyond = start + 2 + 12 * len(tags) + 4
    entries, values = b"", b""
    for tag, (letter, numbers) in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(numbers)}{letter}", *numbers)
        if len(packed) > 4:
            place, values = struct.pack(f"{order}I", beyond + len(values)), values + packed
        else:
            place = packed.ljust(4, b"\0")
        kind = _TIFF_TYPES[letter]
        entries += struct.pack(f"{order}HHI", tag, kind, len(numbers)) + place
    return struct.pack(f"{order}H", len(tags)) + entries + struct.pack(f"{order}I", 0) + values


def rgb_tiff_tags(*, bits: int = 8, orientation: int = 1) -> TiffTags:
    return {
        258: ("H", [bits] * 3),
        262: ("H", [2]),
        274: ("H", [orientation]),
        277: ("H", [3]),
    }


def whole_files() -> dict[str, bytes]:
    """One small file of each container and way of compressing."""
    image = picture()
    flat, rgb = picture(33, 17), pillow(image)
    turned = pillow(cv2.flip(image, 1).astype(np.uint8))
    with_alpha = rgb.copy()
    with_alpha.putalpha(128)
    return {
        "baseline JPEG": save(rgb, "JPEG", quality=90),
        "progressive JPEG": save(rgb, "JPEG", quality=90, progressive=True),
        "JPEG with restarts": opencv(".jpg", image, cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
        "JPEG with a thumbnail": _jpeg_with_thumbnail(rgb),
        "CMYK JPEG": save(rgb.convert("CMYK"), "JPEG"),
        "grey JPEG": save(rgb.convert("L"), "JPEG"),
        "PNG": save(rgb, "PNG"),
        "PNG with alpha": save(with_alpha, "PNG"),
        "palette PNG": save(rgb.convert("P"), "PNG", transparency=3),
        "animated PNG": save(rgb, "PNG", save_all=True, append_images=[turned]),
        "lossy WebP": save(rgb, "WEBP", quality=90),
        "lossless WebP": save(with_alpha, "WEBP", lossless=True, exif=exif(6)),
        "animated WebP": save(rgb, "WEBP", save_all=True, append_images=[turned]),
        "BMP": opencv(".bmp", flat),
        "BMP with alpha": opencv(".bmp", np.dstack([flat, flat[..., 0]])),
        "TIFF": tiff(to_rgb(flat), rgb_tiff_tags(orientation=3)),
        "TIFF with its directory first": save(rgb, "TIFF"),
        "LZW TIFF": opencv(".tiff", image),
        "tiled TIFF": tiff(to_rgb(image), rgb_tiff_tags(), tile=32),
        "TIFF of pages": save(rgb, "TIFF", save_all=True, append_images=[turned]),
    }


def _jpeg_with_thumbnail(image: Image.Image) -> bytes:
    """A JPEG whose EXIF block holds another, whole JPEG, as cameras write it."""
    thumbnail = save(image.resize((16, 12)), "JPEG")
    block = exif(6).tobytes() + thumbnail
    return save(image, "JPEG", quality=90, progressive=True, exif=block)
