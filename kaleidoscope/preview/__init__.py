"""The contact sheet: every image that a recipe makes of one photograph, on one page."""

from kaleidoscope.preview.captions import describe
from kaleidoscope.preview.sheet import (
    SMALL_SHEET,
    ContactSheet,
    SheetFormat,
    SheetStyle,
    Tile,
    contact_sheet,
)

__all__ = [
    "SMALL_SHEET",
    "ContactSheet",
    "SheetFormat",
    "SheetStyle",
    "Tile",
    "contact_sheet",
    "describe",
]
