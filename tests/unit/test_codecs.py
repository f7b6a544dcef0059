import io
import pickle
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from kaleidoscope.codecs import (
    MAX_SIDE,
    EncodeSpec,
    ImageFormat,
    ImageHeader,
    Subsampling,
    decode,
    decode_mask,
    encode,
    extension_for,
    probe,
    reduction_for,
)
from kaleidoscope.errors import (
    CodecError,
    CorruptImageError,
    EmptyFileError,
    EncodeError,
    ImageTooLargeError,
    NotAnImageError,
    TruncatedImageError,
    UnsupportedDepthError,
    UnsupportedFormatError,
    ZeroAreaError,
)
from kaleidoscope.model import BgrImage
from tests import image_files as files

MAX_PIXELS = 10_000_000
PHOTO = Path(__file__).parents[2] / "examples/photos/animals/cat.jpg"
FORMATS: tuple[ImageFormat, ...] = ("jpeg", "png", "webp", "bmp", "tiff")


def read(data: bytes) -> tuple[ImageHeader, BgrImage]:
    header = probe(data, max_pixels=MAX_PIXELS)
    return header, decode(data, header)


def distance(one: BgrImage, other: BgrImage) -> int:
    return int(np.abs(one.astype(int) - other).max())


def over_white(image: BgrImage, alpha: float) -> BgrImage:
    composited: BgrImage = np.rint(image * alpha + 255 * (1 - alpha)).astype(np.uint8)
    return composited


# --- what a header says


@pytest.mark.parametrize("name", files.whole_files())
def test_header_and_pixels_are_what_pillow_sees(name: str) -> None:
    data = files.whole_files()[name]
    header, image = read(data)
    with Image.open(io.BytesIO(data)) as seen:
        turned = header.orientation >= 5
        assert (header.width, header.height) == (seen.size[::-1] if turned else seen.size)
        assert header.num_frames == getattr(seen, "n_frames", 1)
        assert header.format == (seen.format or "").lower()
    assert image.shape == (header.height, header.width, 3)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous


@pytest.mark.parametrize(
    ("name", "conversion"),
    [
        ("baseline JPEG", "none"),
        ("grey JPEG", "grey repeated"),
        ("CMYK JPEG", "CMYK to RGB without a profile"),
        ("palette PNG", "palette looked up; alpha over white"),
        ("animated PNG", "first of 2 frames"),
        ("lossless WebP", "alpha over white; orientation 6 applied"),
        ("TIFF", "orientation 3 applied"),
        ("TIFF of pages", "first of 2 frames"),
    ],
)
def test_header_says_in_words_what_decoding_does(name: str, conversion: str) -> None:
    assert probe(files.whole_files()[name], max_pixels=MAX_PIXELS).conversion == conversion


def test_sixteen_bits_are_recorded() -> None:
    data = files.opencv(".png", files.picture().astype(np.uint16) * 257)
    assert probe(data, max_pixels=MAX_PIXELS).conversion == "16 bits scaled to 8"


# --- orientation


def _tiff_turned(image: BgrImage, orientation: int) -> bytes:
    return files.tiff(files.to_rgb(image), files.rgb_tiff_tags(orientation=orientation))


def _tiled_tiff_turned(image: BgrImage, orientation: int) -> bytes:
    tags = files.rgb_tiff_tags(orientation=orientation)
    return files.tiff(files.to_rgb(image), tags, order=">", tile=32)


def _sixteen_bit_tiff_turned(image: BgrImage, orientation: int) -> bytes:
    tags = files.rgb_tiff_tags(bits=16, orientation=orientation)
    return files.tiff(files.to_rgb(image).astype(np.uint16) * 257, tags, tile=32)


def _saved_turned(format: str, **options: object) -> Callable[[BgrImage, int], bytes]:  # noqa: A002
    def save(image: BgrImage, orientation: int) -> bytes:
        return files.save(files.pillow(image), format, exif=files.exif(orientation), **options)

    return save


