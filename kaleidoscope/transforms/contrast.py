"""Scale an image's values, which changes its contrast and, with it, how bright it is."""

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


def adjust_contrast(image: BgrImage, *, gain: float) -> BgrImage:
    """Scale every channel, saturating at white.

    Args:
        image: ``(H, W, 3)`` uint8, BGR.
        gain: Dimensionless, at least 0. 0 gives black, 1 the input.

    Raises:
        TransformError: If ``gain`` is negative, infinite or NaN.
    """
    check_within("the gain of contrast", gain, low=0)
    # convertScaleAbs rounds and saturates; a numpy product would wrap 256 to 0.
    return as_image(cv2.convertScaleAbs(image, alpha=gain, beta=0.0))


@dataclass(frozen=True, slots=True)
class ContrastScaled(Operation):
    """Contrast of a drawn gain."""

    gain: float
    """Dimensionless."""

    def apply(self, image: BgrImage) -> BgrImage:
        """See :func:`adjust_contrast`."""
        return adjust_contrast(image, gain=self.gain)


class Contrast(Transform):
    """Raise or lower the contrast by scaling every value; black stays black."""

    operation = ContrastScaled
    cost_ns_per_pixel = 0.3

    gain: Annotated[Interval, Bounds(0, 10)] = Field(
        default=(0.5, 2.0),
        description="Factor, dimensionless: below 1 lowers, 1 keeps, above 1 raises.",
    )

    def sample(self, rng: np.random.Generator) -> ContrastScaled:
        """Draw a gain."""
        return ContrastScaled(gain=uniform(rng, self.gain))
