import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaleidoscope.errors import TransformError
from kaleidoscope.model import BgrImage
from kaleidoscope.transforms.random_resized_crop import (
    RandomResizedCrop,
    crop_and_resize,
    crop_side,
)


def test_the_whole_image_is_the_identity(noise: BgrImage) -> None:
    height, width = noise.shape[:2]
    whole = crop_and_resize(noise, area=1, ratio=width / height, left=0.3, top=0.6)
    np.testing.assert_array_equal(whole, noise)


@pytest.mark.parametrize(("left", "top", "corner"), [(0, 0, (0, 0)), (1, 1, (-1, -1))])
def test_the_positions_0_and_1_are_the_outermost(
    noise: BgrImage, left: float, top: float, corner: tuple[int, int]
) -> None:
    crop = crop_and_resize(noise, area=0.25, ratio=1, left=left, top=top)
    np.testing.assert_array_equal(crop[corner], noise[corner])


def test_a_quarter_of_the_area_shows_everything_twice_as_large() -> None:
    image = np.zeros((40, 40, 3), dtype=np.uint8)
    image[10:20, 10:20] = 255
    crop = crop_and_resize(image, area=0.25, ratio=1, left=0.5, top=0.5)
    # A square of 10 pixels from the crop's corner becomes one of 20.
    assert (crop[:19, :19] == 255).all()
    assert (crop[21:] == 0).all()


def stripes_seen(ratio: float) -> tuple[int, int]:
    """Return how many columns and rows a sixteenth of a chequered image shows."""
    image = np.zeros((40, 40, 3), dtype=np.uint8)
    image[::2, ::2] = image[1::2, 1::2] = 255
    crop = crop_and_resize(image, area=1 / 16, ratio=ratio, left=0, top=0)[..., 0] > 127
    columns, rows = (1 + int(np.diff(line).sum()) for line in (crop[0], crop[:, 0]))
    return columns, rows


@pytest.mark.parametrize(("ratio", "shown"), [(1, (10, 10)), (4, (20, 5)), (0.25, (5, 20))])
def test_the_ratio_is_width_over_height(ratio: float, shown: tuple[int, int]) -> None:
    assert stripes_seen(ratio) == shown


@given(side=st.integers(1, 10_000), wanted=st.floats(0, 1e6))
def test_a_crop_has_a_pixel_and_fits_the_frame(side: int, wanted: float) -> None:
    assert 1 <= crop_side(side, wanted) <= side


@given(seed=st.integers(0, 2**32))
def test_shape_and_area_are_drawn_from_their_ranges(seed: int) -> None:
    crop = RandomResizedCrop(scale=(0.2, 0.3), ratio=(0.5, 2)).sample(np.random.default_rng(seed))
    assert 0.2 <= crop.area <= 0.3
    assert 0.5 <= crop.ratio <= 2
    assert 0 <= crop.left <= 1
    assert 0 <= crop.top <= 1


def test_wide_and_high_shapes_are_equally_likely() -> None:
    rng = np.random.default_rng(1)
    ratios = [RandomResizedCrop(ratio=(0.25, 4)).sample(rng).ratio for _ in range(2000)]
    assert abs(np.mean(np.log(ratios))) < 0.1


@pytest.mark.parametrize("area", [-0.1, 1.1, math.nan])
def test_an_area_out_of_range_is_refused(noise: BgrImage, area: float) -> None:
    with pytest.raises(TransformError, match="area"):
        crop_and_resize(noise, area=area, ratio=1, left=0, top=0)
