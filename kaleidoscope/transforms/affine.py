"""Scale, shift, turn and shear an image; what comes into view at the border is reflected."""

import math
from dataclasses import dataclass
from typing import Annotated

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field

from kaleidoscope.model import BgrImage, Mask
from kaleidoscope.transforms._base import (
    Bounds,
    Interval,
    Operation,
    Transform,
    as_image,
    as_mask,
    check_within,
    uniform,
)
from kaleidoscope.transforms._edges import Points, warp_points

MAX_SHEAR_DEG = 40.0
"""Shears of 45 degrees along both axes would press the image into a line."""


@dataclass(frozen=True, slots=True)
class AffineWarped(Operation):
    """A drawn affine map: shear, then scale, then turn, all about the centre, then shift."""

    scale: float
    """Dimensionless, in ``[0.1, 10]``; above 1 enlarges."""

    rotate_deg: float
    """Degrees, counter-clockwise."""

    shear_x_deg: float
    """Degrees by which upright lines lean, in ``[-40, 40]``."""

    shear_y_deg: float
    """Degrees by which level lines lean, in ``[-40, 40]``."""

    translate_x: float
    """Share of the width, to the right."""

    translate_y: float
    """Share of the height, downwards."""

    def matrix(self, width: int, height: int) -> npt.NDArray[np.float64]:
        """Return the map from pixels of the image to pixels of the result.

        Args:
            width: Pixels, at least 1.
            height: Pixels, at least 1.

        Returns:
            ``(2, 3)`` float64, for column vectors (x, y, 1) with y downwards.

        Raises:
            TransformError: If a parameter is out of range, infinite or NaN.
        """
        check_within("the scale of an affine map", self.scale, low=0.1, high=10)
        check_within("the angle of an affine map", self.rotate_deg)
        for shear_deg in (self.shear_x_deg, self.shear_y_deg):
            check_within(
                "the shear of an affine map", shear_deg, low=-MAX_SHEAR_DEG, high=MAX_SHEAR_DEG
            )
        for share in (self.translate_x, self.translate_y):
            check_within("the shift of an affine map", share, low=-1, high=1)
        angle = math.radians(self.rotate_deg)
        cosine, sine = self.scale * math.cos(angle), self.scale * math.sin(angle)
        # Counter-clockwise to the eye, though y points down.
        turn = np.array([[cosine, sine], [-sine, cosine]])
        shear_x, shear_y = math.radians(self.shear_x_deg), math.radians(self.shear_y_deg)
        linear = turn @ np.array([[1.0, math.tan(shear_x)], [math.tan(shear_y), 1.0]])
        centre = np.array([(width - 1) / 2, (height - 1) / 2])
        shift = np.array([self.translate_x * width, self.translate_y * height])
        return np.column_stack([linear, centre + shift - linear @ centre])

    def apply(self, image: BgrImage) -> BgrImage:
        """See :func:`warp_affine`."""
        return warp_affine(image, self.matrix(image.shape[1], image.shape[0]))

    def apply_mask(self, mask: Mask) -> Mask:
        """Warp with the nearest pixel, and the same border as the image."""
        height, width = mask.shape[:2]
        warped = cv2.warpAffine(
            mask,
            self.matrix(width, height),
            (width, height),
            flags=cv2.INTER_NEAREST,
            borderMode=cv2.BORDER_REFLECT_101,
        )
        return as_mask(warped, mask)

    def apply_points(self, points: Points, *, width: int, height: int) -> Points:
        """Move points by the matrix of the image."""
        return warp_points(points, self.matrix(width, height))


def warp_affine(image: BgrImage, matrix: npt.NDArray[np.float64]) -> BgrImage:
    """Map an image into a frame of its own size, reflecting it where the frame reaches beyond.

    Args:
        image: ``(H, W, 3)`` uint8, BGR.
        matrix: ``(2, 3)`` float64, invertible, from pixels of the image to those of the result.
    """
    height, width = image.shape[:2]
    warped = cv2.warpAffine(
        image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return as_image(warped)


class Affine(Transform):
    """Scale, shift, turn and shear; the border is filled by reflection."""

    operation = AffineWarped
    cost_ns_per_pixel = 5.0
    geometric = True

    scale: Annotated[Interval, Bounds(0.1, 10)] = Field(
        default=(0.8, 1.2), description="Zoom factor, dimensionless; above 1 enlarges."
    )
    translate_percent: Annotated[Interval, Bounds(-1, 1)] = Field(
        default=(-0.1, 0.1),
        description="Shift as a share of the width and, drawn apart, of the height: 0.1 is 10 %.",
    )
    rotate: Annotated[Interval, Bounds(-180, 180, "degrees")] = Field(
        default=(-15.0, 15.0), description="Angle in degrees, counter-clockwise."
    )
    shear: Annotated[Interval, Bounds(-MAX_SHEAR_DEG, MAX_SHEAR_DEG, "degrees")] = Field(
        default=(-10.0, 10.0), description="Shear in degrees, drawn apart for both axes."
    )

    def sample(self, rng: np.random.Generator) -> AffineWarped:
        """Draw all six numbers of the map."""
        return AffineWarped(
            scale=uniform(rng, self.scale),
            rotate_deg=uniform(rng, self.rotate),
            shear_x_deg=uniform(rng, self.shear),
            shear_y_deg=uniform(rng, self.shear),
            translate_x=uniform(rng, self.translate_percent),
            translate_y=uniform(rng, self.translate_percent),
        )
