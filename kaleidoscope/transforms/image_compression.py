"""Leave the blocks and ringing in an image that a low JPEG quality leaves."""

from dataclasses import dataclass
from typing import Annotated

import cv2
import numpy as np
from pydantic import Field

from kaleidoscope.errors import TransformError
from kaleidoscope.model import BgrImage
from kaleidoscope.transforms._base import (
    Bounds,
    IntInterval,
    Operation,
    Transform,
    as_image,
    check_within,
    uniform_int,
)

MAX_JPEG_SIDE = 65500
"""Pixels, libjpeg's JPEG_MAX_DIMENSION."""


def compress_jpeg(image: BgrImage, *, quality: int) -> BgrImage:
    """Encode as baseline JPEG with 4:2:0 chroma, and decode again.

    This stands beside the codecs rather than on them, because here JPEG is an effect on pixels:
    no file comes in or goes out, and a change to how files are written must not change it.

    Args:
        image: ``(H, W, 3)`` uint8, BGR, of sides up to 65,500 pixels.
        quality: libjpeg's scale, in ``[1, 100]``.

    Raises:
        TransformError: If ``quality`` is out of range or a side is too long.
    """
    check_within("the quality of a JPEG", quality, low=1, high=100)
    check_within("the longer side of a JPEG in pixels", max(image.shape), high=MAX_JPEG_SIDE)
    options = [
        *(cv2.IMWRITE_JPEG_QUALITY, quality),
        *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420),
    ]
    _, data = cv2.imencode(".jpg", image, options)
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    if decoded is None:
        raise TransformError(f"OpenCV cannot read its own JPEG of {image.shape} pixels")
    return as_image(decoded)


@dataclass(frozen=True, slots=True)
class JpegCompressed(Operation):
    """Compressed at a drawn quality."""

    quality: int
    """libjpeg's scale, 1 to 100."""

    def apply(self, image: BgrImage) -> BgrImage:
        """See :func:`compress_jpeg`."""
        return compress_jpeg(image, quality=self.quality)


class ImageCompression(Transform):
    """Add the blocks and ringing of a low JPEG quality."""

    operation = JpegCompressed
    cost_ns_per_pixel = 3.5

    quality_range: Annotated[IntInterval, Bounds(1, 100)] = Field(
        default=(30, 80), description="JPEG quality: 1 is the worst, 100 the best."
    )

    def sample(self, rng: np.random.Generator) -> JpegCompressed:
        """Draw a quality."""
        return JpegCompressed(quality=uniform_int(rng, self.quality_range))
