"""How points move when pixels do.

Matrices of OpenCV's warps map centres of pixels, the first of which is (0, 0). Points of boxes
lie between pixels: the first pixel reaches from (0, 0) to (1, 1), so its centre is (0.5, 0.5).
"""

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]
"""``(N, 2)`` float64, x to the right and y downwards, pixels from the image's top left corner."""

_HOMOGENEOUS = 3
_NEAREST_HORIZON = 1e-9
"""Of a homogeneous coordinate that is 1 in the middle: points beyond the horizon are very far."""


def warp_points(points: Points, matrix: npt.NDArray[np.float64]) -> Points:
    """Return where an affine map or a homography takes points.

    Args:
        points: See :data:`Points`.
        matrix: ``(2, 3)`` or ``(3, 3)`` float64, from pixel centres to pixel centres; with a
            homogeneous coordinate of 1 in the middle.
    """
    # p' = M (p - 1/2) + 1/2, since edges lie half a pixel before centres.
    centres = np.column_stack([points - 0.5, np.ones(len(points))])
    mapped = centres @ matrix.T
    if mapped.shape[1] == _HOMOGENEOUS:
        mapped = mapped[:, :2] / np.maximum(mapped[:, 2:], _NEAREST_HORIZON)
    return mapped + 0.5
