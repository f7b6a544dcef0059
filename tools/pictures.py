"""Draw the pictures of the README: ``python -m tools.pictures``.

The same photographs and recipes give the same bytes, so a run that changes nothing leaves no trace
in the repository.
"""

import json
from pathlib import Path

import cv2
import numpy as np

from kaleidoscope.augment import Augmenter
from kaleidoscope.codecs import EncodeSpec, encode, encode_mask, probe
from kaleidoscope.model import StoredTargets
from kaleidoscope.preview import SheetStyle, contact_sheet, describe
from kaleidoscope.preview.drawing import colour_of
from kaleidoscope.preview.page import GREY, INK, LINE, Colour, Page, Rectangle, Type
from kaleidoscope.recipe import LETTERS, Recipe
from kaleidoscope.tree import ROOT, Growth

ROOT_FOLDER = Path(__file__).parents[1]
PHOTOS = ROOT_FOLDER / "examples" / "photos"
IMAGES = ROOT_FOLDER / "docs" / "images"

MAX_BYTES = 400_000
"""Of each picture, so that the README opens quickly."""

THREE_STEPS = Recipe.from_mapping(
    {
        "transforms": [
            {"name": "Rotate", "params": {"limit": [20, 40]}},
            {"name": "Hue", "params": {"hue_shift_limit": [110, 150]}},
            {"name": "HorizontalFlip"},
        ]
    }
)

WITH_TARGETS = Recipe.from_mapping(
    {
        "transforms": [
            "HorizontalFlip",
            {"name": "Rotate", "params": {"limit": [12, 24]}},
            {"name": "Perspective", "params": {"scale": [0.1, 0.12]}},
        ],
        "normalize": {"mode": "fit"},
        "targets": {"labels": "labels.jsonl", "masks": "masks", "boxes": "coco"},
    }
)

_OVALS = {
    "saucer": ((0.463, 0.505), (0.335, 0.46)),
    "cup": ((0.485, 0.305), (0.195, 0.27)),
}
"""Centre and half axes of what is on a photograph, as shares of width and height."""

_TILE = 200
_PITCH_X, _PITCH_Y = 340, 268
_MARGIN = 64
_CURVE_PX = 36
_LINE_PX = 4


def draw_tree(data: bytes, recipe: Recipe) -> bytes:
    """Return a picture of the tree of a source as JPEG.

    A first child stands right of its parent, and each further one in a row of its own below.

    Args:
        data: The source's bytes.
        recipe: Three steps, in the given order.
    """
    augmenter = Augmenter(recipe)
    root = augmenter.root(data)
    growths = [
        Growth(output.growth.node, output.growth.image.copy(), output.growth.chain)
        for output in augmenter.outputs(root)
    ]
    places = _places(growths)
    depth = max(growth.node.depth for growth in growths)
    bottom = max(box.bottom for box in places.values())
    page = Page(2 * _MARGIN + depth * _PITCH_X + _TILE, bottom + _MARGIN + 24)
    # The last rows of a tree are short: there is room beside them.
    _write_sum(page, growths, (_MARGIN + 2 * _PITCH_X, bottom - _TILE + 62))
    for growth in growths:
        if growth.node.parent is not None:
            _draw_edge(page, places[growth.node.parent], places[growth.node.name], growth)
    for growth in growths:
        box = places[growth.node.name]
        page.place(growth.image, box)
        _write_name(page, growth, box)
    return encode(page.pixels, EncodeSpec("jpeg", 88, subsampling="4:4:4"))


def _places(growths: list[Growth]) -> dict[str, Rectangle]:
    places: dict[str, Rectangle] = {}
    row = -1
    last_depth = len(growths)
    for growth in growths:
        depth = growth.node.depth
        row += depth <= last_depth
        last_depth = depth
        left, top = _MARGIN + depth * _PITCH_X, _MARGIN + row * _PITCH_Y
        places[growth.node.name] = Rectangle(left, top, _TILE, _TILE)
    return places


def _write_sum(page: Page, growths: list[Growth], at: tuple[int, int]) -> None:
    num_edges = len(growths) - 1
    num_chained = sum(growth.node.depth for growth in growths)
    left, baseline = at
    page.write(f"{len(growths)} images, {num_edges} transform calls", at, Type(34, 600))
    lines = (
        "Each arrow is computed once, for all that follows it.",
        f"Image by image from the root it would be {num_chained}.",
    )
    for number, line in enumerate(lines, start=1):
        page.write(line, (left, baseline + 8 + 30 * number), Type(20, 400, GREY))


