"""Masks and boxes of sources go with every output, into its row and beside it."""

import io
import json
import tarfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from kaleidoscope.card import write_card
from kaleidoscope.codecs import decode_mask
from kaleidoscope.errors import PlanError, RecipeError
from kaleidoscope.lease import Holder, hold
from kaleidoscope.lineage import Lineage
from kaleidoscope.model import Mask
from kaleidoscope.outputs import read_output
from kaleidoscope.pipeline import make_plan
from kaleidoscope.planning import Plan
from kaleidoscope.pruning import prune
from kaleidoscope.recipe import Recipe
from kaleidoscope.runs import list_runs
from kaleidoscope.transforms import TRANSFORMS, Operation, Transform
from kaleidoscope.verification import VerifyOptions, replay_outputs, verify
from tests import data_sets, image_files
from tests.data_sets import MANY_SHARDS, NOW, Place

DAY = timedelta(days=1)
WIDTH, HEIGHT = 64, 48
BOXES: dict[str, list[list[int]]] = {
    "cats/0.jpg": [[10, 5, 20, 30], [40, 8, 12, 9]],
    "cats/1.jpg": [[0, 0, WIDTH, HEIGHT]],
    "flat.jpg": [],
}
"""Left, top, width and height."""

NAMES = ["tom", "bowl"]
CAT, BOWL = 7, 200
STEPS = [
    {"name": "HorizontalFlip"},
    {"name": "Rotate", "params": {"limit": [-20, 20]}},
    {"name": "Brightness"},
    {"name": "RandomRotate90"},
]


def recipe(steps: Any = STEPS, **fields: Any) -> Recipe:
    targets = {"labels": "labels.jsonl", "masks": "masks", "boxes": "coco"}
    document = {"transforms": steps, "targets": targets, "normalize": {"mode": "none"}, **fields}
    return Recipe.from_mapping({"limits": {"max_error_rate": 1.0}, **document})


def mask_of(boxes: list[list[int]]) -> Mask:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for value, (left, top, width, height) in zip((CAT, BOWL), boxes, strict=False):
        mask[top : top + height, left : left + width] = value
    return mask


def table(boxes: dict[str, Any]) -> bytes:
    rows = [
        {"file_name": key, "objects": {"bbox": own, "categories": NAMES[: len(own)]}}
        for key, own in boxes.items()
    ]
    return "\n".join(map(json.dumps, rows)).encode()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    images = {key: image_files.opencv(".jpg", image_files.picture(WIDTH, HEIGHT)) for key in BOXES}
    made = data_sets.local(tmp_path, images)
    for key, boxes in BOXES.items():
        made.source.put(f"masks/{key.removesuffix('jpg')}png", png(mask_of(boxes)))
    made.source.put("labels.jsonl", table(BOXES))
    return made


def is_whole(place: Place) -> bool:
    options = VerifyOptions()
    return verify(place.destination, options=options, open_source=lambda _: place.source).is_whole


def png(mask: Any) -> bytes:
    return image_files.opencv(".png", mask)


def records(place: Place) -> list[dict[str, Any]]:
    """The rows of outputs, with None where nothing is."""
    return [row for batch in Lineage(place.destination).scan() for row in batch.to_pylist()]


def masks_of(place: Place) -> dict[str, Mask]:
    return {row["output_id"]: mask_at(place, row) for row in records(place)}


def mask_at(place: Place, row: dict[str, Any]) -> Mask:
    where = row["tar_key"], row["mask_offset"], row["mask_size"]
    return decode_mask(read_output(place.destination, row["mask_key"], *where), max_pixels=10**6)


def plan(place: Place, made: Recipe) -> Plan:
    return make_plan(place.source, place.destination, made, options=MANY_SHARDS)


@pytest.mark.parametrize("container", ["files", "webdataset"])
def test_every_output_has_its_mask_and_boxes(place: Place, container: str) -> None:
    report = place.run(recipe(output={"container": container}))
    assert (report.num_outputs, report.num_failed) == (3 * 16, 0)
    masks = masks_of(place)
    assert len(masks) == 48
    for row in records(place):
        mask, objects = masks[row["output_id"]], json.loads(row["objects"])
        assert mask.shape == (row["height"], row["width"])
        values = {0, CAT, BOWL} if len(BOXES[row["source_key"]]) == 2 else {0, CAT}
        assert set(np.unique(mask).tolist()) <= values
        check_boxes(mask, objects, is_turned="b" in row["node"])
    assert is_whole(place)


