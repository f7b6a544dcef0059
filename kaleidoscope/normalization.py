"""Bring a decoded source to the size at which its tree begins.

What is drawn is a value, as with transforms: :meth:`Normalization.params` goes into the manifest
and :meth:`Normalization.from_params` gives the same root again.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self, TypeAlias, cast, get_args

import cv2
import numpy as np
import numpy.typing as npt

from kaleidoscope.errors import TransformError
from kaleidoscope.model import BgrImage, Mask
from kaleidoscope.transforms import as_mask

NormalizationMode: TypeAlias = Literal["square_crop", "fit", "none"]
NormalizationParam: TypeAlias = float | int | str

DEFAULT_SIDE = 400
"""Pixels, as in the original Kaleidoscope."""

_CENTRE = 0.5

_AREA_FROM = 2.0
"""Shrinking at least so much averages over areas; below, linear interpolation misses no pixel."""


@dataclass(frozen=True, slots=True)
class Normalization:
    """A normalisation with its offset drawn.

    ``square_crop`` cuts out a square of the shorter side and resizes it, ``fit`` resizes the
    longer side and crops nothing, ``none`` leaves the source as it is.
    """

    mode: NormalizationMode = "square_crop"

    side: int = DEFAULT_SIDE
    """Pixels, at least 1: the square's side, or the longer side; ``none`` does not use it."""

    offset: float = _CENTRE
    """Where the square lies along the longer side: 0 is left or top, 1 is right or bottom."""

    def __post_init__(self) -> None:
        """Refuse what cannot be applied.

        Raises:
            TransformError: If a field is out of range.
        """
        if self.mode not in get_args(NormalizationMode):
            modes = ", ".join(get_args(NormalizationMode))
            raise TransformError(f"normalize.mode must be one of {modes}, got {self.mode!r}")
        if self.side < 1:
            raise TransformError(f"normalize.side must be at least 1 pixel, got {self.side}")
        if not 0 <= self.offset <= 1:
            raise TransformError(f"normalize.offset must be from 0 to 1, got {self.offset}")

    @classmethod
    def sample(
        cls, rng: np.random.Generator, *, mode: NormalizationMode, side: int = DEFAULT_SIDE
    ) -> Self:
        """Draw where the square lies.

        Args:
            rng: Belongs to this source; one number is drawn whatever the mode.
            mode: See the class.
            side: Pixels, at least 1.
        """
        # A fraction and not pixels: it fits every image, one whose margin is zero included.
        return cls(mode, side, float(rng.uniform(0.0, 1.0)))

    @classmethod
    def from_params(cls, params: Mapping[str, NormalizationParam]) -> Self:
        """Return the normalisation that :meth:`params` recorded.

        Raises:
            TransformError: If a name is unknown or a value out of range.
        """
        unknown = sorted(set(params) - {"mode", "side", "offset"})
        if unknown:
            raise TransformError(f"a normalisation has mode, side and offset, got {unknown}")
        return cls(
            # __post_init__ refuses what is no mode.
            mode=cast(NormalizationMode, params.get("mode")),
            side=int(params.get("side", DEFAULT_SIDE)),
            offset=float(params.get("offset", _CENTRE)),
        )

    def params(self) -> Mapping[str, NormalizationParam]:
        """Return by name the values that this mode uses."""
        match self.mode:
            case "square_crop":
                return {"mode": self.mode, "side": self.side, "offset": self.offset}
            case "fit":
                return {"mode": self.mode, "side": self.side}
            case "none":
                return {"mode": self.mode}

    def output_size(self, width: int, height: int) -> tuple[int, int]:
        """Return the root's width and height in pixels.

        Args:
            width: Of the source in pixels, at least 1.
            height: Of the source in pixels, at least 1.
        """
        match self.mode:
            case "square_crop":
                return self.side, self.side
            case "fit":
                scale = self.side / max(width, height)
                return max(1, round(width * scale)), max(1, round(height * scale))
            case "none":
                return width, height

    def min_short_side(self, width: int, height: int) -> int:
        """Return how many pixels of the shorter side a reduced decode has to leave.

        Args:
            width: Of the source in pixels, at least 1.
            height: Of the source in pixels, at least 1.
        """
        match self.mode:
            case "square_crop":
                return self.side
            case "fit":
                return max(1, math.ceil(min(width, height) * self.side / max(width, height)))
            case "none":
                return min(width, height)

    def apply(self, image: BgrImage, *, source_width: int, source_height: int) -> BgrImage:
        """Return the root of the source's tree.

        The geometry follows from the size of the source, so that a reduced decode moves it
        by no more than rounding to decoded pixels does.

        Args:
            image: ``(H, W, 3)`` uint8, BGR: the source, decoded in full or reduced. It is left
                untouched, and is itself the result if nothing is to be done.
            source_width: Of the source in pixels, at least 1, as its header has it.
            source_height: Of the source in pixels, at least 1, as its header has it.
        """
        size = self.output_size(source_width, source_height)
        if self.mode == "none":
            return image
        if self.mode == "square_crop":
            image = _crop_square(image, source_width, source_height, self.offset)
        return _resize(image, size)

    def apply_mask(self, mask: Mask) -> Mask:
        """Return the mask of the root; no value is new.

        Args:
            mask: Of the size of the source.
        """
        height, width = mask.shape[:2]
        if self.mode == "none":
            return mask
        if self.mode == "square_crop":
            left, top = square_left_top(width, height, self.offset)
            side = min(width, height)
            mask = mask[top : top + side, left : left + side]
        size = self.output_size(width, height)
        # INTER_NEAREST takes pixels half a pixel off; the exact one takes those at the centres.
        resized = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST_EXACT)
        return as_mask(resized, mask)

    def apply_points(
        self, points: npt.NDArray[np.float64], *, width: int, height: int
    ) -> npt.NDArray[np.float64]:
        """Return where points of the source are in the root, inside its frame or not.

        Args:
            points: ``(N, 2)`` float64, x and y in pixels between pixel edges: the source reaches
                from (0, 0) to (width, height).
            width: Of the source in pixels, at least 1.
            height: Of the source in pixels, at least 1.
        """
        if self.mode == "square_crop":
            corner = square_left_top(width, height, self.offset)
            return (points - corner) * (self.side / min(width, height))
        size = self.output_size(width, height)
        return points * (size[0] / width, size[1] / height)


def square_left_top(width: int, height: int, offset: float) -> tuple[int, int]:
    """Return the left and top pixel of the square that :attr:`Normalization.offset` picks.

    Args:
        width: Pixels, at least 1.
        height: Pixels, at least 1.
        offset: Dimensionless, 0 to 1.
    """
    side = min(width, height)
    return round(offset * (width - side)), round(offset * (height - side))


def _crop_square(image: BgrImage, source_width: int, source_height: int, offset: float) -> BgrImage:
    height, width = image.shape[:2]
    side = min(width, height)
    left, top = square_left_top(source_width, source_height, offset)
    # Rounding may put the last position one pixel too far.
    left = min(round(left * width / source_width), width - side)
    top = min(round(top * height / source_height), height - side)
    return image[top : top + side, left : left + side]


def _resize(image: BgrImage, size: tuple[int, int]) -> BgrImage:
    height, width = image.shape[:2]
    if (width, height) == size:
        return np.ascontiguousarray(image)
    shrinks = max(width / size[0], height / size[1]) >= _AREA_FROM
    # Not cubic: OpenCV's differs between builds with and without IPP.
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, size, interpolation=interpolation).astype(np.uint8, copy=False)
