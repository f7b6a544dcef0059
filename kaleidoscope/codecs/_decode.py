"""Decode an image to 8-bit BGR by rules that do not depend on its format."""

from collections.abc import Callable
from typing import Literal, TypeAlias

import cv2
import numpy as np
from cv2.typing import MatLike

from kaleidoscope.codecs._header import ImageHeader
from kaleidoscope.codecs._tiff import set_upright
from kaleidoscope.errors import CodecError, CorruptImageError
from kaleidoscope.model import BgrImage

# What OpenCV would print is raised as an error here. Its libpng and libjpeg still print warnings
# of their own to standard error; nothing but closing that for the whole process would stop them.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

Reduction: TypeAlias = Literal[1, 2, 4, 8]
"""How many stored pixels, along each side, become one decoded pixel."""

_COLOR_FLAGS: dict[Reduction, int] = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
_ROWS_AT_ONCE = 64
"""That are composited."""

_TURNS: dict[int, Callable[[MatLike], MatLike]] = {
    2: lambda image: cv2.flip(image, 1),
    3: lambda image: cv2.rotate(image, cv2.ROTATE_180),
    4: lambda image: cv2.flip(image, 0),
    5: cv2.transpose,
    6: lambda image: cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE),
    7: lambda image: cv2.flip(cv2.transpose(image), -1),
    8: lambda image: cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE),
}
"""What makes an image of each EXIF orientation upright; 1 is upright."""


def reduction_for(header: ImageHeader, target_short_side: int) -> Reduction:
    """Return the largest reduction that leaves the short side at ``target_short_side`` or more.

    A reduced decode is cheaper than a full one and nearer to an average over the area. Only JPEG
    has it: its blocks are decoded at a fraction of their 8 pixels.

    Args:
        header: From :func:`probe`.
        target_short_side: Pixels, at least 1.
    """
    if header.format != "jpeg":
        return 1
    short_side = min(header.width, header.height)
    fitting = [n for n in _COLOR_FLAGS if _reduced(short_side, n) >= target_short_side]
    return max(fitting, default=1)


def decode(data: bytes, header: ImageHeader, *, reduction: Reduction = 1) -> BgrImage:
    """Decode an image and turn it upright.

    Grey is repeated, alpha is composited over white, 16-bit samples are divided by 257 and
    rounded, palettes are looked up, CMYK is taken for inverted in a JPEG, as Adobe writes it, and
    converted without a profile; of several frames the first is taken. Colour profiles are not
    applied. ``header.conversion`` says which of these happened.

    Args:
        data: The whole file.
        header: What :func:`probe` returned for the same bytes.
        reduction: Decode to a fraction of the size; sides are rounded. Only for JPEG.

    Returns:
        ``(height, width, 3)`` uint8, BGR, contiguous.

    Raises:
        CorruptImageError: If the picture cannot be read, or is not what the header says.
        CodecError: If something else than a JPEG is to be reduced.
    """
    if reduction != 1 and header.format != "jpeg":
        raise CodecError(f"only a JPEG can be decoded reduced, not a {header.format}")
    upright = set_upright(data) if header.format == "tiff" and header.orientation > 1 else data
    pixels = decode_stored(upright, _flags(header, reduction))
    if pixels.dtype == np.uint16:
        if header.is_white_zero:  # libtiff turns those of fewer bits.
            pixels = cv2.bitwise_not(pixels)
        # 65535 / 255 = 257, so white stays white; no sample falls halfway, since 257 is odd.
        pixels = cv2.convertScaleAbs(pixels, alpha=1 / 257)
    if pixels.ndim == 3 and pixels.shape[2] == 4:  # noqa: PLR2004 -- BGR and alpha.
        pixels = _over_white(pixels, is_premultiplied=header.alpha == "premultiplied")
    width, height = header.stored_size
    expected = (_reduced(height, reduction), _reduced(width, reduction), 3)
    if pixels.shape != expected or pixels.dtype != np.uint8:
        raise CorruptImageError(
            f"the header promises pixels of shape {expected} and the decoder gave {pixels.shape} "
            f"of {pixels.dtype}"
        )
    pixels = _without_padding(pixels, header, reduction)
    turn = _TURNS.get(header.orientation)
    return (turn(pixels) if turn else pixels).astype(np.uint8, copy=False)


def _flags(header: ImageHeader, reduction: Reduction) -> int:
    """Return the imdecode flags that keep what the rules need, and nothing else."""
    if header.alpha != "none":
        return cv2.IMREAD_UNCHANGED
    depth = cv2.IMREAD_ANYDEPTH if header.bits == 16 else 0  # noqa: PLR2004
    return _COLOR_FLAGS[reduction] | depth | cv2.IMREAD_IGNORE_ORIENTATION


def decode_stored(data: bytes, flags: int) -> MatLike:
    try:
        pixels: MatLike | None = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise CorruptImageError(f"the decoder failed: {error.err}") from error
    if pixels is None:
        raise CorruptImageError("the picture is damaged, or of a kind that OpenCV does not read")
    return pixels


def _without_padding(pixels: MatLike, header: ImageHeader, reduction: Reduction) -> MatLike:
    """Drop a last stored row or column that is less than half filled by the picture.

    A reduced decode rounds its sides up, so its last pixels may stand for little of the picture;
    resized with the rest they would stretch it by up to a decoded pixel.
    """
    width, height = (max(1, round(side / reduction)) for side in header.stored_size)
    if pixels.shape[:2] == (height, width):
        return pixels
    return np.ascontiguousarray(pixels[:height, :width])


def _over_white(pixels: MatLike, *, is_premultiplied: bool) -> MatLike:
    """Composite ``(H, W, 4)`` uint8 over white, rounding to the nearest integer."""
    composited = np.empty((*pixels.shape[:2], 3), np.uint8)
    # Of a large picture, what stands between would take six times its memory.
    for top in range(0, len(pixels), _ROWS_AT_ONCE):
        rows = slice(top, top + _ROWS_AT_ONCE)
        composited[rows] = _rows_over_white(pixels[rows], is_premultiplied=is_premultiplied)
    return composited


def _rows_over_white(pixels: MatLike, *, is_premultiplied: bool) -> MatLike:
    color, alpha = pixels[..., :3], pixels[..., 3:]
    background = 255 - alpha
    if is_premultiplied:
        return cv2.add(color, np.repeat(background, 3, axis=2))
    # c a + 255 (255 - a) is at most 255 * 255, and with 128 added it still fits 16 bits.
    opaque = background.astype(np.uint16) * np.uint16(255) + np.uint16(128)
    total = color.astype(np.uint16) * alpha + opaque
    # (t + t/256) / 256 is t / 255 rounded for these t (Blinn, "Three wrongs make a right",
    # IEEE Computer Graphics and Applications 15(6), 1995).
    composited: MatLike = ((total + (total >> 8)) >> 8).astype(np.uint8)
    return composited


def _reduced(side: int, reduction: Reduction) -> int:
    return -(-side // reduction)