def check_boxes(mask: Mask, objects: dict[str, Any], *, is_turned: bool) -> None:
    """A box lies close around what the mask has of it, and where nothing tilts it, exactly."""
    assert objects["format"] == "coco"
    for numbers, index, name in zip(
        objects["bbox"], objects["index"], objects["categories"], strict=True
    ):
        assert name == NAMES[index]
        left, top, width, height = numbers
        found = cv2.boundingRect((mask == (CAT, BOWL)[index]).astype(np.uint8))
        if not is_turned:
            assert found == (left, top, width, height)
            continue
        assert left - 1 <= found[0]
        assert top - 1 <= found[1]
        assert found[0] + found[2] <= left + width + 1
        assert found[1] + found[3] <= top + height + 1


def test_a_mask_is_named_as_its_image_and_lies_in_a_folder_of_its_own(place: Place) -> None:
    place.run(recipe())
    rows = place.rows()
    images = set(rows["output_key"])
    masks = {f"masks/{key.removesuffix('.jpg')}.png" for key in images}
    assert set(rows["mask_key"]) == masks
    assert place.output_keys() == images | masks
    assert (rows["source_mask_key"] == "masks/" + rows["source_key"].str[:-3] + "png").all()


def test_a_tar_has_the_mask_and_the_boxes_of_each_sample(place: Place) -> None:
    place.run(recipe(output={"container": "webdataset"}))
    for key in place.output_keys():
        with tarfile.open(fileobj=io.BytesIO(place.destination.get(key).data)) as tar:
            names = tar.getnames()
            samples = {name.partition(".")[0] for name in names}
            assert len(names) == 3 * len(samples)
            for sample in samples:
                assert f"{sample}.mask.png" in names
                document = json.load(tar.extractfile(f"{sample}.json") or io.BytesIO())
                assert set(document["objects"]) == {
                    *("format", "bbox", "categories", "visible", "index")
                }


def test_the_pixels_are_those_of_a_run_without_targets(place: Place, tmp_path: Path) -> None:
    place.run(recipe())
    plain = data_sets.local(tmp_path / "plain", {})
    for key in BOXES:
        plain.source.put(key, place.source.get(key).data)
    plain.run(recipe(targets=None))
    keys = set(place.rows()["output_key"])
    assert {key: place.destination.get(key).data for key in keys} == data_sets.outputs(plain)


@pytest.mark.parametrize("container", ["files", "webdataset"])
def test_masks_are_verified_and_made_again(place: Place, container: str) -> None:
    place.run(recipe(output={"container": container}))
    options = VerifyOptions(replays=True)
    found = verify(place.destination, options=options, open_source=lambda _: place.source)
    assert found.is_whole
    assert (found.num_rows, found.num_read, found.replays) == (48, 48, {"identical": 96})
    key = str(place.rows()["output_key"].iloc[3])
    replayed = replay_outputs(Lineage(place.destination), [key], open_source=lambda _: place.source)
    assert [output.outcome for output in replayed] == ["identical", "identical"]


def test_a_mask_that_is_missing_or_damaged_is_named(place: Place) -> None:
    place.run(recipe())
    gone, damaged = place.rows()["mask_key"].iloc[[5, 9]]
    place.destination.delete([gone])
    place.destination.put(damaged, png(np.ones((HEIGHT, WIDTH), np.uint8)))
    found = verify(
        place.destination, options=VerifyOptions(replays=True), open_source=lambda _: place.source
    )
    named = {(problem.kind, problem.key) for problem in found.examples}
    assert {("missing", gone), ("wrong_hash", damaged)} <= named
    assert not {key for kind, key in named if kind == "unknown_object"}


def test_what_has_no_mask_or_one_that_does_not_fit_fails_alone(place: Place) -> None:
    place.source.delete(["masks/flat.png"])
    place.source.put("masks/cats/1.png", png(np.zeros((HEIGHT, WIDTH - 1), np.uint8)))
    assert plan(place, recipe()).lacking == {"a mask in masks": 1}
    assert place.run(recipe()).num_failed == 2
    failed = place.rows().query("status == 'failed'").set_index("source_key")
    assert set(failed["error_type"]) == {"target"}
    assert "there is no mask of it in masks/" in failed["error_message"]["flat.jpg"]
    assert (
        "the mask has 63 x 48 pixels and its image 64 x 48" in failed["error_message"]["cats/1.jpg"]
    )


