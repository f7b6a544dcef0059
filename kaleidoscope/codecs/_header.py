"""What an image file says of itself before a pixel of it is decoded."""

from dataclasses import dataclass
from typing import Literal, Self, TypeAlias

ImageFormat: TypeAlias = Literal["jpeg", "png", "webp", "bmp", "tiff"]
Alpha: TypeAlias = Literal["none", "straight", "premultiplied"]
Mode: TypeAlias = Literal["L", "LA", "P", "RGB", "RGBA", "RGBX", "CMYK", "YCCK"]

_CHANNEL_RULES: dict[Mode, str] = {
    "L": "grey repeated",
    "LA": "grey repeated",
    "P": "palette looked up",
    "RGBX": "fourth channel dropped",
    "CMYK": "CMYK to RGB without a profile",
    "YCCK": "CMYK to RGB without a profile",
}


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """Size and kind of an image, and with that how :func:`decode` will read it."""

    format: ImageFormat

    width: int
    """Pixels, after the orientation has been applied."""

    height: int
    """Pixels, after the orientation has been applied."""

    mode: Mode
    """Channels as stored, in Pillow's words; RGBX has a fourth channel of no stated meaning."""

    bits: int
    """Per sample as stored: 1, 2, 4, 8 or 16."""

    alpha: Alpha = "none"
    """Whether the decoder hands over an alpha channel, and whether it is multiplied in."""

    orientation: int = 1
    """1 to 8 as in EXIF and TIFF; 1 is upright."""

    num_frames: int = 1
    """Frames of an animation or pages of a TIFF, of which the first is read."""

    is_white_zero: bool = False
    """Whether black has the largest value, as in some TIFFs."""

    @classmethod
    def from_stored(  # noqa: PLR0913 -- the fields themselves; two of them may change places.
        cls,
        format: ImageFormat,  # noqa: A002 -- the field's word.
        stored_size: tuple[int, int],
        *,
        mode: Mode,
        bits: int = 8,
        alpha: Alpha = "none",
        orientation: int = 1,
        num_frames: int = 1,
        is_white_zero: bool = False,
    ) -> Self:
        """Return the header of an image whose sides are given as stored.

        Args:
            format: The file format.
            stored_size: Width and height in pixels, before the orientation is applied.
            mode: See the field.
            bits: See the field.
            alpha: See the field.
            orientation: See the field; from 5 on, width and height change places.
            num_frames: See the field.
            is_white_zero: See the field.
        """
        width, height = stored_size if orientation < _FIRST_TRANSPOSED else stored_size[::-1]
        return cls(format, width, height, mode, bits, alpha, orientation, num_frames, is_white_zero)

    @property
    def stored_size(self) -> tuple[int, int]:
        """Width and height in pixels, before the orientation is applied."""
        upright = self.orientation < _FIRST_TRANSPOSED
        return (self.width, self.height) if upright else (self.height, self.width)

    @property
    def conversion(self) -> str:
        """Say in a few words what decoding does besides decoding, for the manifest."""
        steps = [
            _CHANNEL_RULES.get(self.mode, ""),
            "inverted, since white is zero" if self.is_white_zero else "",
            "16 bits scaled to 8" if self.bits == 16 else "",  # noqa: PLR2004
            "alpha over white" if self.alpha != "none" else "",
            f"first of {self.num_frames} frames" if self.num_frames > 1 else "",
            f"orientation {self.orientation} applied" if self.orientation > 1 else "",
        ]
        return "; ".join(step for step in steps if step) or "none"


_FIRST_TRANSPOSED = 5
"""Orientations 5 to 8 swap rows and columns (TIFF 6.0, section 8, Orientation)."""
