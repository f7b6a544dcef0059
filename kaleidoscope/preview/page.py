"""A page to set pictures and type on.

OpenCV 5 brings a scalable typeface, Rubik, with the letters of most scripts, so the page looks
the same on a machine without fonts. The typeface that Pillow brings has no minus sign, no
multiplication sign and no accents.
"""

from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np

from kaleidoscope.model import BgrImage

Colour: TypeAlias = tuple[int, int, int]
"""Blue, green, red, each 0 to 255."""

PAPER: Colour = (248, 250, 251)
INK: Colour = (34, 30, 28)
GREY: Colour = (136, 130, 126)
LINE: Colour = (176, 182, 186)

STEP_COLOURS: tuple[Colour, ...] = (
    (52, 73, 214),
    (170, 108, 24),
    (84, 140, 34),
    (148, 54, 148),
    (12, 124, 214),
    (140, 136, 10),
    (96, 56, 190),
    (60, 92, 118),
)
"""One for each step of a recipe, from the start again after the last; dark enough to read."""

_ELLIPSIS = "…"


@dataclass(frozen=True, slots=True)
class Rectangle:
    """A rectangle on a page, in pixels."""

    left: int
    top: int
    width: int
    height: int

    @property
    def right(self) -> int:
        """The first column that is not in the box."""
        return self.left + self.width

    @property
    def bottom(self) -> int:
        """The first row that is not in the box."""
        return self.top + self.height


@dataclass(frozen=True, slots=True)
class Type:
    """How a line of text looks."""

    size: int
    """Pixels from line to line of a tightly set text, roughly."""

    weight: int = 400
    """400 is regular, 600 is semibold."""

    colour: Colour = INK


class Page:
    """Paper of a size in pixels, on which everything is drawn at once and for good."""

    def __init__(self, width: int, height: int) -> None:
        self.pixels: BgrImage = np.full((height, width, 3), PAPER, np.uint8)
        """``(height, width, 3)`` uint8, BGR."""
        self._typeface = cv2.FontFace("sans")

    def write(self, text: str, at: tuple[int, int], face: Type, *, width: int | None = None) -> int:
        """Set a line of text and return the column behind it.

        Args:
            text: The line; what cannot be printed is replaced.
            at: Column of its start and row of its baseline.
            face: How it looks.
            width: Pixels that it may take, beyond which it is shortened; by default to the edge.
        """
        left, baseline = at
        room = self.pixels.shape[1] - left if width is None else width
        line = self.shorten(text, face, room)
        cv2.putText(
            self.pixels, line, (left, baseline), face.colour, self._typeface, face.size, face.weight
        )
        return left + self.measure(line, face)

    def measure(self, text: str, face: Type) -> int:
        """Return how many pixels a line of text is wide, the space behind it included."""
        # A box ends with the last ink; the stop makes trailing spaces count.
        return self._extent(f"{text}.", face) - self._extent(".", face)

    def shorten(self, text: str, face: Type, width: int) -> str:
        """Return ``text``, or its start with an ellipsis so that it fits into ``width`` pixels."""
        line = "".join(letter if letter.isprintable() else "?" for letter in text)
        if self.measure(line, face) <= width:
            return line
        kept = len(line)
        while kept and self.measure(line[:kept].rstrip() + _ELLIPSIS, face) > width:
            kept -= 1
        return line[:kept].rstrip() + _ELLIPSIS if kept else ""

    def fill(self, box: Rectangle, colour: Colour) -> None:
        """Paint a box, for example a line."""
        self.pixels[box.top : box.bottom, box.left : box.right] = colour

    def place(self, image: BgrImage, box: Rectangle) -> Rectangle:
        """Put a picture into the lower left of a box, whole and in its own proportions.

        Args:
            image: ``(H, W, 3)`` uint8, BGR.
            box: The room for it; at least one side is filled.

        Returns:
            The pixels that it covers.
        """
        thumbnail = shrink_to_fit(image, box.width, box.height)
        height, width = thumbnail.shape[:2]
        top = box.bottom - height
        self.pixels[top : top + height, box.left : box.left + width] = thumbnail
        return Rectangle(box.left, top, width, height)

    def _extent(self, text: str, face: Type) -> int:
        size = (0, 0)
        *_, width, _ = cv2.getTextSize(size, text, (0, 0), self._typeface, face.size, face.weight)
        return int(width)


def shrink_to_fit(image: BgrImage, width: int, height: int) -> BgrImage:
    """Return ``image`` in its own proportions, as large as ``width`` by ``height`` pixels allow.

    Args:
        image: ``(H, W, 3)`` uint8, BGR; one smaller than the room is enlarged.
        width: Pixels, at least 1.
        height: Pixels, at least 1.
    """
    rows, columns = image.shape[:2]
    scale = min(width / columns, height / rows)
    size = max(1, round(columns * scale)), max(1, round(rows * scale))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cv2.resize(image, size, interpolation=interpolation).astype(np.uint8, copy=False)
