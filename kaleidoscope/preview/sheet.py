"""Draw the contact sheet of one photograph: its root, and every output of its tree."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from kaleidoscope.augment import Augmenter, Root
from kaleidoscope.codecs import EncodeSpec, encode
from kaleidoscope.errors import RecipeError, SettingsError
from kaleidoscope.model import NOTHING_KNOWN, NodeChoice, StoredTargets
from kaleidoscope.preview.captions import describe
from kaleidoscope.preview.drawing import Drawing
from kaleidoscope.preview.layout import MIN_TILE_PX, Layout, arrange
from kaleidoscope.preview.overlay import overlaid
from kaleidoscope.preview.page import Rectangle
from kaleidoscope.recipe import LETTERS, Recipe, Select
from kaleidoscope.tree import ALL_NODES, ROOT, Node, Tree

SheetFormat: TypeAlias = Literal["png", "jpeg", "webp"]


@dataclass(frozen=True, slots=True)
class SheetStyle:
    """How large a sheet is, and as what it is encoded."""

    tile_px: int = 160
    """Width of a tile in pixels, at least 16; a sheet of very many gets smaller ones."""

    max_tiles: int | None = None
    """At most so many tiles, those nearest to the root; None for all."""

    format: SheetFormat = "png"

    quality: int = 85
    """JPEG and WebP: dimensionless, 1 to 100."""

    def __post_init__(self) -> None:
        """Refuse sizes that nothing can be drawn in.

        Raises:
            SettingsError: If a size is too small.
        """
        if self.tile_px < MIN_TILE_PX:
            raise SettingsError(f"tile_px must be at least {MIN_TILE_PX}, got {self.tile_px}")
        if self.max_tiles is not None and self.max_tiles < 1:
            raise SettingsError(f"max_tiles must be at least 1 or none, got {self.max_tiles}")


SMALL_SHEET = SheetStyle(tile_px=96, max_tiles=64, format="webp", quality=70)
"""For a place that takes little, such as an image inside a document."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One output on a sheet."""

    node: str

    operations: tuple[str, ...]
    """What was done to the root, in order, for example ``Rotate 37°``; empty for the root."""

    box: Rectangle
    """The pixels of the sheet that show it."""

    @property
    def caption(self) -> str:
        """Name and operations on one line."""
        return f"{self.node}: {', '.join(self.operations)}" if self.operations else self.node


@dataclass(frozen=True, slots=True)
class ContactSheet:
    """An encoded picture, and what is to be seen on it."""

    data: bytes
    format: SheetFormat
    width: int
    """Pixels."""
    height: int
    """Pixels."""
    tiles: tuple[Tile, ...]
    """The root first if it is an output, then by depth and in the order of the tree."""
    num_left_out: int
    """Outputs that ``max_tiles`` kept off the sheet."""
    not_for: str = ""
    """Steps without which the tree is drawn, since they are not for the photograph's label, for
    example ``not for left: b HorizontalFlip``."""

    @property
    def num_tiles(self) -> int:
        """Outputs on the sheet."""
        return len(self.tiles)


def contact_sheet(  # noqa: PLR0913 -- a photograph, a recipe, and what to call and draw them.
    data: bytes,
    recipe: Recipe,
    *,
    known: StoredTargets = NOTHING_KNOWN,
    image_name: str = "photograph",
    recipe_name: str = "",
    style: SheetStyle = SheetStyle(),
) -> ContactSheet:
    """Grow the tree of a source and draw all outputs of it on one page.

    Masks and boxes are shown on the images. The same source, recipe, names, style and what is
    known give the same bytes.

    Args:
        data: The source's bytes.
        recipe: What to make of it.
        known: What belongs to the source: a label, which may forbid some steps, a mask and boxes.
        image_name: The sheet's heading.
        recipe_name: What the user calls the recipe; by default the sheet gives its digest.
        style: Size and format.

    Raises:
        CodecError: If ``data`` is not an image that can be decoded within the recipe's limits.
        RecipeError: If the recipe's selection leaves no node at all, or none for the label.
        TargetError: If the mask or a box does not fit the image.
        TransformError: If a transform cannot be applied to this image.
    """
    root = Augmenter(recipe).root(data, known)
    outputs = _outputs(recipe, root, known.label)
    shown = outputs[: style.max_tiles]
    num_left_out = len(outputs) - len(shown)
    drawing = Drawing(_arrange(shown, recipe, root, style), recipe)
    tiles, num_bytes = _draw_tiles(drawing, _only(recipe, shown), root)
    drawing.heading(
        image_name,
        _facts(recipe, root, recipe_name, _count(tiles, outputs, num_bytes)),
    )
    drawing.legend(known.label)
    drawing.bands(num_left_out)
    height, width = drawing.page.pixels.shape[:2]
    return ContactSheet(
        data=encode(drawing.page.pixels, EncodeSpec(style.format, style.quality)),
        format=style.format,
        width=width,
        height=height,
        tiles=tiles,
        num_left_out=num_left_out,
        not_for=_not_for(recipe, known.label),
    )


