"""Masks come out of files with the values that were drawn, and go into files unchanged."""

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from kaleidoscope.codecs import decode_mask, encode_mask
from kaleidoscope.errors import CodecError, EncodeError, UnsupportedFormatError
from kaleidoscope.model import Mask
from tests import image_files

MANY = 10**6
shapes = st.tuples(st.integers(1, 40), st.integers(1, 40))
channels = st.sampled_from([(), (3,), (4,)])
masks = st.tuples(shapes, channels, st.sampled_from([np.uint8, np.uint16])).flatmap(
    lambda parts: arrays.arrays(parts[2], (*parts[0], *parts[1]))
)


def decode(data: bytes) -> Mask:
    return decode_mask(data, max_pixels=MANY)


@given(masks)
def test_a_mask_written_and_read_back_has_every_value(mask: Mask) -> None:
    again = decode(encode_mask(mask))
    assert again.dtype == mask.dtype
    np.testing.assert_array_equal(again, mask)


@pytest.mark.parametrize("extension", [".png", ".tif", ".bmp"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_lossless_files_are_read_as_they_are(extension: str, dtype: Any) -> None:
    if (extension, dtype) == (".bmp", np.uint16):
        pytest.skip("BMP has no 16-bit samples")
    mask = np.arange(12 * 9).reshape(9, 12).astype(dtype) * np.array(2, dtype)
    np.testing.assert_array_equal(decode(image_files.opencv(extension, mask)), mask)


@pytest.mark.parametrize("num_colors", [2, 3, 16, 21, 256])
def test_the_values_of_a_palette_are_its_indices(num_colors: int) -> None:
    """As Pillow has them, and though all its colours but one were the same."""
    indices = (np.arange(60 * 50).reshape(50, 60) % num_colors).astype(np.uint8)
    image = Image.new("P", (60, 50))
    image.putdata(indices.ravel().tolist())
    image.putpalette([200, 10, 10] + [7, 7, 7] * (num_colors - 1))
    file = io.BytesIO()
    image.save(file, "png", bits=(num_colors - 1).bit_length(), transparency=0)
    np.testing.assert_array_equal(decode(file.getvalue()), indices)
    np.testing.assert_array_equal(np.asarray(Image.open(file)), indices)


@pytest.mark.parametrize("extension", [".jpg", ".webp"])
def test_a_lossy_file_is_refused(extension: str) -> None:
    data = image_files.opencv(extension, image_files.picture())
    with pytest.raises(UnsupportedFormatError, match="a mask must be lossless, png, tiff, bmp"):
        decode(data)


def test_a_mask_that_a_reader_would_turn_is_refused() -> None:
    data = image_files.save(Image.new("L", (4, 6)), "TIFF", exif=image_files.exif(6))
    with pytest.raises(UnsupportedFormatError, match="stored upright"):
        decode(data)


def test_a_mask_is_not_decoded_beyond_the_limit() -> None:
    with pytest.raises(CodecError, match="pixels"):
        decode_mask(encode_mask(np.zeros((20, 20), np.uint8)), max_pixels=399)


@pytest.mark.parametrize("end", [0, 10, 40, -20])
def test_a_cut_mask_is_an_error(end: int) -> None:
    random: npt.NDArray[np.uint8] = np.random.default_rng(1).integers(0, 255, (30, 30), np.uint8)
    with pytest.raises(CodecError):
        decode(encode_mask(random)[:end])


@pytest.mark.parametrize(
    "mask",
    [np.zeros((4, 4, 7), np.uint8), np.zeros((0, 4), np.uint8), np.zeros((4, 4), np.float32)],
)
def test_what_png_does_not_hold_is_refused(mask: Any) -> None:
    with pytest.raises(EncodeError, match="a mask is"):
        encode_mask(mask)


@given(masks)
def test_others_read_the_same_values(mask: Mask) -> None:
    with Image.open(io.BytesIO(encode_mask(mask))) as image:
        values = np.asarray(image)
    if mask.ndim == 3:
        mask = mask[..., [2, 1, 0, 3][: mask.shape[2]]]  # Pillow has RGB, OpenCV BGR.
    if mask.ndim == 3 and mask.dtype == np.uint16:
        mask = (mask >> 8).astype(np.uint8)  # And Pillow only 8 bits of a colour.
    np.testing.assert_array_equal(values, mask)
