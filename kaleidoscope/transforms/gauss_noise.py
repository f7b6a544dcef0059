"""Add Gaussian noise, as a sensor does in the dark."""

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

RAISE = 128
"""Grey levels by which noise is raised where it then fits into a byte, for all below a standard
deviation of 30: OpenCV is fastest on bytes without a sign."""


@lru_cache(maxsize=8)
def rounded_gaussian(std: float) -> npt.NDArray[np.uint8 | np.int16]:
    """Return 65,536 grey levels, distributed as a rounded Gaussian.

    Args:
        std: Grey levels, in ``[0, 255]``.

    Returns:
        ``(65536,)``, read-only, ascending: uint8 if raised by :data:`RAISE`, else int16.
    """
    levels = np.rint(normal_quantiles() * np.float32(std))
    table: npt.NDArray[np.uint8 | np.int16]
    table = (levels + RAISE).astype(np.uint8) if levels[-1] < RAISE else levels.astype(np.int16)
    table.flags.writeable = False
    return table


def add_gaussian_noise(image: BgrImage, *, std: float, noise_seed: int) -> BgrImage:
    """Add an independent Gaussian, rounded to grey levels, to every channel of every pixel.

    Args:
        image: ``(H, W, 3)`` uint8, BGR.
        std: Grey levels, in ``[0, 255]``. 0 gives the input.
        noise_seed: In ``[0, 2**53)``; the same seed gives the same noise.

    Raises:
        TransformError: If a parameter is out of range, infinite or NaN.
    """
    check_within("the standard deviation of noise", std, low=0, high=255)
    values = image.reshape(image.shape[0], -1)
    table = rounded_gaussian(std)
    noise = cv2.LUT(RandomBits(noise_seed).take_indices(values.shape), table)
    # Both saturate; a sum of uint8 in numpy would wrap 256 to 0.
    if table.dtype == np.uint8:
        noisy = cv2.addWeighted(values, 1, noise, 1, -RAISE)
    else:
        noisy = cv2.add(values, noise, dtype=cv2.CV_8U)
    return as_image(noisy).reshape(image.shape)


@dataclass(frozen=True, slots=True)
class GaussNoised(Operation):
    """Gaussian noise of a drawn strength."""

    std: float
    """Grey levels."""

    noise_seed: int
    """Names the field of noise."""

    def apply(self, image: BgrImage) -> BgrImage:
        """See :func:`add_gaussian_noise`."""
        return add_gaussian_noise(image, std=self.std, noise_seed=self.noise_seed)


class GaussNoise(Transform):
    """Add Gaussian noise to every channel of every pixel."""

    operation = GaussNoised
    version = 2
    cost_ns_per_pixel = 1.8

    std_range: Annotated[Interval, Bounds(0, 1)] = Field(
        default=(0.01, 0.1),
        description="Standard deviation as a share of white: 0.01 is 2.55 grey levels.",
    )

    def sample(self, rng: np.random.Generator) -> GaussNoised:
        """Draw the strength and a seed."""
        return GaussNoised(std=255 * uniform(rng, self.std_range), noise_seed=draw_seed(rng))
