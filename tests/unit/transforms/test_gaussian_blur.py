import numpy as np
import pytest

from kaleidoscope.errors import TransformError
from kaleidoscope.model import BgrImage
from kaleidoscope.transforms.gaussian_blur import GaussianBlur, GaussianBlurred, blur_gaussian


@pytest.mark.parametrize("sigma", [0, 1e-6])
def test_no_sigma_is_the_identity(noise: BgrImage, sigma: float) -> None:
    np.testing.assert_array_equal(blur_gaussian(noise, sigma=sigma), noise)


def test_a_plain_surface_stays_plain() -> None:
    white = np.full((9, 5, 3), 255, dtype=np.uint8)
    np.testing.assert_array_equal(blur_gaussian(white, sigma=20), white)


def test_an_edge_becomes_as_wide_as_sigma_says() -> None:
    image = np.zeros((41, 81, 3), dtype=np.uint8)
    image[:, 41:] = 255
    blurred = blur_gaussian(image, sigma=3)[20, :, 0] / 255
    # The slope of a blurred edge is the Gaussian itself, so its spread is sigma.
    slope = np.diff(blurred)
    places = np.arange(len(slope)) - 40
    spread = np.sqrt((slope * places**2).sum() - (slope * places).sum() ** 2)
    assert spread == pytest.approx(3, rel=0.05)


def test_a_single_sigma_is_drawn_as_it_is() -> None:
    assert GaussianBlur(sigma_limit=(2, 2)).sample(np.random.default_rng(1)) == GaussianBlurred(2.0)


@pytest.mark.parametrize("sigma", [-1, 21, float("nan")])
def test_a_sigma_out_of_range_is_refused(noise: BgrImage, sigma: float) -> None:
    with pytest.raises(TransformError, match="sigma"):
        blur_gaussian(noise, sigma=sigma)
