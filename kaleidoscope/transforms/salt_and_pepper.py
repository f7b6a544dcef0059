"""Turn single values black or white, as dead pixels and bit errors do."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from kaleidoscope.model import BgrImage
from kaleidoscope.seeding import draw_seed
from kaleidoscope.transforms._base import (
    Bounds,
    Interval,
    Operation,
    Transform,
    check_within,
    uniform,
)
from kaleidoscope.transforms._noise_field import RandomBits

MAX_SHARE = 0.5
"""Beyond half of the values there is hardly an image left."""


def strew_salt_and_pepper(
    image: BgrImage, *, salt: float, pepper: float, noise_seed: int
) -> BgrImage:
    """Set values to 255 with probability ``salt`` and to 0 with probability ``pepper``.

    Every channel of every pixel is decided independently.

    Args:
        image: ``(H, W, 3)`` uint8, BGR.
        salt: Dimensionless, in ``[0, 0.5]``.
        pepper: Dimensionless, in ``[0, 0.5]``; with ``salt`` at most 0.5.
        noise_seed: In ``[0, 2**53)``; the same seed gives the same noise.

    Raises:
        TransformError: If a parameter is out of range, infinite or NaN.
    """
    check_within("the probability of salt", salt, low=0, high=MAX_SHARE)
    check_within("the probability of pepper", pepper, low=0, high=MAX_SHARE - salt)
    bits = RandomBits(noise_seed)
    strewn = np.ascontiguousarray(image).copy()
    values = strewn.reshape(-1)
    # Pepper falls last and covers salt, so salt has to fall more often to remain as often.
    values[bits.take_hits(values.size, salt / (1 - pepper))] = 255
    values[bits.take_hits(values.size, pepper)] = 0
    return strewn


@dataclass(frozen=True, slots=True)
class SaltedAndPeppered(Operation):
    """Salt and pepper of drawn amounts."""

    salt: float
    """Probability of white, dimensionless."""

    pepper: float
    """Probability of black, dimensionless."""

    noise_seed: int
    """Names the places."""

    def apply(self, image: BgrImage) -> BgrImage:
        """See :func:`strew_salt_and_pepper`."""
        return strew_salt_and_pepper(
            image, salt=self.salt, pepper=self.pepper, noise_seed=self.noise_seed
        )


class SaltAndPepper(Transform):
    """Set single channel values to white or black."""

    operation = SaltedAndPeppered
    version = 2
    cost_ns_per_pixel = 0.5

    amount: Annotated[Interval, Bounds(0, MAX_SHARE)] = Field(
        default=(0.01, 0.06), description="Share of the channel values that are changed."
    )
    salt_vs_pepper: Annotated[Interval, Bounds(0, 1)] = Field(
        default=(0.4, 0.6), description="Share of the changed values that are white."
    )

    def sample(self, rng: np.random.Generator) -> SaltedAndPeppered:
        """Draw the amounts and a seed."""
        amount = uniform(rng, self.amount)
        salt = amount * uniform(rng, self.salt_vs_pepper)
        return SaltedAndPeppered(salt=salt, pepper=amount - salt, noise_seed=draw_seed(rng))
