"""Make edges crisper."""

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


def sharpen(image: BgrImage, *, alpha: float, lightness: float) -> BgrImage:
    """Mix the image with a sharpened one, saturating at black and white.

    The sharpened one is every pixel ``8 + lightness`` times, less its eight neighbours (the
    formula that imgaug documents for ``Sharpen``).

    Args:
        image: ``(H, W, 3)`` uint8, BGR.
        alpha: Share of the sharpened image, in ``[0, 1]``. 0 gives the input.
        lightness: Dimensionless, in ``[0, 10]``: how bright a plain surface comes out of the
            sharpening; 1 leaves it as it is.

    Raises:
        TransformError: If a parameter is out of range, infinite or NaN.
    """
    check_within("the alpha of sharpening", alpha, low=0, high=1)
    check_within("the lightness of sharpening", lightness, low=0, high=10)
    kernel = np.full((3, 3), -alpha, dtype=np.float32)
    kernel[1, 1] = (1 - alpha) + alpha * (8 + lightness)
    return as_image(cv2.filter2D(image, -1, kernel))


@dataclass(frozen=True, slots=True)
class Sharpened(Operation):
    """Sharpened by a drawn strength."""

    alpha: float
    """Share of the sharpened image."""

    lightness: float
    """Dimensionless."""

    def apply(self, image: BgrImage) -> BgrImage:
        """See :func:`sharpen`."""
        return sharpen(image, alpha=self.alpha, lightness=self.lightness)


class Sharpen(Transform):
    """Make edges crisper."""

    operation = Sharpened
    cost_ns_per_pixel = 1.4

    alpha: Annotated[Interval, Bounds(0, 1)] = Field(
        default=(0.2, 0.5), description="Share of the sharpened image: 0 keeps, 1 is strongest."
    )
    lightness: Annotated[Interval, Bounds(0, 10)] = Field(
        default=(0.5, 1.0),
        description="Brightness of the sharpened image, dimensionless: 1 keeps, below 1 darkens.",
    )

    def sample(self, rng: np.random.Generator) -> Sharpened:
        """Draw a strength and a lightness."""
        return Sharpened(alpha=uniform(rng, self.alpha), lightness=uniform(rng, self.lightness))
