"""Show masks and boxes on an image, so that one sees whether they go where the pixels go."""

import cv2
import numpy as np

from kaleidoscope.model import BgrImage, Mask
from kaleidoscope.preview.page import STEP_COLOURS, Colour
from kaleidoscope.targets import ImageTargets

_TINT = 0.45
"""How much of a mask's colour covers the image, dimensionless, 0 to 1."""

_LINE = 1 / 110
"""Of a box, as a share of the image's longer side, so that it shows in a thumbnail."""


def overlaid(image: BgrImage, targets: ImageTargets) -> BgrImage:
    """Return an image with its mask tinted, by value, and its boxes drawn, by category.

    The value 0 of a mask is taken for the background.

    Args:
        image: ``(H, W, 3)`` uint8, BGR; it is left untouched.
        targets: What belongs to it.
    """
    if targets.mask is not None:
        image = _tinted(image, targets.mask.pixels)
    if not targets.boxes:
        return image
    image = image.copy()
    thickness = max(1, round(max(image.shape[:2]) * _LINE))
    for box in targets.boxes:
        if not box.is_dropped:
            first = (round(box.left), round(box.top))
            last = (round(box.right) - 1, round(box.bottom) - 1)
            cv2.rectangle(image, first, last, _colour_of_name(box.label), thickness)
    return image


def _tinted(image: BgrImage, mask: Mask) -> BgrImage:
    """Tint by the values of a mask; one of several channels shows its own colours."""
    if mask.ndim == 2:  # noqa: PLR2004 -- rows and columns.
        colours = np.array(STEP_COLOURS, np.uint8)[mask % len(STEP_COLOURS)]
        background = mask[..., None] == 0
    else:
        colours = np.clip(mask[..., :3], 0, 255).astype(np.uint8)
        background = (mask == 0).all(axis=2, keepdims=True)
    tinted = cv2.addWeighted(image, 1 - _TINT, colours, _TINT, 0.0)
    return np.where(background, image, tinted).astype(np.uint8, copy=False)


def _colour_of_name(name: str | None) -> Colour:
    """Return a colour that is the same for a name in every process."""
    return STEP_COLOURS[sum((name or "").encode()) % len(STEP_COLOURS)]