def _outputs(recipe: Recipe, root: Root, label: str | None) -> tuple[Node, ...]:
    tree, choice = Tree(recipe), ALL_NODES
    if label in recipe.forbidden_labels:
        choice = NodeChoice(frozenset(tree.selected_for(label)))
    nodes = [node for node in tree.nodes(root.sha256, choice=choice) if node.is_output]
    if not nodes:
        raise RecipeError(
            f"nothing is made of a photograph labelled {label!r}: all that select leaves of the "
            "tree is not for it"
        )
    return tuple(sorted(nodes, key=lambda node: node.depth))  # Stable, so siblings stay together.


def _not_for(recipe: Recipe, label: str | None) -> str:
    steps = zip(LETTERS, recipe.transforms, strict=False)
    names = [f"{letter} {step.name}" for letter, step in steps if label in step.not_for]
    return f"not for {label}: {', '.join(names)}" if names else ""


def _only(recipe: Recipe, shown: Sequence[Node]) -> Recipe:
    """Return a recipe that grows ``shown`` and no more; the images are the same in any tree."""
    others = tuple(node.name for node in shown if node.name != ROOT)
    select = Select(
        max_depth=max(1, shown[-1].depth),
        include=others,
        exclude=() if others else ("*",),
        keep_original=len(others) < len(shown),
    )
    return recipe.model_copy(update={"select": select})


def _arrange(shown: Sequence[Node], recipe: Recipe, root: Root, style: SheetStyle) -> Layout:
    height, width = root.image.shape[:2]
    return arrange(
        [node for node in shown if node.name != ROOT],
        ratio=height / width,
        tile_px=style.tile_px,
        num_steps=len(recipe.transforms),
    )


def _draw_tiles(drawing: Drawing, recipe: Recipe, root: Root) -> tuple[tuple[Tile, ...], int]:
    """Draw the images, and return the outputs in the order of the sheet and their total bytes."""
    shown_root = overlaid(root.image, root.targets)
    drawn_root = drawing.root(shown_root, is_output=recipe.select.keep_original)
    tiles: list[tuple[int, Tile]] = []
    num_bytes = 0
    for output in Augmenter(recipe).outputs(root):
        node, chain = output.growth.node, output.growth.chain
        box = drawn_root if node.name == ROOT else drawing.tile(output.growth)
        tiles.append((node.depth, Tile(node.name, tuple(map(describe, chain)), box)))
        num_bytes += len(output.data)
    return tuple(tile for _, tile in sorted(tiles, key=lambda pair: pair[0])), num_bytes


def _count(tiles: Sequence[Tile], outputs: Sequence[Node], num_bytes: int) -> str:
    if len(tiles) < len(outputs):
        return f"{len(tiles):,} of {len(outputs):,} images"
    images = "1 image" if len(tiles) == 1 else f"{len(tiles):,} images"
    megabytes = num_bytes / 1e6
    return (
        f"{images}, {megabytes:.3g} MB" if megabytes >= 1 else f"{images}, {num_bytes // 1000} KB"
    )


def _facts(recipe: Recipe, root: Root, recipe_name: str, count: str) -> str:
    facts = [count, f"recipe {recipe_name or recipe.digest}", f"seed {recipe.seed}"]
    if recipe.order == "shuffled":
        facts.append("order " + " ".join(LETTERS[step] for step in Tree(recipe).order(root.sha256)))
    return "  ·  ".join(facts)
