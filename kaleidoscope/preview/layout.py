"""Where everything goes on a contact sheet; pure arithmetic on the nodes of the tree.

The sheet has a band for each depth of the tree. Inside a band the nodes keep the order of the tree,
so those of one parent stand side by side and a line above joins them.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kaleidoscope.preview.page import Rectangle
from kaleidoscope.tree import ROOT, Node

MAX_PAGE_PIXELS = 16_000_000
"""A sheet of more tiles gets smaller tiles, down to :data:`MIN_TILE_PX`."""

MIN_TILE_PX = 16

OPERATIONS_FROM_PX = 96
"""Tiles at least so wide list their operations."""

NAMES_FROM_PX = 52
"""Tiles at least so wide are named."""

MAX_OPERATIONS = 8
"""Lines of a caption; of a longer chain the last ones."""


ROOT_PX = 256
LEGEND_TOP_PX = 106
LEGEND_LINE_PX = 25
LEGEND_COLUMNS = 2

_BAND_LABEL_PX = 72
_FOOTER_PX = 40
_MIN_PAGE_WIDTH_PX = 960
_ASPECT = 0.8
"""Width by height of the page that is aimed at: upright, as one scrolls."""

_COMFORTABLE_PX = 128
"""Tiles at least so wide have room for captions in a larger type."""

_SHRINK = 0.94


@dataclass(frozen=True, slots=True)
class Place:
    """A node and the room for its picture; its caption goes below."""

    node: Node
    box: Rectangle


@dataclass(frozen=True, slots=True)
class Family:
    """Nodes of one parent that stand side by side in one row."""

    parent: str
    left: int
    """Pixel column where the line above them begins."""
    top: int
    """Pixel row of that line."""
    width: int
    """Pixels from the first picture's left to the last one's right."""


@dataclass(frozen=True, slots=True)
class Band:
    """All nodes of one depth."""

    depth: int
    top: int
    """Pixel row of its first line."""
    places: tuple[Place, ...]
    families: tuple[Family, ...]


@dataclass(frozen=True, slots=True)
class Metrics:
    """Sizes that follow from the width of a tile, in pixels."""

    tile_width: int
    tile_height: int
    root_height: int
    scale: float
    """Of headings, dimensionless: a page of many tiles is looked at from farther away."""
    num_steps: int
    """Of the recipe; the header lists them."""

    @property
    def margin(self) -> int:
        """Around the page."""
        return round(56 * self.scale)

    @property
    def gutter(self) -> int:
        """For the labels of the bands, left of the tiles."""
        return round(104 * self.scale)

    @property
    def header(self) -> int:
        """From the top of the page to the first band."""
        legend = round((LEGEND_TOP_PX + self.legend_rows * LEGEND_LINE_PX) * self.scale)
        return self.margin + max(self.root_height, legend) + round(64 * self.scale)

    @property
    def legend_rows(self) -> int:
        """Lines of the longest column in the list of steps."""
        return math.ceil(self.num_steps / LEGEND_COLUMNS) if self.num_steps > 6 else self.num_steps  # noqa: PLR2004

    @property
    def root_width(self) -> int:
        """Of the room for the root's picture."""
        return round(ROOT_PX * self.scale)

    @property
    def gap(self) -> int:
        """Between tiles of a row."""
        return max(3, self.tile_width // 10)

    @property
    def family_line(self) -> int:
        """Above each row, for the lines that join families."""
        return 26 if self.names else 6

    @property
    def name_line(self) -> int:
        """For the name below a tile."""
        if not self.names:
            return 0
        return 25 if self.is_comfortable else 18

    @property
    def operation_line(self) -> int:
        """For each operation below the name."""
        if not self.operations:
            return 0
        return 17 if self.is_comfortable else 14

    @property
    def is_comfortable(self) -> bool:
        """Whether captions are set in the larger type."""
        return self.tile_width >= _COMFORTABLE_PX

    @property
    def names(self) -> bool:
        """Whether tiles are named."""
        return self.tile_width >= NAMES_FROM_PX

    @property
    def operations(self) -> bool:
        """Whether tiles list their operations."""
        return self.tile_width >= OPERATIONS_FROM_PX

    def row_height(self, depth: int) -> int:
        """Return the height of a row of tiles, with the line above and the caption below."""
        caption = self.name_line + self.operation_line * min(depth, MAX_OPERATIONS)
        return self.family_line + self.tile_height + caption + self.gap

    def band_height(self, depth: int, num_rows: int) -> int:
        """Return the height of a band, with the space below it."""
        label = round(_BAND_LABEL_PX * self.scale)
        tiles = num_rows * self.row_height(depth)
        return max(tiles, label) + max(8, round(26 * self.scale))


@dataclass(frozen=True, slots=True)
class Layout:
    """A contact sheet before anything is drawn."""

    width: int
    height: int
    metrics: Metrics
    bands: tuple[Band, ...]


def arrange(nodes: Sequence[Node], *, ratio: float, tile_px: int, num_steps: int) -> Layout:
    """Lay out a sheet.

    Args:
        nodes: Without the root, in the order of the tree; may be empty.
        ratio: Height by width of the root.
        tile_px: Width of a tile at most.
        num_steps: Of the recipe.
    """
    depths = sorted({node.depth for node in nodes})
    by_depth = [[node for node in nodes if node.depth == depth] for depth in depths]
    counts = [(depth, len(band)) for depth, band in zip(depths, by_depth, strict=True)]
    tile_width = tile_px
    while True:
        metrics = _metrics(tile_width, ratio, min(2.0, tile_px / tile_width), num_steps)
        columns = _best_columns(metrics, counts)
        width, height = _page_size(metrics, counts, columns)
        if width * height <= MAX_PAGE_PIXELS or tile_width <= MIN_TILE_PX:
            break
        tile_width = max(MIN_TILE_PX, int(tile_width * _SHRINK))
    return Layout(width, height, metrics, _bands(metrics, by_depth, columns))


def _metrics(tile_width: int, ratio: float, scale: float, num_steps: int) -> Metrics:
    # Not flatter than 1:2, for a tree that turns a wide picture upright has both.
    tile_height = round(tile_width * min(max(ratio, 0.5), 1.0))
    root_height = max(1, round(ROOT_PX * scale * min(ratio, 1.0)))
    return Metrics(tile_width, tile_height, root_height, scale, num_steps)


def _best_columns(metrics: Metrics, counts: Sequence[tuple[int, int]]) -> int:
    widest = max((count for _, count in counts), default=1)

    def ugliness(columns: int) -> tuple[float, int]:
        width, height = _page_size(metrics, counts, columns)
        return abs(math.log(width / height / _ASPECT)), columns

    return min(range(1, widest + 1), key=ugliness)


def _page_size(
    metrics: Metrics, counts: Sequence[tuple[int, int]], columns: int
) -> tuple[int, int]:
    longest = max((_row_length(count, columns) for _, count in counts), default=1)
    tiles = longest * (metrics.tile_width + metrics.gap) - metrics.gap
    width = metrics.margin + metrics.gutter + tiles + metrics.margin
    bands = (metrics.band_height(depth, math.ceil(count / columns)) for depth, count in counts)
    height = metrics.header + sum(bands) + round(_FOOTER_PX * metrics.scale)
    return max(width, round(_MIN_PAGE_WIDTH_PX * metrics.scale)), height


def _bands(metrics: Metrics, by_depth: Sequence[Sequence[Node]], columns: int) -> tuple[Band, ...]:
    top = metrics.header
    bands = []
    for nodes in by_depth:
        bands.append(_band(metrics, nodes, top, columns))
        num_rows = math.ceil(len(nodes) / columns)
        top += metrics.band_height(nodes[0].depth, num_rows)
    return tuple(bands)


def _band(metrics: Metrics, nodes: Sequence[Node], top: int, columns: int) -> Band:
    num_rows = math.ceil(len(nodes) / columns)
    in_row = _row_length(len(nodes), columns)
    depth = nodes[0].depth
    places: list[Place] = []
    families: list[Family] = []
    for row in range(num_rows):
        members = nodes[row * in_row : (row + 1) * in_row]
        row_top = top + row * metrics.row_height(depth)
        places += _row(metrics, members, row_top)
        families += _families(places[-len(members) :], row_top)
    return Band(depth, top, tuple(places), tuple(families))


def _row_length(count: int, columns: int) -> int:
    # Rows of about one length: 8 + 7 looks meant, 10 + 5 looks left over.
    return math.ceil(count / math.ceil(count / columns))


def _row(metrics: Metrics, nodes: Sequence[Node], top: int) -> Iterator[Place]:
    pitch = metrics.tile_width + metrics.gap
    left = metrics.margin + metrics.gutter
    for column, node in enumerate(nodes):
        at = left + column * pitch, top + metrics.family_line
        yield Place(node, Rectangle(*at, metrics.tile_width, metrics.tile_height))


def _families(places: Sequence[Place], top: int) -> Iterator[Family]:
    for parent, group in itertools.groupby(places, key=lambda place: place.node.parent):
        members = tuple(group)
        left, right = members[0].box.left, members[-1].box.right
        yield Family(parent or ROOT, left, top, right - left)