def _draw_edge(page: Page, parent: Rectangle, child: Rectangle, growth: Growth) -> None:
    colour = colour_of(growth.node.step)
    y = child.top + _TILE // 2
    if parent.top == child.top:
        points = [(parent.right + 8, y), (child.left - 12, y)]
    else:
        # Down from below the parent's picture, so that no line crosses another one's label.
        x = parent.left + _TILE // 2
        # Grey as far as the line is that of the later children too.
        turn = y - _CURVE_PX
        cv2.line(page.pixels, (x, parent.bottom + 14), (x, turn), LINE, _LINE_PX, cv2.LINE_AA)
        points = [*_quarter_turn(x, y), (child.left - 12, y)]
    _stroke(page, points, colour)
    _write_label(page, growth, Rectangle(parent.right, y, child.left - parent.right, 0), colour)


def _quarter_turn(x: int, y: int) -> list[tuple[int, int]]:
    angles = np.linspace(0, np.pi / 2, 16)
    return [
        (
            round(x + _CURVE_PX * (1 - np.cos(angle))),
            round(y - _CURVE_PX * (1 - np.sin(angle))),
        )
        for angle in angles
    ]


def _stroke(page: Page, points: list[tuple[int, int]], colour: Colour) -> None:
    line = np.array(points, np.int32)
    cv2.polylines(page.pixels, [line], False, colour, _LINE_PX, cv2.LINE_AA)
    x, y = points[-1]
    arrow = np.array([(x - 4, y - 9), (x + 10, y), (x - 4, y + 9)], np.int32)
    cv2.fillPoly(page.pixels, [arrow], colour, cv2.LINE_AA)


def _write_label(page: Page, growth: Growth, room: Rectangle, colour: Colour) -> None:
    letter = LETTERS[growth.node.step]
    said = describe(growth.chain[-1]).removeprefix("Horizontal")
    x = page.write(letter, (room.left + 12, room.top - 14), Type(22, 700, colour))
    page.write(said, (x + 7, room.top - 14), Type(17), width=room.right - x - 12)


def _write_name(page: Page, growth: Growth, box: Rectangle) -> None:
    baseline = box.bottom + 29
    if growth.node.name == ROOT:
        page.write(ROOT, (box.left, baseline), Type(24, 700, INK))
        return
    x = box.left
    for letter in growth.node.name:
        x = page.write(letter, (x, baseline), Type(24, 700, colour_of(LETTERS.index(letter))))


def draw_sheet(data: bytes) -> bytes:
    """Return the contact sheet of a source for the preset ``classic`` as JPEG."""
    style = SheetStyle(tile_px=128, format="jpeg", quality=60)
    recipe = Recipe.preset("classic")
    return contact_sheet(
        data, recipe, image_name="dandelion.jpg", recipe_name="classic", style=style
    ).data


def draw_targets(data: bytes) -> bytes:
    """Return the contact sheet of a source with a mask of ovals, and their boxes, as JPEG."""
    header = probe(data, max_pixels=10**8)
    mask = np.zeros((header.height, header.width), np.uint8)
    boxes = []
    for value, oval in enumerate(_OVALS.values(), start=1):
        centre, axes = ((round(header.width * x), round(header.height * y)) for x, y in oval)
        own = cv2.ellipse(np.zeros_like(mask), centre, axes, 0, 0, 360, 1, cv2.FILLED)
        mask[own > 0] = value
        boxes.append(cv2.boundingRect(own))
    objects = json.dumps({"bbox": boxes, "categories": list(_OVALS)})
    return contact_sheet(
        data,
        WITH_TARGETS,
        known=StoredTargets(None, objects, encode_mask(mask)),
        image_name="coffee.jpg",
        recipe_name="recipe.yaml",
        style=SheetStyle(tile_px=190, format="jpeg", quality=80),
    ).data


def main() -> None:
    """Write all pictures and say how large they are."""
    dandelion = (PHOTOS / "plants" / "dandelion.jpg").read_bytes()
    (coffee,) = (path.read_bytes() for path in PHOTOS.glob("*/coffee.jpg"))
    raccoon = (PHOTOS / "animals" / "raccoon.jpg").read_bytes()
    pictures = {
        "tree.jpg": draw_tree(raccoon, THREE_STEPS),
        "contact-sheet.jpg": draw_sheet(dandelion),
        "masks-and-boxes.jpg": draw_targets(coffee),
    }
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name, data in pictures.items():
        if len(data) > MAX_BYTES:
            raise SystemExit(f"{name} has {len(data)} bytes, more than {MAX_BYTES}")
        (IMAGES / name).write_bytes(data)
        print(f"docs/images/{name}  {len(data) // 1000} KB")


if __name__ == "__main__":
    main()
