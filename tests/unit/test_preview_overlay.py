"""A preview shows masks and boxes where they are."""

from pathlib import Path

import cv2
import numpy as np
from typer.testing import CliRunner

from kaleidoscope.cli import app
from kaleidoscope.model import StoredTargets
from kaleidoscope.preview import ContactSheet, SheetStyle, contact_sheet
from kaleidoscope.preview.overlay import overlaid
from kaleidoscope.recipe import Recipe
from kaleidoscope.targets import Box, ImageTargets, MaskImage
from tests import image_files

GREY = np.full((40, 60, 3), 128, np.uint8)
RECIPE = {
    "transforms": ["HorizontalFlip"],
    "normalize": {"mode": "none"},
    "targets": {"masks": "masks", "labels": "labels.jsonl", "boxes": "coco"},
}


def changed(image: "np.typing.NDArray[np.uint8]") -> tuple[int, int, int, int]:
    """Left, top, width and height of what differs from grey."""
    left, top, width, height = cv2.boundingRect((image != 128).any(axis=2).astype(np.uint8))
    return left, top, width, height


def test_a_mask_is_tinted_by_value_and_its_background_is_not() -> None:
    mask = np.zeros((40, 60), np.uint16)
    mask[5:15, 10:30] = 1
    mask[20:30, 10:30] = 300
    shown = overlaid(GREY, ImageTargets(MaskImage(mask)))
    assert changed(shown) == (10, 5, 20, 25)
    assert (shown[7, 15] != shown[25, 15]).any()
    assert (GREY == 128).all()


def test_a_mask_of_colours_shows_them() -> None:
    mask = np.zeros((40, 60, 3), np.uint8)
    mask[3:6, 2:9] = (255, 0, 0)
    shown = overlaid(GREY, ImageTargets(MaskImage(mask)))
    assert changed(shown) == (2, 3, 7, 3)
    assert shown[4, 4].argmax() == 0


def test_boxes_are_drawn_by_category_unless_they_were_dropped() -> None:
    boxes = (
        Box(4, 5, 20, 30, "cat"),
        Box(30, 5, 50, 30, "dog"),
        Box(0, 0, 60, 40, is_dropped=True),
    )
    shown = overlaid(GREY, ImageTargets(boxes=boxes))
    assert changed(shown) == (4, 5, 46, 25)
    assert (shown[5, 10] != shown[5, 40]).any()
    assert (shown[10:20, 10:15] == 128).all()


def test_without_masks_and_boxes_the_image_is_as_it_is() -> None:
    assert overlaid(GREY, ImageTargets()) is GREY


def sheet(known: StoredTargets) -> ContactSheet:
    data = image_files.opencv(".png", GREY)
    style = SheetStyle(tile_px=120, format="png")
    return contact_sheet(data, Recipe.from_mapping(RECIPE), known=known, style=style)


def test_a_contact_sheet_shows_them_moved() -> None:
    objects = '{"bbox": [[0, 0, 30, 40]], "categories": ["left half"]}'
    drawn = sheet(StoredTargets(objects=objects))
    pixels = cv2.imdecode(np.frombuffer(drawn.data, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    halves = {}
    for tile in drawn.tiles:
        box = tile.box
        inside = pixels[box.top : box.bottom, box.left : box.right]
        middle = box.width // 2
        parts = inside[:, : middle - 2], inside[:, middle + 2 :]
        halves[tile.node] = [bool((part != 128).any()) for part in parts]
    assert halves == {"root": [True, False], "a": [False, True]}


def test_the_command_finds_what_belongs_to_a_photograph(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    image = tmp_path / "images" / "0.png"
    image.write_bytes(image_files.opencv(".png", GREY))
    mask = np.ones((40, 60), np.uint8)
    (tmp_path / "masks" / "0.png").write_bytes(image_files.opencv(".png", mask))
    (tmp_path / "labels.jsonl").write_text('{"file_name": "images/0.png", "objects": null}')
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(Recipe.from_mapping(RECIPE).to_yaml())
    output = tmp_path / "sheet.png"
    command = ["preview", str(image), "--recipe", str(recipe), "--output", str(output)]
    assert CliRunner().invoke(app, command).exit_code == 0
    tinted = output.read_bytes()
    (tmp_path / "masks" / "0.png").write_bytes(image_files.opencv(".png", 0 * mask))
    assert CliRunner().invoke(app, command).exit_code == 0
    assert output.read_bytes() != tinted