def test_a_mask_that_is_no_image_fails_its_source_alone(place: Place) -> None:
    place.source.put("masks/flat.png", b"no image")
    assert place.run(recipe()).num_failed == 1
    (message,) = place.rows().query("status == 'failed'")["error_message"]
    assert message.startswith("the mask cannot be used: ")


def test_a_box_outside_its_image_fails_its_source_alone(place: Place) -> None:
    place.source.put("labels.jsonl", table({**BOXES, "flat.jpg": [[60, 0, 10, 10]]}))
    assert place.run(recipe()).num_failed == 1
    (message,) = place.rows().query("status == 'failed'")["error_message"]
    assert "must lie within its image of 64 x 48 pixels, got [60, 0, 10, 10]" in message


def test_a_box_that_leaves_the_frame_is_recorded_as_dropped(place: Place) -> None:
    crop = [{"name": "RandomResizedCrop", "params": {"scale": [0.05, 0.08]}, "copies": 6}]
    targets = {"labels": "labels.jsonl", "boxes": "yolo", "min_visibility": 0.3}
    yolo = {"flat.jpg": [[0.2, 0.2, 0.1, 0.1], [0.5, 0.5, 1, 1]]}
    place.source.put("labels.jsonl", table(yolo))
    place.run(recipe(crop, targets=targets))
    crops = [
        row for row in records(place) if row["source_key"] == "flat.jpg" and row["node"] != "root"
    ]
    assert len(crops) == 6
    for row in crops:
        objects, dropped = json.loads(row["objects"]), json.loads(row["objects_dropped"])
        assert 1 in dropped["index"]  # Of all of the image, less than a tenth is left.
        assert sorted(objects["index"] + dropped["index"]) == [0, 1]
        assert all(share < 0.3 for share in dropped["visible"])
        assert all(0.3 <= share <= 1 for share in objects["visible"])
        assert "bbox" not in dropped


def test_a_source_without_a_row_has_no_boxes_that_are_known(place: Place) -> None:
    place.source.put("labels.jsonl", table({"cats/0.jpg": [], "cats/1.jpg": BOXES["cats/1.jpg"]}))
    assert plan(place, recipe()).lacking == {"a row in labels.jsonl": 1}
    place.run(recipe())
    rows = place.rows()
    assert rows.query("source_key == 'flat.jpg'")["objects"].isna().all()
    assert rows.query("source_key == 'cats/0.jpg'")["objects"].str.contains('"bbox":\\[\\]').all()


def test_a_source_whose_mask_or_boxes_change_is_made_again_and_no_other(place: Place) -> None:
    place.run(recipe())
    place.run(recipe(), now=NOW + DAY)
    assert len(list_runs(place.destination)) == 1
    place.source.put("masks/flat.png", png(mask_of([[1, 1, 5, 5]])))
    place.source.put("labels.jsonl", table({**BOXES, "cats/0.jpg": [[1, 2, 3, 4]]}))
    report = place.run(recipe(), now=NOW + 2 * DAY)
    assert (report.num_sources, report.num_done) == (2, 1)
    masks = masks_of(place)
    newest = Lineage(place.destination).to_pandas(["output_id", "source_key", "node", "objects"])
    root = newest.query("node == 'root'").set_index("source_key")
    np.testing.assert_array_equal(masks[root["output_id"]["flat.jpg"]], mask_of([[1, 1, 5, 5]]))
    assert json.loads(root["objects"]["cats/0.jpg"])["bbox"] == [[1, 2, 3, 4]]
    assert is_whole(place)