UPRIGHT: dict[int, Callable[[BgrImage], BgrImage]] = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: image[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize(
    ("write", "tolerance"),
    [
        pytest.param(_saved_turned("JPEG", quality=100, subsampling=0), 4, id="jpeg"),
        pytest.param(_saved_turned("PNG"), 0, id="png"),
        pytest.param(_saved_turned("WEBP", lossless=True), 0, id="webp"),
        pytest.param(_tiff_turned, 0, id="tiff"),
        pytest.param(_tiled_tiff_turned, 0, id="tiled tiff"),
        pytest.param(_sixteen_bit_tiff_turned, 0, id="16-bit tiled tiff"),
    ],
)
def test_orientation_is_applied_once(
    write: Callable[[BgrImage, int], bytes], tolerance: int, orientation: int
) -> None:
    stored = files.picture(61, 45)
    header, image = read(write(stored, orientation))
    expected = UPRIGHT[orientation](stored)
    assert header.orientation == orientation
    assert (header.height, header.width) == expected.shape[:2]
    assert image.shape == expected.shape
    assert distance(image, expected) <= tolerance


def test_reduced_decoding_turns_too() -> None:
    stored = files.picture(80, 48)
    data = files.save(files.pillow(stored), "JPEG", quality=95, exif=files.exif(6))
    image = decode(data, probe(data, max_pixels=MAX_PIXELS), reduction=2)
    assert image.shape == (40, 24, 3)
    assert distance(image, np.rot90(cv2.resize(stored, (40, 24)), -1).astype(np.uint8)) < 12


@pytest.mark.parametrize("orientation", range(1, 9))
def test_reduced_decoding_drops_what_stands_for_nothing_on_its_own_side(orientation: int) -> None:
    # 161 / 8 is 20.1, so the last of 21 stored columns stands for a single one, which is white.
    stored = np.zeros((97, 161, 3), np.uint8)
    stored[96:], stored[:, 160:] = 255, 255
    exif = files.exif(orientation)
    data = files.save(files.pillow(stored), "JPEG", quality=95, exif=exif)
    image = decode(data, probe(data, max_pixels=MAX_PIXELS), reduction=8)
    assert sorted(image.shape[:2]) == [12, 20]
    assert image.max() < 40


@pytest.mark.parametrize(
    "block", [b"Exif\0\0", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0junk"]
)
def test_damaged_exif_counts_as_upright(block: bytes) -> None:
    data = files.save(files.pillow(files.picture()), "JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block
    assert read(data[:2] + segment + data[2:])[0].orientation == 1


def test_first_of_two_exif_blocks_counts() -> None:
    first = files.save(files.pillow(files.picture()), "JPEG", exif=files.exif(6))
    block = b"Exif\0\0" + files.exif(3).tobytes().removeprefix(b"Exif\0\0")
    at = first.index(b"\xff\xdb")
    second = b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block
    assert read(first[:at] + second + first[at:])[0].orientation == 6


def test_exif_of_a_webp_may_begin_as_in_a_jpeg() -> None:
    data = files.whole_files()["lossless WebP"]
    at = data.index(b"EXIF")
    (length,) = struct.unpack_from("<I", data, at + 4)
    block = b"Exif\0\0" + data[at + 8 : at + 8 + length].removeprefix(b"Exif\0\0")
    chunk = b"EXIF" + struct.pack("<I", len(block)) + block + b"\0" * (len(block) % 2)
    body = data[8:at] + chunk
    assert read(b"RIFF" + struct.pack("<I", len(body)) + body)[0].orientation == 6


def test_tiff_directories_that_form_a_ring_are_counted_once() -> None:
    data = bytearray(files.tiff(files.to_rgb(files.picture()), files.rgb_tiff_tags()))
    (first,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, first)
    struct.pack_into("<I", data, first + 2 + 12 * count, first)
    assert probe(bytes(data), max_pixels=MAX_PIXELS).num_frames == 1


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_impossible_orientation_counts_as_upright(orientation: int) -> None:
    assert read(_tiff_turned(files.picture(), orientation))[0].orientation == 1


# --- channels


@pytest.mark.parametrize("mode", ["L", "1"])
@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF"])
def test_grey_is_repeated(mode: str, format: str) -> None:  # noqa: A002
    data = files.save(files.pillow(files.picture()).convert(mode), format)
    assert distance(read(data)[1], files.open_with_pillow(data)) == 0


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF"])
def test_palette_is_looked_up(format: str) -> None:  # noqa: A002
    data = files.save(files.pillow(files.picture()).convert("P"), format)
    assert distance(read(data)[1], files.open_with_pillow(data)) == 0


@pytest.mark.parametrize(
    ("format", "mode", "options"),
    [
        ("PNG", "RGBA", {}),
        ("PNG", "LA", {}),
        ("WEBP", "RGBA", {"lossless": True, "exact": True}),
        ("TIFF", "RGBA", {}),
    ],
)
@pytest.mark.parametrize("alpha", [0, 1, 128, 255])
def test_alpha_is_composited_over_white(
    format: str,  # noqa: A002
    mode: str,
    options: dict[str, bool],
    alpha: int,
) -> None:
    image = files.pillow(files.picture()).convert(mode)
    image.putalpha(alpha)
    data = files.save(image, format, **options)
    grey_or_color = np.asarray(image.convert("RGBA"))[..., 2::-1]
    # libtiff multiplies the alpha in and rounds before it can be composited.
    tolerance = 1 if format == "TIFF" else 0
    assert distance(read(data)[1], over_white(grey_or_color, alpha / 255)) <= tolerance


def test_alpha_of_a_bitmap_is_composited_over_white() -> None:
    image = files.picture()
    data = files.opencv(".bmp", np.dstack([image, np.full(image.shape[:2], 51, np.uint8)]))
    assert distance(read(data)[1], over_white(image, 0.2)) == 0


def test_transparent_palette_entries_become_white() -> None:
    image = files.pillow(files.picture()).convert("P")
    data = files.save(image, "PNG", transparency=image.getpixel((0, 0)))
    _, decoded = read(data)
    expected = Image.new("RGBA", image.size, "white")
    seen = Image.open(io.BytesIO(data)).convert("RGBA")
    expected.alpha_composite(seen)
    assert decoded[0, 0].tolist() == [255, 255, 255]
    assert distance(decoded, np.asarray(expected)[..., 2::-1]) == 0


def test_transparent_color_of_a_png_becomes_white() -> None:
    rgb = files.pillow(files.picture())
    corner = rgb.getpixel((5, 7))
    _, image = read(files.save(rgb, "PNG", transparency=corner))
    assert image[7, 5].tolist() == [255, 255, 255]


def test_transparent_grey_of_a_png_stays_grey() -> None:
    grey = files.pillow(files.picture()).convert("L")
    header, image = read(files.save(grey, "PNG", transparency=grey.getpixel((5, 7))))
    assert header.alpha == "none"
    assert distance(image[..., 0], np.asarray(grey)) == 0


@pytest.mark.parametrize(("extra", "premultiplied"), [(1, True), (2, False)])
@pytest.mark.parametrize("bits", [8, 16])
def test_alpha_of_a_tiff_is_multiplied_in_once(
    bits: int, extra: int, *, premultiplied: bool
) -> None:
    image = files.picture()
    alpha = np.full(image.shape[:2], 51, np.uint8)
    color = np.rint(image * 0.2).astype(np.uint8) if premultiplied else image
    pixels = np.dstack([files.to_rgb(color), alpha])
    stored = pixels.astype(np.uint16) * 257 if bits == 16 else pixels
    tags = {258: ("H", [bits] * 4), 262: ("H", [2]), 277: ("H", [4]), 338: ("H", [extra])}
    assert distance(read(files.tiff(stored, tags))[1], over_white(image, 0.2)) <= 1


@pytest.mark.parametrize("bits", [8, 16])
def test_fourth_channel_without_a_meaning_is_dropped(bits: int) -> None:
    image = files.picture()
    pixels = np.dstack([files.to_rgb(image), image[..., 0]])
    stored = pixels.astype(np.uint16) * 257 if bits == 16 else pixels
    tags = {258: ("H", [bits] * 4), 262: ("H", [2]), 277: ("H", [4]), 338: ("H", [0])}
    header, decoded = read(files.tiff(stored, tags))
    assert header.conversion.startswith("fourth channel dropped")
    assert distance(decoded, image) == 0


@pytest.mark.parametrize(
    ("extension", "channels"), [(".png", 1), (".png", 3), (".png", 4), (".tiff", 1), (".tiff", 3)]
)
def test_sixteen_bits_are_divided_by_257_and_rounded(extension: str, channels: int) -> None:
    samples = np.random.default_rng(1).integers(0, 2**16, (9, 7, channels), dtype=np.uint16)
    samples[0, :3] = [[65535], [0], [128]]
    if channels == 4:
        samples[..., 3] = 65535
    _, image = read(files.opencv(extension, samples))
    assert distance(image, np.rint(samples[..., :3] / 257).astype(np.uint8)) == 0


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("is_white_zero", [False, True])
def test_grey_tiff_may_count_from_white(*, is_white_zero: bool, bits: int) -> None:
    grey = files.picture()[..., 0]
    photometric = 0 if is_white_zero else 1
    samples = 255 - grey if is_white_zero else grey
    tags = {258: ("H", [bits]), 262: ("H", [photometric]), 277: ("H", [1])}
    data = files.tiff(samples if bits == 8 else samples.astype(np.uint16) * 257, tags)
    header, image = read(data)
    assert distance(image[..., 0], grey) == 0
    assert ("inverted" in header.conversion) == is_white_zero
    if is_white_zero:
        with pytest.raises(UnsupportedFormatError, match="white is zero"):
            decode_mask(data, max_pixels=MAX_PIXELS)


def test_cmyk_jpegs_agree_with_pillow() -> None:
    data = files.save(files.pillow(files.picture()).convert("CMYK"), "JPEG", quality=95)
    marker = data.index(b"Adobe")
    as_ycck = data[: marker + 11] + b"\2" + data[marker + 12 :]
    without_adobe = data[: marker - 4] + data[marker + 12 :]
    for stored, mode in [(data, "CMYK"), (as_ycck, "YCCK"), (without_adobe, "CMYK")]:
        header, image = read(stored)
        assert header.mode == mode
        assert distance(image, files.open_with_pillow(stored)) <= 2


def test_cmyk_tiff_agrees_with_pillow() -> None:
    data = files.save(files.pillow(files.picture()).convert("CMYK"), "TIFF")
    assert distance(read(data)[1], files.open_with_pillow(data)) <= 2


def test_color_jpeg_agrees_with_pillow() -> None:
    data = files.save(files.pillow(files.picture()), "JPEG", quality=90)
    assert distance(read(data)[1], files.open_with_pillow(data)) <= 2


@pytest.mark.parametrize("name", ["animated PNG", "animated WebP", "TIFF of pages"])
def test_first_frame_is_the_one_decoded(name: str) -> None:
    difference = np.abs(read(files.whole_files()[name])[1].astype(int) - files.picture())
    assert difference.mean() <= (3 if "WebP" in name else 0)


# --- what is refused


def _samples(bits: int, kind: int, samples: int = 1, photometric: int = 1) -> files.TiffTags:
    return {
        258: ("H", [bits] * samples),
        262: ("H", [photometric]),
        277: ("H", [samples]),
        339: ("H", [kind] * samples),
    }


def _jpeg_of(precision: int = 8, height: int = 8, width: int = 8, frame: int = 0xC0) -> bytes:
    data = files.save(Image.new("L", (8, 8)), "JPEG")
    at = data.index(b"\xff\xc0")
    return (
        data[: at + 1] + struct.pack(">BHBHH", frame, 11, precision, height, width) + data[at + 9 :]
    )


ZEROS = np.zeros((4, 4), np.uint8)
BAD: dict[str, tuple[bytes, type[CodecError]]] = {
    "nothing": (b"", EmptyFileError),
    "a byte": (b"\xff", NotAnImageError),
    "text": (b"BMW drivers keep their notes in a file of this name", NotAnImageError),
    "HTML": (b"<!DOCTYPE html><html><body>404</body></html>", NotAnImageError),
    "zeros": (bytes(1000), NotAnImageError),
    "a WAV": (b"RIFF\x24\0\0\0WAVEfmt " + bytes(32), NotAnImageError),
    "an MP4": (b"\0\0\0\x18ftypisom" + bytes(16), NotAnImageError),
    "a GIF": (files.save(Image.new("P", (4, 4)), "GIF"), UnsupportedFormatError),
    "an SVG": (b'<?xml version="1.0"?><svg xmlns="..."/>', UnsupportedFormatError),
    "a HEIC": (b"\0\0\0\x18ftypheic" + bytes(16), UnsupportedFormatError),
    "an AVIF": (b"\0\0\0\x18ftypavif" + bytes(16), UnsupportedFormatError),
    "a PDF": (b"%PDF-1.7\n", UnsupportedFormatError),
    "no pixels, PNG": (files.png_of_size(0, 7), ZeroAreaError),
    "no pixels, JPEG": (_jpeg_of(height=0), ZeroAreaError),
    "no pixels, BMP": (
        b"BM" + struct.pack("<IIIIiiHHIIIIII", 54, 0, 54, 40, 0, 9, 1, 24, 0, 0, 0, 0, 0, 0),
        ZeroAreaError,
    ),
    "60000 x 60000, PNG": (files.png_of_size(60000, 60000), ImageTooLargeError),
    "2**31 x 2**31, PNG": (files.png_of_size(2**31 - 1, 2**31 - 1), ImageTooLargeError),
    "a long row, PNG": (files.png_of_size(MAX_SIDE + 1, 1), ImageTooLargeError),
    "60000 x 60000, JPEG": (_jpeg_of(height=60000, width=60000), ImageTooLargeError),
    "16384 x 16384, WebP": (
        b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\x3f\0\xff\x3f\0",
        ImageTooLargeError,
    ),
    "only a start, JPEG": (b"\xff\xd8\xff\xe0", TruncatedImageError),
    "no picture, JPEG": (b"\xff\xd8\xff\xd9", CorruptImageError),
    "12 bits, JPEG": (_jpeg_of(precision=12), UnsupportedDepthError),
    "lossless, JPEG": (_jpeg_of(frame=0xC3), UnsupportedDepthError),
    "no header first, PNG": (
        b"\x89PNG\r\n\x1a\n" + files.png_chunk(b"IEND", b""),
        CorruptImageError,
    ),
    "float, TIFF": (files.tiff(ZEROS.astype(np.float32), _samples(32, 3)), UnsupportedDepthError),
    "color float, TIFF": (
        files.tiff(np.zeros((4, 4, 3), np.float32), _samples(32, 3, 3, 2)),
        UnsupportedDepthError,
    ),
    "32 bits, TIFF": (files.tiff(ZEROS.astype(np.uint32), _samples(32, 1)), UnsupportedDepthError),
    "signed, TIFF": (files.tiff(ZEROS.astype(np.int16), _samples(16, 2)), UnsupportedDepthError),
    "4 bits, TIFF": (files.tiff(ZEROS, _samples(4, 1)), UnsupportedDepthError),
    "grey and alpha, TIFF": (
        files.save(Image.new("LA", (4, 4)), "TIFF"),
        UnsupportedDepthError,
    ),
    "planes of 16 bits, TIFF": (
        files.tiff(
            np.zeros((4, 4, 3), np.uint16), {**files.rgb_tiff_tags(bits=16), 284: ("H", [2])}
        ),
        UnsupportedDepthError,
    ),
    "Lab, TIFF": (files.save(Image.new("LAB", (4, 4)), "TIFF"), UnsupportedDepthError),
    "Zstandard, TIFF": (
        files.tiff(ZEROS, {**_samples(8, 1), 259: ("H", [50000])}),
        UnsupportedFormatError,
    ),
    "no directory, TIFF": (b"II*\0\0\0\0\0", CorruptImageError),
    "no size, TIFF": (b"II*\0\x08\0\0\0\0\0\0\0\0\0", CorruptImageError),
    "a directory beyond the end, TIFF": (b"II*\0\xff\xff\0\0", TruncatedImageError),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_file_is_refused_with_its_reason_and_without_memory(name: str) -> None:
    data, error = BAD[name]
    tracemalloc.start()
    try:
        with pytest.raises(error) as caught:
            probe(data, max_pixels=MAX_PIXELS)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert type(caught.value) is error
    assert peak < 100_000


def test_reasons_differ_and_survive_a_process_boundary() -> None:
    errors = {error for _, error in BAD.values()} | {EncodeError}
    assert len({error.reason for error in errors}) == len(errors)
    for error in errors:
        copy = pickle.loads(pickle.dumps(error("why")))  # noqa: S301
        assert (type(copy), str(copy), copy.retryable) == (error, "why", False)


def test_pixel_limit_is_inclusive() -> None:
    data = files.opencv(".png", files.picture(10, 10))
    assert probe(data, max_pixels=100).width == 10
    with pytest.raises(ImageTooLargeError, match="10 x 10"):
        probe(data, max_pixels=99)


def test_pixels_that_are_missing_behind_a_whole_header_are_corrupt() -> None:
    data = files.png_of_size(8, 8)
    with pytest.raises(CorruptImageError):
        decode(data, probe(data, max_pixels=MAX_PIXELS))


def test_header_of_another_file_is_noticed() -> None:
    header = probe(files.opencv(".png", files.picture(10, 10)), max_pixels=MAX_PIXELS)
    with pytest.raises(CorruptImageError, match="promises"):
        decode(files.opencv(".png", files.picture(10, 11)), header)


@pytest.mark.parametrize("name", files.whole_files())
def test_half_a_file_is_truncated(name: str) -> None:
    data = files.whole_files()[name]
    with pytest.raises(TruncatedImageError):
        probe(data[: len(data) // 2], max_pixels=MAX_PIXELS)


@pytest.mark.parametrize("name", ["progressive JPEG", "JPEG with restarts"])
def test_garbage_behind_a_jpeg_is_ignored(name: str) -> None:
    data = files.whole_files()[name]
    assert distance(read(data + b"camera notes \xff\xd8\xff")[1], read(data)[1]) == 0


def test_jpeg_filled_up_with_zeros_is_truncated() -> None:
    data = files.whole_files()["baseline JPEG"]
    with pytest.raises(TruncatedImageError):
        probe(data[: len(data) // 2] + bytes(len(data) // 2), max_pixels=MAX_PIXELS)


def test_webp_chunk_that_reaches_beyond_its_file_is_truncated() -> None:
    data = bytearray(files.whole_files()["lossy WebP"])
    struct.pack_into("<I", data, 16, len(data))
    with pytest.raises(TruncatedImageError, match="chunk"):
        probe(bytes(data), max_pixels=MAX_PIXELS)


def test_end_marker_in_a_comment_between_scans_is_not_the_end() -> None:
    data = files.whole_files()["progressive JPEG"]
    second_scan = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    comment = b"\xff\xfe\0\x20 the end marker is \xff\xd9"
    with pytest.raises(TruncatedImageError):
        probe(data[:second_scan] + comment, max_pixels=MAX_PIXELS)


def test_thumbnail_does_not_stand_in_for_the_end_of_its_jpeg() -> None:
    data = files.whole_files()["JPEG with a thumbnail"]
    end_of_thumbnail = data.index(b"\xff\xd9") + 2
    assert end_of_thumbnail < len(data)
    with pytest.raises(TruncatedImageError):
        probe(data[:end_of_thumbnail], max_pixels=MAX_PIXELS)


# --- reduction


@pytest.mark.parametrize(
    ("short_side", "target", "reduction"),
    [(3200, 400, 8), (3199, 400, 8), (3192, 400, 4), (800, 400, 2), (798, 400, 1), (10, 400, 1)],
)
def test_reduction_is_the_largest_that_leaves_enough(
    short_side: int, target: int, reduction: int
) -> None:
    header = ImageHeader("jpeg", short_side, 4 * short_side, "RGB", 8)
    assert reduction_for(header, target) == reduction


def test_only_jpeg_is_reduced() -> None:
    data = files.opencv(".png", files.picture())
    header = probe(data, max_pixels=MAX_PIXELS)
    assert reduction_for(header, 1) == 1
    with pytest.raises(CodecError, match="reduced"):
        decode(data, header, reduction=2)


# --- encoding


@pytest.mark.parametrize("format", FORMATS)
def test_encoded_image_has_the_format_and_size(format: ImageFormat) -> None:  # noqa: A002
    header, image = read(encode(files.picture(), EncodeSpec(format)))
    assert (header.format, header.width, header.height) == (format, 64, 48)
    assert distance(image, files.picture()) <= (20 if format in {"jpeg", "webp"} else 0)


@pytest.mark.parametrize("format", FORMATS)
def test_listing_by_extension_finds_what_is_written(format: ImageFormat) -> None:  # noqa: A002
    assert extension_for(format) in {"jpg", "png", "webp", "bmp", "tiff"}


@pytest.mark.parametrize(("subsampling", "factors"), [("4:2:0", b"\x22"), ("4:4:4", b"\x11")])
def test_chroma_has_the_resolution_asked_for(subsampling: Subsampling, factors: bytes) -> None:
    data = encode(files.picture(), EncodeSpec(subsampling=subsampling))
    frame = data.index(b"\xff\xc0")
    assert data[frame + 11 : frame + 12] == factors


def test_quality_trades_size() -> None:
    _, image = read(PHOTO.read_bytes())

    def size(spec: EncodeSpec) -> int:
        return len(encode(image, spec))

    assert size(EncodeSpec(quality=10)) < size(EncodeSpec(quality=95))
    assert size(EncodeSpec("webp", quality=10)) < size(EncodeSpec("webp", quality=95))
    assert size(EncodeSpec("tiff")) < size(EncodeSpec("bmp"))


def test_png_is_read_by_others() -> None:
    # Pillow checks the sums of the chunks, which OpenCV does not.
    with Image.open(io.BytesIO(encode(files.picture(), EncodeSpec("png")))) as picture:
        assert picture.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(picture)[..., ::-1], files.picture())


def test_png_is_as_small_as_that_of_opencv() -> None:
    # Whether photographs or flat colours; OpenCV's defaults take several times as long.
    _, photo = read(PHOTO.read_bytes())
    flat = np.full((400, 400, 3), 255, np.uint8)
    flat[90:200, 90:300] = (9, 9, 200)
    for image, most in ((photo, 1.0), (flat, 2.0)):
        by_opencv = len(cv2.imencode(".png", image)[1])
        assert len(encode(image, EncodeSpec("png"))) < most * by_opencv


@pytest.mark.parametrize(
    ("format", "side"), [("jpeg", 65500), ("webp", 16383), ("png", 70000), ("tiff", 70000)]
)
def test_longest_side_of_a_format_can_be_written(format: ImageFormat, side: int) -> None:  # noqa: A002
    assert read(encode(np.zeros((1, side, 3), np.uint8), EncodeSpec(format)))[0].width == side


@pytest.mark.parametrize(("format", "side"), [("jpeg", 65501), ("webp", 16384)])
def test_longer_side_than_a_format_takes_is_refused(format: ImageFormat, side: int) -> None:  # noqa: A002
    with pytest.raises(EncodeError, match=f"up to {side - 1} pixels, got 1 x {side}"):
        encode(np.zeros((side, 1, 3), np.uint8), EncodeSpec(format))


@pytest.mark.parametrize(
    "fields",
    [
        {"quality": 0},
        {"quality": 101},
        {"format": "gif"},
        {"subsampling": "4:1:1"},
    ],
)
def test_parameters_out_of_range_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(EncodeError, match=str(next(iter(fields.values())))):
        EncodeSpec(**fields)


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 4), (0, 4, 3)])
def test_only_color_pixels_are_encoded(shape: tuple[int, ...]) -> None:
    with pytest.raises(EncodeError, match="can be encoded"):
        encode(np.zeros(shape, np.uint8), EncodeSpec())
