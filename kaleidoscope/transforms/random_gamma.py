"""Brighten or darken the middle tones, leaving black and white where they are."""

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


def adjust_gamma(image: BgrImage, *, gamma_percent: float) -> BgrImage:
    """Raise every value, as a share of white, to a power.

    Args:
        image: ``(H, W, 3)`` uint8, BGR.
        gamma_percent: The power in percent, in ``[1, 1000]``. Below 100 brightens, 100 gives the
            input, above 100 darkens.

    Raises:
        TransformError: If ``gamma_percent`` is out of range, infinite or NaN.
    """
    check_within("gamma in percent", gamma_percent, low=1, high=1000)
    shares = np.arange(256) / 255
    table = np.rint(255 * shares ** (gamma_percent / 100)).astype(np.uint8)
    return as_image(cv2.LUT(image, table))


@dataclass(frozen=True, slots=True)
class GammaAdjusted(Operation):
    """Middle tones shifted by a drawn power."""

    gamma_percent: float
    """Percent."""

    def apply(self, image: BgrImage) -> BgrImage:
        """See :func:`adjust_gamma`."""
        return adjust_gamma(image, gamma_percent=self.gamma_percent)


class RandomGamma(Transform):
    """Brighten or darken the middle tones; black and white stay."""

    operation = GammaAdjusted
    cost_ns_per_pixel = 0.8

    gamma_limit: Annotated[Interval, Bounds(1, 1000, "percent")] = Field(
        default=(80.0, 120.0),
        description="Gamma in percent: below 100 brightens, above 100 darkens.",
    )

    def sample(self, rng: np.random.Generator) -> GammaAdjusted:
        """Draw a gamma."""
        return GammaAdjusted(gamma_percent=uniform(rng, self.gamma_limit))
