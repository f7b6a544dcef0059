"""Draw the parts of a contact sheet at the places that its layout gives them."""

from collections.abc import Sequence

from kaleidoscope.model import BgrImage
from kaleidoscope.preview.captions import describe, describe_ranges, labels_of, step_of
from kaleidoscope.preview.layout import (
    LEGEND_COLUMNS,
    LEGEND_LINE_PX,
    LEGEND_TOP_PX,
    MAX_OPERATIONS,
    Band,
    Family,
    Layout,
)
from kaleidoscope.preview.overlay import overlaid
from kaleidoscope.preview.page import GREY, INK, LINE, STEP_COLOURS, Colour, Page, Rectangle, Type
from kaleidoscope.recipe import LETTERS, Recipe
from kaleidoscope.tree import ROOT, Growth

_HOW_TO_READ = (
    "A line joins the images made from one parent, named at its start. "
    "Grey operations were inherited from it, the black one made the image."
)


def colour_of(step: int) -> Colour:
    """Return the colour of a step's letter."""
    return STEP_COLOURS[step % len(STEP_COLOURS)]


class Drawing:
    """A contact sheet in the making."""

    def __init__(self, layout: Layout, recipe: Recipe) -> None:
        """Take a blank page.

        Args:
            layout: Where everything goes.
            recipe: Whose steps the letters stand for.
        """
        self.page = Page(layout.width, layout.height)
        self._layout = layout
        self._recipe = recipe
        self._boxes = {place.node.name: place.box for band in layout.bands for place in band.places}

    def root(self, image: BgrImage, *, is_output: bool) -> Rectangle:
        """Draw the root into the header and return the pixels that it covers."""
        metrics = self._layout.metrics
        height, width = image.shape[:2]
        room = Rectangle(metrics.margin, metrics.margin, metrics.root_width, metrics.root_height)
        drawn = self.page.place(image, room)
        x = self.page.write(
            ROOT,
            (drawn.left, drawn.bottom + self._px(22)),
            Type(self._px(15), 600),
        )
        told = f"{width} \N{MULTIPLICATION SIGN} {height}" + (
            "" if is_output else ", not an output"
        )
        self.page.write(
            told, (x + self._px(6), drawn.bottom + self._px(22)), Type(self._px(12), 400, GREY)
        )
        return drawn

    def heading(self, title: str, facts: str) -> None:
        """Write the title and the line below it."""
        left, top = self._text_left, self._layout.metrics.margin
        room = self._layout.width - self._layout.metrics.margin - left
        self.page.write(title, (left, top + self._px(28)), Type(self._px(36), 600), width=room)
        self.page.write(
            facts, (left, top + self._px(58)), Type(self._px(16), 400, GREY), width=room
        )

    def legend(self, label: str | None) -> None:
        """List the steps of the recipe with their letters, colours and ranges.

        Args:
            label: Of the photograph; a step that is not for it says so in place of its ranges.
        """
        metrics = self._layout.metrics
        room = self._layout.width - metrics.margin - self._text_left
        num_columns = 1 if metrics.legend_rows == metrics.num_steps else LEGEND_COLUMNS
        column_width = room // num_columns
        for index, step in enumerate(self._recipe.transforms):
            column, row = divmod(index, metrics.legend_rows)
            left = self._text_left + column * column_width
            baseline = metrics.margin + self._px(LEGEND_TOP_PX + row * LEGEND_LINE_PX)
            self.page.write(
                LETTERS[index], (left, baseline), Type(self._px(17), 700, colour_of(index))
            )
            x = self.page.write(step.name, (left + self._px(26), baseline), Type(self._px(15)))
            x += self._px(10)
            self.page.write(
                f"not for {label}" if label in step.not_for else describe_ranges(step),
                (x, baseline),
                Type(self._px(13), 400, GREY),
                width=left + column_width - self._px(12) - x,
            )

    def tile(self, growth: Growth) -> Rectangle:
        """Draw an output with its caption, and return the pixels that its picture covers."""
        box = self._boxes[growth.node.name]
        drawn = self.page.place(overlaid(growth.image, growth.targets), box)
        labels = labels_of(growth.node.name)
        if self._layout.metrics.names:
            self._name(labels, box)
        if self._layout.metrics.operations:
            self._operations([describe(applied) for applied in growth.chain], box)
        return drawn

    def bands(self, num_left_out: int) -> None:
        """Draw what stands beside and above the tiles, and say what the sheet leaves out."""
        metrics = self._layout.metrics
        for band in self._layout.bands:
            self._band_label(band)
            for family in band.families:
                self._family(family)
        baseline = self._layout.height - metrics.margin // 2 - self._px(4)
        left = metrics.margin + metrics.gutter
        text = _HOW_TO_READ if metrics.operations else _HOW_TO_READ.partition(" Grey")[0]
        if num_left_out:
            text = f"{num_left_out:,} images farther from the root are left out.  {text}"
        self.page.write(text, (left, baseline), Type(self._px(12), 400, GREY))

    @property
    def _text_left(self) -> int:
        metrics = self._layout.metrics
        return metrics.margin + metrics.root_width + self._px(44)

    def _px(self, length: int) -> int:
        return round(length * self._layout.metrics.scale)

    def _name(self, labels: Sequence[str], box: Rectangle) -> None:
        metrics = self._layout.metrics
        baseline = box.bottom + metrics.name_line - 7
        self._letters(labels, (box.left, baseline), 16 if metrics.is_comfortable else 12, box.right)

    def _letters(self, labels: Sequence[str], at: tuple[int, int], size: int, right: int) -> int:
        left, baseline = at
        for label in labels:
            face = Type(size, 700, colour_of(step_of(label)))
            left = self.page.write(label, (left, baseline), face, width=right - left)
        return left

    def _operations(self, operations: Sequence[str], box: Rectangle) -> None:
        metrics = self._layout.metrics
        size = 13 if metrics.is_comfortable else 11
        shown = operations[-MAX_OPERATIONS:]
        for line, operation in enumerate(shown, start=1):
            baseline = box.bottom + metrics.name_line + line * metrics.operation_line - 6
            face = Type(size, 500, INK) if line == len(shown) else Type(size, 400, GREY)
            self.page.write(operation, (box.left, baseline), face, width=box.width)

    def _band_label(self, band: Band) -> None:
        metrics = self._layout.metrics
        top = band.top + metrics.family_line
        num_images = len(band.places)
        lines = (
            (f"{band.depth}", Type(self._px(34), 300), self._px(26)),
            ("transform" if band.depth == 1 else "transforms", Type(self._px(12)), self._px(48)),
            (
                f"{num_images:,} image{'s'[: num_images > 1]}",
                Type(self._px(12), 400, GREY),
                self._px(64),
            ),
        )
        for text, face, below in lines:
            self.page.write(text, (metrics.margin, top + below), face)

    def _family(self, family: Family) -> None:
        metrics = self._layout.metrics
        left, right = family.left, family.left + family.width
        middle = family.top + metrics.family_line // 2
        if metrics.names:
            left = self._parent(family, (left, middle + 4)) + 6
        self.page.fill(
            Rectangle(left, middle, max(0, right - left), 2 if metrics.names else 1), LINE
        )

    def _parent(self, family: Family, at: tuple[int, int]) -> int:
        right = family.left + family.width
        if family.parent == ROOT:
            return self.page.write(ROOT, at, Type(12, 600), width=family.width)
        return self._letters(labels_of(family.parent), at, 12, right)
