"""Encode 8-bit BGR pixels; the same pixels and parameters always give the same bytes."""

from dataclasses import dataclass
from typing import Literal, TypeAlias, assert_never, get_args

import cv2
import numpy as np

from kaleidoscope.codecs._header import ImageFormat
from kaleidoscope.codecs._png_writer import write_png
from kaleidoscope.errors import EncodeError
from kaleidoscope.model import BgrImage

Subsampling: TypeAlias = Literal["4:2:0", "4:4:4"]

_EXTENSIONS: dict[ImageFormat, str] = {
    "jpeg": "jpg",
    "png": "png",
    "webp": "webp",
    "bmp": "bmp",
    "tiff": "tiff",
}
_MAX_SIDES: dict[ImageFormat, int] = {"jpeg": 65500, "webp": 16383}
"""Pixels: JPEG_MAX_DIMENSION of libjpeg, WEBP_MAX_DIMENSION of libwebp."""

_SAMPLING: dict[Subsampling, int] = {
    "4:2:0": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    "4:4:4": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
}
_LOSSLESS_WEBP = 101
_TIFF_LZW, _TIFF_DIFFERENCES = 5, 2


@dataclass(frozen=True, slots=True)
class EncodeSpec:
    """In which format, and how well, to write an image."""

    format: ImageFormat = "jpeg"

    quality: int = 95
    """JPEG and lossy WebP: dimensionless, 1 to 100."""

    subsampling: Subsampling = "4:2:0"
    """JPEG: chroma at half or at full resolution."""

    lossless: bool = False
    """WebP: keep every pixel, at about ten times the cost; quality is then ignored."""

    def __post_init__(self) -> None:
        """Refuse parameters that a codec would clamp in silence.

        Raises:
            EncodeError: If a parameter is out of range.
        """
        if self.format not in get_args(ImageFormat):
            raise EncodeError(f"cannot write {self.format!r}; formats are {', '.join(_EXTENSIONS)}")
        if not 1 <= self.quality <= 100:  # noqa: PLR2004
            raise EncodeError(f"quality must be from 1 to 100, got {self.quality}")
        if self.subsampling not in _SAMPLING:
            raise EncodeError(
                f"subsampling must be one of {', '.join(_SAMPLING)}, got {self.subsampling!r}"
            )


def extension_for(format: ImageFormat) -> str:  # noqa: A002 -- the field's word.
    """Return the extension of a format's files, without a dot."""
    return _EXTENSIONS[format]


def encode(image: BgrImage, spec: EncodeSpec) -> bytes:
    """Return ``image`` as a file of the format that ``spec`` names, without metadata.

    Args:
        image: ``(H, W, 3)`` uint8, BGR, at least one pixel.
        spec: The format and its parameters.

    Raises:
        EncodeError: If the array is no such image, or is too large for the format.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:  # noqa: PLR2004
        raise EncodeError(
            f"only (H, W, 3) uint8 pixels can be encoded, got {image.shape} of {image.dtype}"
        )
    height, width = image.shape[:2]
    longest = _MAX_SIDES.get(spec.format)
    if longest is not None and max(width, height) > longest:
        raise EncodeError(
            f"{spec.format} takes sides up to {longest} pixels, got {width} x {height}; "
            "normalise to a smaller side or write PNG"
        )
    if spec.format == "png":
        return write_png(image, predict=True)
    try:
        is_encoded, data = cv2.imencode(f".{_EXTENSIONS[spec.format]}", image, _parameters(spec))
    except cv2.error as error:
        raise EncodeError(f"the {spec.format} encoder failed: {error.err}") from error
    if not is_encoded:
        raise EncodeError(f"the {spec.format} encoder refused {width} x {height} pixels")
    return data.tobytes()


def _parameters(spec: EncodeSpec) -> list[int]:
    match spec.format:
        case "jpeg":
            sampling = _SAMPLING[spec.subsampling]
            return [
                *(cv2.IMWRITE_JPEG_QUALITY, spec.quality),
                *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling),
            ]
        case "webp":
            return [cv2.IMWRITE_WEBP_QUALITY, _LOSSLESS_WEBP if spec.lossless else spec.quality]
        case "tiff":
            return [
                *(cv2.IMWRITE_TIFF_COMPRESSION, _TIFF_LZW),
                *(cv2.IMWRITE_TIFF_PREDICTOR, _TIFF_DIFFERENCES),
            ]
        case "bmp" | "png":  # The one has none, the other an encoder of its own.
            return []
    assert_never(spec.format)
