"""Masks and boxes of a run are where Albumentations has them by the parameters that rows record."""

import importlib
import json
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import pytest

from kaleidoscope.lineage import Lineage
from kaleidoscope.model import Mask
from kaleidoscope.outputs import decode_output_mask
from kaleidoscope.recipe import Recipe
from kaleidoscope.transforms.rotate import zoom_without_blank_corners
from tests import data_sets, image_files
from tests.data_sets import Place
from tests.laws.test_targets import affine, check_within_a_pixel, quarter_turns

A: Any = importlib.import_module("albumentations")

WIDTH, HEIGHT = 90, 64
BOXES = [[12, 8, 34, 40], [40, 20, 41, 30]]
"""Left, top, width and height."""

RECIPE = {
    "transforms": [
        "HorizontalFlip",
        {"name": "Rotate", "copies": 3, "params": {"limit": [-40, 40]}},
        "Contrast",
        "RandomRotate90",
        "VerticalFlip",
    ],
    "normalize": {"mode": "none"},
    "targets": {"labels": "labels.jsonl", "masks": "masks", "boxes": "coco"},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A photograph, and every chain of the recipe made of it."""
    picture = image_files.opencv(".jpg", image_files.picture(WIDTH, HEIGHT))
    made = data_sets.local(tmp_path_factory.mktemp("annotated"), {"0.jpg": picture})
    made.source.put("masks/0.png", image_files.opencv(".png", source_mask()))
    row = {"file_name": "0.jpg", "objects": {"bbox": BOXES, "categories": ["one", "two"]}}
    made.source.put("labels.jsonl", json.dumps(row).encode())
    made.run(Recipe.from_mapping(RECIPE))
    return made


def source_mask() -> Mask:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for value, (left, top, width, height) in enumerate(BOXES, start=1):
        mask[top : top + height, left : left + width] = value
    return mask


def theirs(ops: Sequence[dict[str, Any]]) -> list[Any]:
    """The transforms of Albumentations that do what a row says was done."""
    size = (WIDTH, HEIGHT)
    transforms = [A.NoOp(p=1)]
    for op in ops:
        params = op["params"]
        match op["op"]:
            case "HorizontalFlip":
                transforms.append(A.HorizontalFlip(p=1))
            case "VerticalFlip":
                transforms.append(A.VerticalFlip(p=1))
            case "RandomRotate90":
                transforms.append(quarter_turns(params["quarter_turns"]))
                size = size[::-1] if params["quarter_turns"] % 2 else size
            case "Rotate":
                zoom = zoom_without_blank_corners(*size, params["angle_deg"])
                transforms.append(affine(zoom, params["angle_deg"], (0, 0), cv2.BORDER_REPLICATE))
            case other:
                assert other in {"normalize", "Contrast"}
    return transforms


def test_every_chain_of_a_run_agrees_within_a_pixel(place: Place) -> None:
    rows = [row for batch in Lineage(place.destination).scan() for row in batch.to_pylist()]
    assert len(rows) == 2**4 * 4
    num_boxes = 0
    for row in rows:
        pipeline = A.Compose(
            theirs(json.loads(row["ops"])),
            bbox_params=A.BboxParams("coco", label_fields=["names"]),
        )
        wanted = pipeline(
            image=np.zeros((HEIGHT, WIDTH, 3), np.uint8),
            mask=source_mask(),
            bboxes=BOXES,
            names=["one", "two"],
        )
        objects = json.loads(row["objects"])
        assert objects["categories"] == list(wanted["names"])
        for box, other in zip(objects["bbox"], wanted["bboxes"], strict=True):
            assert box == pytest.approx(tuple(other), abs=1)
            num_boxes += 1
        mask = decode_output_mask(place.destination.get(row["mask_key"]).data)
        for value in range(1, len(BOXES) + 1):
            one, other = ((each == value).astype(np.uint8) for each in (mask, wanted["mask"]))
            check_within_a_pixel(one, other)
    assert num_boxes > len(rows)