def test_a_mask_is_no_source_and_no_label(place: Place) -> None:
    found = plan(place, recipe())
    assert found.num_sources == 3
    assert found.left_out == {"in the folder of masks": 3, "no image by extension": 1}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1], r"the objects of flat.jpg: objects must be"),
        ({"bbox": [[1, 2, 3]]}, r"a box needs four finite numbers, got \[1, 2, 3\]"),
        ({"bbox": [["1", 2, 3, 4]]}, r"a box needs four finite numbers"),
        ({"bbox": [[1, 2, 3, 4]], "categories": []}, r"1 boxes and the categories \[\]"),
        ({"bbox": [[1, 2, 3, 4]], "categories": 5}, r"1 boxes and the categories 5"),
        ({"bbox": "1234"}, r"objects must be"),
        ({"bbox": [[1, 2, 3, 4]], "area": [4]}, r"'area' would not follow the boxes"),
        ({"bbox": [[1, 2, 3, 4]], "categories": [0.5]}, r"a category must be text or a whole"),
        ("{", r"objects must be a JSON object"),
    ],
)
def test_objects_of_another_form_are_refused(place: Place, value: Any, message: str) -> None:
    row = {"file_name": "flat.jpg", "objects": value}
    place.source.put("labels.jsonl", json.dumps(row).encode())
    with pytest.raises(PlanError, match=message):
        plan(place, recipe())


def test_boxes_of_a_csv_are_json_text(place: Place) -> None:
    objects = json.dumps({"bbox": [[1, 2, 3, 4]], "categories": [5]}).replace('"', '""')
    place.source.put("labels.csv", f'file_name,objects\nflat.jpg,"{objects}"\n'.encode())
    targets = {"labels": "labels.csv", "boxes": "pascal_voc"}
    place.run(recipe([{"name": "HorizontalFlip"}], targets=targets))
    rows = place.rows().query("source_key == 'flat.jpg'").set_index("node")
    assert json.loads(rows["objects"]["a"]) == {
        "format": "pascal_voc",
        "bbox": [[61.0, 2.0, 63.0, 4.0]],
        "categories": ["5"],
        "visible": [1.0],
        "index": [0],
    }


