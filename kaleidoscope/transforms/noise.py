"""Add one of three kinds of noise, faint enough to pass for a camera's own."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from pydantic import Field

from kaleidoscope.errors import TransformError
from kaleidoscope.model import BgrImage
from kaleidoscope.seeding import draw_seed
from kaleidoscope.transforms._base import Operation, Transform
from kaleidoscope.transforms._faint_noise import add_faint_gaussian_noise
from kaleidoscope.transforms.salt_and_pepper import strew_salt_and_pepper
from kaleidoscope.transforms.speckle import multiply_by_gaussian

NoiseKind: TypeAlias = Literal["gaussian", "salt_and_pepper", "speckle"]

SALT = PEPPER = 0.01
"""Probability for each channel value, dimensionless."""

SPECKLE_STD = 1 / 255
"""Of the multiplier, dimensionless: one grey level at white."""


def add_noise(image: BgrImage, *, kind: str, noise_seed: int) -> BgrImage:
    """Add noise of a kind at its fixed, faint strength.

    Args:
        image: ``(H, W, 3)`` uint8, BGR.
        kind: A :data:`NoiseKind`.
        noise_seed: In ``[0, 2**53)``; the same seed gives the same noise.

    Raises:
        TransformError: If there is no such kind or ``noise_seed`` is out of range.
    """
    match kind:
        case "gaussian":
            return add_faint_gaussian_noise(image, noise_seed=noise_seed)
        case "salt_and_pepper":
            return strew_salt_and_pepper(image, salt=SALT, pepper=PEPPER, noise_seed=noise_seed)
        case "speckle":
            return multiply_by_gaussian(image, std=SPECKLE_STD, noise_seed=noise_seed)
        case _:
            raise TransformError(
                f"noise is gaussian, salt_and_pepper or speckle, got the kind {kind!r}"
            )


@dataclass(frozen=True, slots=True)
class Noised(Operation):
    """Noise of a drawn kind."""

    kind: str
    """A :data:`NoiseKind`."""

    noise_seed: int
    """Names the field of noise."""

    def apply(self, image: BgrImage) -> BgrImage:
        """See :func:`add_noise`."""
        return add_noise(image, kind=self.kind, noise_seed=self.noise_seed)


class Noise(Transform):
    """Add faint noise of one kind: Gaussian, salt and pepper, or speckle."""

    operation = Noised
    version = 2
    cost_ns_per_pixel = 1.5

    kinds: tuple[NoiseKind, ...] = Field(
        default=("gaussian", "salt_and_pepper", "speckle"),
        min_length=1,
        description="One of these is drawn for each image: gaussian of 1.4 grey levels, 1 % salt "
        "with 1 % pepper, speckle of 1 grey level at white.",
    )

    def sample(self, rng: np.random.Generator) -> Noised:
        """Draw a kind and a seed."""
        kind = self.kinds[int(rng.integers(len(self.kinds)))]
        return Noised(kind=kind, noise_seed=draw_seed(rng))
