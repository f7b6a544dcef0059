"""Multiply by Gaussian noise, as the grain of radar, ultrasound and laser images does."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field

from kaleidoscope.model import BgrImage
from kaleidoscope.seeding import draw_seed
from kaleidoscope.transforms._base import (
    Bounds,
    Interval,
    Operation,
    Transform,
    as_image,
    check_within,
    uniform,
)
from kaleidoscope.transforms._noise_field import RandomBits, normal_quantiles


def multiply_by_gaussian(image: BgrImage, *, std: float, noise_seed: int) -> BgrImage:
    """Multiply every channel of every pixel by an independent Gaussian of mean 1.

    Args:
        image: ``(H, W, 3)`` uint8, BGR.
        std: Standard deviation of the multiplier, dimensionless, in ``[0, 1]``. 0 gives the input.
        noise_seed: In ``[0, 2**53)``; the same seed gives the same noise.

    Raises:
        TransformError: If a parameter is out of range, infinite or NaN.
    """
    check_within("the standard deviation of speckle", std, low=0, high=1)
    values = image.reshape(image.shape[0], -1)
    indices = RandomBits(noise_seed).take_indices(values.shape)
    factors = cv2.LUT(indices, _multipliers(std))
    return as_image(cv2.multiply(values, factors, dtype=cv2.CV_8U)).reshape(image.shape)


@lru_cache(maxsize=8)
def _multipliers(std: float) -> npt.NDArray[np.float32]:
    """Return 65,536 factors, distributed as a Gaussian about 1.

    Floats, since at a small ``std`` whole multiples would be far from what the rounding of the
    product makes of a Gaussian.
    """
    multipliers: npt.NDArray[np.float32] = np.float32(1) + np.float32(std) * normal_quantiles()
    multipliers.flags.writeable = False
    return multipliers


@dataclass(frozen=True, slots=True)
class Speckled(Operation):
    """Speckle of a drawn strength."""

    std: float
    """Standard deviation of the multiplier, dimensionless."""

    noise_seed: int
    """Names the field of noise."""

    def apply(self, image: BgrImage) -> BgrImage:
        """See :func:`multiply_by_gaussian`."""
        return multiply_by_gaussian(image, std=self.std, noise_seed=self.noise_seed)


class Speckle(Transform):
    """Multiply every channel of every pixel by Gaussian noise: the bright parts get grainy."""

    operation = Speckled
    version = 2
    cost_ns_per_pixel = 2.5

    std_range: Annotated[Interval, Bounds(0, 1)] = Field(
        default=(0.01, 0.1),
        description="Standard deviation of the multiplier, dimensionless; its mean is 1.",
    )

    def sample(self, rng: np.random.Generator) -> Speckled:
        """Draw the strength and a seed."""
        return Speckled(std=uniform(rng, self.std_range), noise_seed=draw_seed(rng))
