import numpy as np
import pytest

from kaleidoscope.errors import TransformError
from kaleidoscope.model import BgrImage
from kaleidoscope.transforms.image_compression import (
    ImageCompression,
    JpegCompressed,
    compress_jpeg,
)


def error_of(image: BgrImage, quality: int) -> float:
    return float(np.abs(compress_jpeg(image, quality=quality) - image.astype(float)).mean())


def test_a_plain_surface_survives_the_best_quality() -> None:
    grey = np.full((17, 9, 3), 77, dtype=np.uint8)
    np.testing.assert_array_equal(compress_jpeg(grey, quality=100), grey)


def test_a_lower_quality_leaves_more_artefacts(scene: BgrImage) -> None:
    errors = [error_of(scene, quality) for quality in (95, 60, 20, 3)]
    assert errors == sorted(errors)
    assert errors[0] < 5 < errors[-1]


def test_qualities_are_whole_numbers_of_the_range() -> None:
    rng = np.random.default_rng(1)
    drawn = {ImageCompression(quality_range=(50, 52)).sample(rng) for _ in range(50)}
    assert drawn == {JpegCompressed(50), JpegCompressed(51), JpegCompressed(52)}


@pytest.mark.parametrize("quality", [0, 101])
def test_a_quality_out_of_range_is_refused(noise: BgrImage, quality: int) -> None:
    with pytest.raises(TransformError, match="quality"):
        compress_jpeg(noise, quality=quality)


def test_an_image_too_long_for_jpeg_is_refused() -> None:
    with pytest.raises(TransformError, match="side"):
        compress_jpeg(np.zeros((1, 65_501, 3), dtype=np.uint8), quality=50)
    assert compress_jpeg(np.zeros((1, 65_500, 3), dtype=np.uint8), quality=50).shape[1] == 65_500
