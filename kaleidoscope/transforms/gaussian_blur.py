"""Blur an image evenly, as a lens out of focus does roughly."""

from dataclasses import dataclass
from typing import Annotated

import cv2
import numpy as np
from pydantic import Field

from kaleidoscope.model import BgrImage
from kaleidoscope.transforms._base import (
    Bounds,
    Interval,
    Operation,
    Transform,
    as_image,
    check_within,
    uniform,
)

MAX_SIGMA = 20.0
"""Pixels; the time grows with it."""


def blur_gaussian(image: BgrImage, *, sigma: float) -> BgrImage:
    """Weigh every pixel's neighbours by a Gaussian, cut off at 3 sigma.

    OpenCV does this for uint8 in whole numbers, so every processor gives the same bytes.

    Args:
        image: ``(H, W, 3)`` uint8, BGR.
        sigma: Pixels, in ``[0, 20]``. 0 gives the input.

    Raises:
        TransformError: If ``sigma`` is out of range, infinite or NaN.
    """
    check_within("the sigma of a blur", sigma, low=0, high=MAX_SIGMA)
    # OpenCV takes a sigma of 0 for "not given".
    return as_image(cv2.GaussianBlur(image, (0, 0), sigma)) if sigma else image.copy()


@dataclass(frozen=True, slots=True)
class GaussianBlurred(Operation):
    """Blurred by a drawn sigma."""

    sigma: float
    """Pixels."""

    def apply(self, image: BgrImage) -> BgrImage:
        """See :func:`blur_gaussian`."""
        return blur_gaussian(image, sigma=self.sigma)


class GaussianBlur(Transform):
    """Blur evenly."""

    operation = GaussianBlurred
    cost_ns_per_pixel = 4.1

    sigma_limit: Annotated[Interval, Bounds(0, MAX_SIGMA, "pixels")] = Field(
        default=(0.5, 3.0), description="Standard deviation of the blur in pixels."
    )

    def sample(self, rng: np.random.Generator) -> GaussianBlurred:
        """Draw a sigma."""
        return GaussianBlurred(sigma=uniform(rng, self.sigma_limit))
