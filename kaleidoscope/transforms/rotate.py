"""Rotate an image about its centre, zoomed in until no corner is blank."""

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


def zoom_without_blank_corners(width: int, height: int, angle_deg: float) -> float:
    """Return the smallest zoom at which a rotated frame shows nothing beyond the image.

    The output frame, shrunk by the zoom and turned by the angle, must lie within the image. Its
    bounding box has the sides ``w |cos| + h |sin|`` and ``w |sin| + h |cos|`` over the zoom.

    Args:
        width: Pixels, at least 1. Sides are measured between the centres of the outer pixels,
            beyond which an interpolation would reach for pixels that are not there.
        height: Pixels, at least 1.
        angle_deg: Degrees, any finite value.

    Returns:
        Dimensionless, at least 1.
    """
    w, h = max(width - 1, 1), max(height - 1, 1)
    cosine = abs(math.cos(math.radians(angle_deg)))
    sine = abs(math.sin(math.radians(angle_deg)))
    return max(cosine + sine * h / w, cosine + sine * w / h, 1.0)


def rotation_matrix(width: int, height: int, angle_deg: float) -> npt.NDArray[np.float64]:
    """Return the map from pixels of the image to pixels of the rotated and zoomed one.

    Args:
        width: Pixels, at least 1.
        height: Pixels, at least 1.
        angle_deg: Degrees, counter-clockwise, any finite value.

    Returns:
        ``(2, 3)`` float64, for column vectors (x, y, 1) with y downwards.

    Raises:
        TransformError: If ``angle_deg`` is infinite or NaN.
    """
    check_within("the angle of a rotation", angle_deg)
    centre = ((width - 1) / 2, (height - 1) / 2)
    zoom = zoom_without_blank_corners(width, height, angle_deg)
    return cv2.getRotationMatrix2D(centre, angle_deg, zoom).astype(np.float64, copy=False)


def rotate_and_zoom(image: BgrImage, *, angle_deg: float) -> BgrImage:
    """Rotate about the centre and zoom in until every output pixel has a source.

    Args:
        image: ``(H, W, 3)`` uint8, BGR.
        angle_deg: Degrees, counter-clockwise, any finite value.

    Raises:
        TransformError: If ``angle_deg`` is infinite or NaN.
    """
    height, width = image.shape[:2]
    # One warp instead of warp, crop and resize. The border mode only matters for the last bit
    # of rounding at a corner, where it repeats the edge pixel instead of mixing in black.
    rotated = cv2.warpAffine(
        image,
        rotation_matrix(width, height, angle_deg),
        (width, height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return as_image(rotated)


@dataclass(frozen=True, slots=True)
class Rotated(Operation):
    """A rotation by a drawn angle."""

    angle_deg: float
    """Degrees, counter-clockwise."""

    def apply(self, image: BgrImage) -> BgrImage:
        """See :func:`rotate_and_zoom`."""
        return rotate_and_zoom(image, angle_deg=self.angle_deg)

    def apply_mask(self, mask: Mask) -> Mask:
        """Warp with the nearest pixel, and the same border as the image."""
        height, width = mask.shape[:2]
        warped = cv2.warpAffine(
            mask,
            rotation_matrix(width, height, self.angle_deg),
            (width, height),
            flags=cv2.INTER_NEAREST,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return as_mask(warped, mask)

    def apply_points(self, points: Points, *, width: int, height: int) -> Points:
        """Move points by the matrix of the image."""
        return warp_points(points, rotation_matrix(width, height, self.angle_deg))


class Rotate(Transform):
    """Rotate about the centre and zoom in until no corner is blank."""

    operation = Rotated
    cost_ns_per_pixel = 4.4
    geometric = True

    limit: Annotated[Interval, Bounds(-180, 180, "degrees")] = Field(
        default=(-90.0, 90.0), description="Angle in degrees, counter-clockwise."
    )

    def sample(self, rng: np.random.Generator) -> Rotated:
        """Draw an angle."""
        return Rotated(angle_deg=uniform(rng, self.limit))
