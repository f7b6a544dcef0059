import numpy as np
import pytest

from kaleidoscope.errors import TransformError
from kaleidoscope.model import BgrImage
from kaleidoscope.transforms.sharpen import Sharpen, Sharpened, sharpen


def test_an_alpha_of_zero_is_the_identity(noise: BgrImage) -> None:
    np.testing.assert_array_equal(sharpen(noise, alpha=0, lightness=5), noise)


def test_a_lightness_of_one_keeps_plain_surfaces() -> None:
    grey = np.full((9, 5, 3), 77, dtype=np.uint8)
    np.testing.assert_array_equal(sharpen(grey, alpha=0.7, lightness=1), grey)


def test_lightness_scales_plain_surfaces() -> None:
    grey = np.full((9, 5, 3), 100, dtype=np.uint8)
    assert (sharpen(grey, alpha=1, lightness=0.5) == 50).all()


def test_both_sides_of_an_edge_overshoot() -> None:
    image = np.full((5, 10, 3), 100, dtype=np.uint8)
    image[:, 5:] = 150
    row = sharpen(image, alpha=0.2, lightness=1)[2, :, 0].tolist()
    # An edge of 50 takes three of the eight neighbours, times alpha.
    assert row == [100] * 4 + [70, 180] + [150] * 4


def test_the_strongest_saturates(noise: BgrImage) -> None:
    result = sharpen(noise, alpha=1, lightness=1).astype(int)
    padded = np.pad(noise.astype(int), ((1, 1), (1, 1), (0, 0)), mode="reflect")
    height, width = noise.shape[:2]
    around = sum(padded[y : y + height, x : x + width] for y in range(3) for x in range(3))
    np.testing.assert_array_equal(result, np.clip(10 * noise.astype(int) - around, 0, 255))


def test_single_values_are_drawn_as_they_are() -> None:
    transform = Sharpen(alpha=(0.3, 0.3), lightness=(0.7, 0.7))
    assert transform.sample(np.random.default_rng(1)) == Sharpened(alpha=0.3, lightness=0.7)


@pytest.mark.parametrize(("alpha", "lightness"), [(-0.1, 1), (1.1, 1), (0.5, -1), (0.5, 11)])
def test_a_parameter_out_of_range_is_refused(
    noise: BgrImage, alpha: float, lightness: float
) -> None:
    with pytest.raises(TransformError, match="sharpening"):
        sharpen(noise, alpha=alpha, lightness=lightness)