def test_boxes_without_their_format_would_stay_where_they_were_and_are_refused(
    place: Place,
) -> None:
    with pytest.raises(PlanError, match=r"have a column 'objects': .* targets.boxes"):
        plan(place, recipe(targets={"labels": "labels.jsonl"}))
    place.source.put("labels.jsonl", b'{"file_name": "flat.jpg"}')
    with pytest.raises(PlanError, match=r"have no column 'objects'"):
        plan(place, recipe())


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ({}, "must name labels or masks"),
        ({"masks": "masks", "boxes": "coco"}, "boxes come from the column objects of a table"),
        ({"masks": "/masks"}, r"targets.masks"),
        ({"masks": "masks/"}, r"targets.masks"),
        ({"masks": "m", "min_visibility": 2}, r"targets.min_visibility"),
        ({"labels": "a.csv", "boxes": "voc"}, r"targets.boxes"),
    ],
)
def test_a_recipe_with_wrong_targets_is_refused(targets: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe(targets=targets)


def test_targets_that_are_not_used_leave_the_digest() -> None:
    bare = recipe(targets={"labels": "labels.csv"})
    written = recipe(targets={"labels": "labels.csv", "masks": None, "min_visibility": 0.0})
    assert written.digest == bare.digest
    assert recipe(targets={"labels": "labels.csv", "masks": "masks"}).digest != bare.digest


def test_what_a_prune_takes_out_takes_its_masks_with_it(place: Place) -> None:
    place.run(recipe())
    place.source.delete(["cats/1.jpg"])
    place.source.put("labels.jsonl", table({"cats/0.jpg": BOXES["cats/0.jpg"]}))
    with hold(place.destination, Holder("prune", "prune", "here", NOW + DAY), wait_s=0) as lease:
        pruned = prune(place.source, place.destination, now=NOW + DAY, lease=lease)
    assert (pruned.num_sources, pruned.num_outputs, pruned.num_objects) == (1, 16, 32)
    assert not [key for key in place.output_keys() if "cats/1-" in key]
    assert is_whole(place)


def test_the_card_says_what_the_data_set_is_for_and_how_masks_are_loaded(place: Place) -> None:
    place.run(recipe())
    text = write_card(place.destination)
    _, matter, body = text.split("---\n", 2)
    tasks = yaml.safe_load(matter)["task_categories"]
    assert tasks == ["image-classification", "image-segmentation", "object-detection"]
    assert 'TargetDataset(uri, rows, split="train")' in body


class _Wave(Transform):
    """Moves pixels, and knows where they go only the other way round."""

    operation = TRANSFORMS["HorizontalFlip"].operation
    geometric = True
    cannot_move = frozenset({"boxes"})

    def sample(self, rng: np.random.Generator) -> Operation:
        return TRANSFORMS["HorizontalFlip"]().sample(rng)


def test_a_transform_that_cannot_move_boxes_is_refused_where_there_are_some(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kaleidoscope.recipe.TRANSFORMS", {"_Wave": _Wave})
    assert recipe(["_Wave"], targets={"masks": "masks"}).masks_folder == "masks"
    with pytest.raises(RecipeError, match=r"_Wave cannot move boxes with the pixels; take it out"):
        recipe(["_Wave"])


COCO: dict[str, Any] = {
    "images": [{"id": 9, "file_name": "flat.jpg"}, {"id": 3, "file_name": "cats/0.jpg"}],
    "categories": [{"id": 17, "name": "cat"}, {"id": 51, "name": "bowl"}],
    "annotations": [
        {"id": 1, "image_id": 3, "category_id": 51, "bbox": [1, 2, 3.5, 4], "iscrowd": 0},
        {"id": 2, "image_id": 3, "category_id": 17, "bbox": [5, 6, 7, 8], "area": 56.0},
        {"id": 3, "image_id": 3, "category_id": 17, "bbox": [0, 0, 64, 48], "iscrowd": 1},
    ],
}


def coco(**changed: Any) -> bytes:
    return json.dumps({**COCO, **changed}).encode()


COCO_RECIPE: dict[str, Any] = {"targets": {"labels": "instances.json", "boxes": "coco"}}


def test_boxes_come_from_a_coco_file(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.source.put("instances.json", coco())
    place.source.delete([f"masks/{name}.png" for name in ("cats/0", "cats/1", "flat")])
    made = recipe([{"name": "HorizontalFlip"}], **COCO_RECIPE)
    assert plan(place, made).lacking == {"a row in instances.json": 1}
    assert "1 annotations are of crowds (iscrowd) and are left out" in caplog.text
    place.run(made)
    roots = {row["source_key"]: row for row in records(place) if row["node"] == "root"}
    objects = json.loads(roots["cats/0.jpg"]["objects"])
    assert objects["bbox"] == [[1.0, 2.0, 3.5, 4.0], [5.0, 6.0, 7.0, 8.0]]
    assert objects["categories"] == ["bowl", "cat"]
    assert json.loads(roots["flat.jpg"]["objects"])["bbox"] == []
    assert roots["cats/1.jpg"]["objects"] is None
    assert roots["cats/0.jpg"]["label"] == "cats"
    assert roots["cats/0.jpg"]["attributes"] == '{"image_id":3}'


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"[]", "a .json file must be COCO's"),
        (b'{"images": []}', "a .json file must be COCO's, .*'categories'"),
        (coco(categories=[]), "a .json file must be COCO's, .*51"),
        (
            coco(images=[*COCO["images"], {"id": 3, "file_name": "again.jpg"}]),
            "image id 3 stands twice, for .* and for again.jpg",
        ),
        (coco(images=COCO["images"][:1]), r"1 image_id of annotations are of no image \(3, for"),
        (coco()[:-9], "cannot be read"),
    ],
)
def test_a_damaged_coco_file_is_refused(place: Place, data: bytes, message: str) -> None:
    place.source.put("instances.json", data)
    with pytest.raises(PlanError, match=message):
        plan(place, recipe(**COCO_RECIPE))


@pytest.mark.parametrize("boxes", [None, "yolo"])
def test_a_coco_file_has_boxes_in_the_format_of_coco(boxes: str | None) -> None:
    with pytest.raises(RecipeError, match=r"a \.json file is COCO's and has boxes: coco"):
        recipe(targets={"labels": "instances.json", "boxes": boxes})


def test_verify_names_masks_that_changed_or_went_away(place: Place) -> None:
    place.run(recipe())
    changed, gone = sorted(info.key for info in place.source.list_objects("masks/"))[:2]
    place.source.put(changed, png(mask_of([[0, 0, 3, 3]])))
    place.source.delete([gone])
    found = verify(place.destination, options=VerifyOptions(), open_source=lambda _: place.source)
    assert {(p.kind, p.key) for p in found.examples} == {
        ("mask_changed", changed),
        ("mask_gone", gone),
    }
