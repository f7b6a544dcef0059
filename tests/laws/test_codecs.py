"""Laws of the codecs: what holds for every file, whole or not, and for every picture."""

import os
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from kaleidoscope.codecs import (
    EncodeSpec,
    ImageFormat,
    Reduction,
    decode,
    encode,
    probe,
    reduction_for,
)
from kaleidoscope.errors import CodecError
from kaleidoscope.model import BgrImage
from tests import image_files as files

MAX_PIXELS = 100_000
WHOLE = files.whole_files()

pictures = arrays(
    np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=40).map(lambda s: (*s, 3))
)
sides = st.integers(1, 200)


def read(data: bytes) -> BgrImage:
    return decode(data, probe(data, max_pixels=MAX_PIXELS))


@pytest.mark.parametrize("name", WHOLE)
def test_file_cut_anywhere_fails_or_is_the_same_picture(name: str) -> None:
    data = WHOLE[name]
    whole = read(data)
    step = max(1, len(data) // 400)
    for end in {*range(0, len(data), step), *range(len(data) - 40, len(data))}:
        try:
            picture = read(data[:end])
        except CodecError:
            continue
        # Some containers end with bytes that the first frame does not need.
        assert np.array_equal(picture, whole), f"cut at {end} of {len(data)}"


# The other containers have neither an end marker nor checksums: zeros are pixels there.
@pytest.mark.parametrize("name", [name for name in WHOLE if "JPEG" in name or "PNG" in name])
def test_file_whose_rest_was_never_written_is_not_taken_for_whole(name: str) -> None:
    data = WHOLE[name]
    for end in range(len(data) // 10, len(data) * 9 // 10, max(1, len(data) // 30)):
        with pytest.raises(CodecError):
            read(data[:end] + bytes(len(data) - end))


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(CodecError):
        read(data)


@given(st.sampled_from(sorted(WHOLE)), st.integers(2, 12), st.binary(max_size=300))
def test_random_bytes_behind_a_true_beginning_are_refused(
    name: str, kept: int, rest: bytes
) -> None:
    with pytest.raises(CodecError):
        read(WHOLE[name][:kept] + rest)


@settings(max_examples=1500)
@given(
    st.sampled_from(sorted(WHOLE)),
    st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=8),
    st.sampled_from([64, 2**16]),
)
def test_damaged_file_gives_a_picture_of_the_promised_size_or_a_codec_error(
    name: str, damages: list[tuple[int, int]], reach: int
) -> None:
    data = bytearray(WHOLE[name])
    for place, value in damages:
        data[place % min(len(data), reach)] = value
    try:
        header = probe(bytes(data), max_pixels=MAX_PIXELS)
        picture = decode(bytes(data), header)
    except CodecError:
        return
    assert picture.shape == (header.height, header.width, 3)
    assert picture.dtype == np.uint8


@given(pictures)
def test_lossless_formats_keep_every_pixel(picture: BgrImage) -> None:
    for spec in [
        EncodeSpec("png"),
        EncodeSpec("webp", lossless=True),
        EncodeSpec("bmp"),
        EncodeSpec("tiff"),
    ]:
        assert np.array_equal(read(encode(picture, spec)), picture), spec


@given(
    pictures,
    st.sampled_from(["jpeg", "png", "webp", "bmp", "tiff"]),
    st.integers(1, 100),
    st.sampled_from(["4:2:0", "4:4:4"]),
)
def test_same_pixels_and_parameters_give_the_same_bytes(
    picture: BgrImage,
    format: ImageFormat,  # noqa: A002
    quality: int,
    subsampling: Literal["4:2:0", "4:4:4"],
) -> None:
    spec = EncodeSpec(format, quality, subsampling)
    before = picture.copy()
    assert encode(picture, spec) == encode(picture.copy(), spec)
    assert np.array_equal(picture, before)


@given(pictures)
def test_view_is_encoded_like_its_copy(picture: BgrImage) -> None:
    view = picture[::-1, ::2]
    assert encode(view, EncodeSpec("png")) == encode(view.copy(), EncodeSpec("png"))


@settings(max_examples=30)
@given(sides, sides, st.sampled_from([1, 2, 4, 8]), st.sampled_from(["L", "RGB"]))
def test_reduced_sides_are_rounded(
    width: int, height: int, reduction: Reduction, mode: str
) -> None:
    data = files.save(files.pillow(files.picture(width, height)).convert(mode), "JPEG")
    header = probe(data, max_pixels=MAX_PIXELS)
    decoded = decode(data, header, reduction=reduction)
    sides = (max(1, round(side / reduction)) for side in (height, width))
    assert decoded.shape == (*sides, 3)


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 5000))
def test_reduction_is_the_largest_that_leaves_enough(width: int, height: int, target: int) -> None:
    data = files.save(files.pillow(files.picture(1, 1)), "JPEG")
    header = probe(data, max_pixels=1)
    header = type(header)("jpeg", width, height, "RGB", 8)
    left = {n: -(-min(width, height) // n) for n in (1, 2, 4, 8)}
    chosen = reduction_for(header, target)
    assert left[chosen] >= min(target, width, height)
    assert all(left[n] < target for n in left if n > chosen)


@given(arrays(np.uint8, (5, 5, 4)))
def test_compositing_rounds_the_exact_value(
    pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
) -> None:
    alpha = pixels[..., 3:].astype(int)
    # Twice the exact value in 255ths, so that rounding is integer arithmetic; no tie can occur.
    exact = pixels[..., :3] * alpha + 255 * (255 - alpha)
    expected = (2 * exact + 255) // 510
    assert np.array_equal(read(files.opencv(".png", pixels)), expected)


def test_opencv_prints_nothing_of_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    assert os.environ.get("OPENCV_LOG_LEVEL") is None
    for data in [files.png_of_size(8, 8), WHOLE["LZW TIFF"][:-200] + bytes(200)]:
        with pytest.raises(CodecError):
            read(data)
    assert "OpenCV" not in capfd.readouterr().err
