"""Look at an image from the side: pull its four corners apart until nothing blank is in view."""

from dataclasses import dataclass
from typing import Annotated

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field

from kaleidoscope.errors import TransformError
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

MAX_INSET = 0.3
"""From a third on, a corner could pass the line between its neighbours and fold the image."""

NUM_INSETS = 8

_CORNERS = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], dtype=np.float64)


def perspective_matrix(
    width: int, height: int, insets: tuple[float, ...]
) -> npt.NDArray[np.float64]:
    """Return the map from pixels of the image to pixels of the result.

    Corners are the outer corners of the outer pixels, so an image of one pixel has four.

    Args:
        width: Pixels, at least 1.
        height: Pixels, at least 1.
        insets: Eight shares, see :func:`pull_corners`.

    Returns:
        ``(3, 3)`` float64, homogeneous.

    Raises:
        TransformError: If there are not eight insets, or one is out of range, infinite or NaN.
    """
    if len(insets) != NUM_INSETS:
        raise TransformError(f"a perspective takes {NUM_INSETS} insets, got {len(insets)}")
    for inset in insets:
        check_within("the inset of a perspective", inset, low=0, high=MAX_INSET)
    inwards = np.array(insets).reshape(4, 2) * (1 - 2 * _CORNERS)
    size = np.array([width, height])
    seen = (_CORNERS + inwards) * size - 0.5
    frame = _CORNERS * size - 0.5
    matrix = cv2.getPerspectiveTransform(seen.astype(np.float32), frame.astype(np.float32))
    return matrix.astype(np.float64, copy=False)


def pull_corners(image: BgrImage, *, insets: tuple[float, ...]) -> BgrImage:
    """Stretch a quadrangle inside the image to the whole frame.

    Args:
        image: ``(H, W, 3)`` uint8, BGR.
        insets: Eight numbers in ``[0, 0.3]``: how far the quadrangle's corners are inside the
            image's, as shares of width and height, x and y in turn, clockwise from the top left.

    Raises:
        TransformError: If there are not eight insets, or one is out of range, infinite or NaN.
    """
    height, width = image.shape[:2]
    warped = cv2.warpPerspective(
        image,
        perspective_matrix(width, height, insets),
        (width, height),
        flags=cv2.INTER_LINEAR,
        # Reached for the outer half of an outer pixel only, beyond its centre.
        borderMode=cv2.BORDER_REPLICATE,
    )
    return as_image(warped)


@dataclass(frozen=True, slots=True)
class PerspectiveWarped(Operation):
    """A drawn change of perspective."""

    insets: tuple[float, ...]
    """Shares of width and height, x and y in turn, clockwise from the top left corner."""

    def apply(self, image: BgrImage) -> BgrImage:
        """See :func:`pull_corners`."""
        return pull_corners(image, insets=self.insets)

    def apply_mask(self, mask: Mask) -> Mask:
        """Warp with the nearest pixel, and the same border as the image."""
        height, width = mask.shape[:2]
        warped = cv2.warpPerspective(
            mask,
            perspective_matrix(width, height, self.insets),
            (width, height),
            flags=cv2.INTER_NEAREST,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return as_mask(warped, mask)

    def apply_points(self, points: Points, *, width: int, height: int) -> Points:
        """Move points by the matrix of the image."""
        matrix = perspective_matrix(width, height, self.insets)
        # OpenCV scales it by what is at the top left corner, which may lie beyond the horizon.
        centre = np.array([(width - 1) / 2, (height - 1) / 2, 1])
        return warp_points(points, matrix / (matrix[2] @ centre))


class Perspective(Transform):
    """Change the point of view without showing anything beyond the image."""

    operation = PerspectiveWarped
    cost_ns_per_pixel = 4.6
    geometric = True

    scale: Annotated[Interval, Bounds(0, MAX_INSET)] = Field(
        default=(0.05, 0.1),
        description="How far a corner may move at most, as a share of the side: 0.1 is 10 %.",
    )

    def sample(self, rng: np.random.Generator) -> PerspectiveWarped:
        """Draw a strength, and within it how far each corner moves."""
        scale = uniform(rng, self.scale)
        return PerspectiveWarped(insets=tuple(uniform(rng, (0, scale)) for _ in range(NUM_INSETS)))
