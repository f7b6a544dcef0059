"""Masks and boxes of a real run on S3 come to a training as the manifest has them."""

import json
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader

import kaleidoscope as kd
from kaleidoscope.errors import LoaderError
from kaleidoscope.loaders import iter_images, iter_masks
from kaleidoscope.loaders.torch import TargetDataset
from kaleidoscope.settings import Settings
from kaleidoscope.stores import Store, open_store
from tests import image_files
from tests.conftest import BUCKET
from tests.unit.loaders.conftest import lead_to
from tools.seaweedfs import SeaweedFS

WIDTH, HEIGHT = 40, 30
BOX = (4, 6, 14, 22)
"""Left, top, right and bottom."""

RECIPE = {
    "transforms": ["HorizontalFlip", "RandomRotate90"],
    "normalize": {"mode": "none"},
    "output": {"format": "png"},
    "targets": {"labels": "labels.jsonl", "masks": "masks", "boxes": "pascal_voc"},
}


def put_sources(store: Store) -> None:
    """Two pictures that are white in a box, as their masks have it, and one of which none is."""
    lines = []
    for number, has_box in enumerate((True, True, False)):
        image = np.full((HEIGHT, WIDTH, 3), 10 * number, np.uint8)
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        left, top, right, bottom = BOX
        if has_box:
            image[top:bottom, left:right] = 255
            mask[top:bottom, left:right] = number + 1
        store.put(f"{number}.png", image_files.opencv(".png", image))
        store.put(f"masks/{number}.png", image_files.opencv(".png", mask))
        objects = (
            {"bbox": [BOX] * has_box, "categories": [("cat", "dog")[number]] * has_box}
            if number < 2
            else {"bbox": []}
        )
        lines.append(json.dumps({"file_name": f"{number}.png", "objects": objects}))
    store.put("labels.jsonl", "\n".join(lines).encode())


@pytest.fixture(scope="module", params=["files", "webdataset"])
def annotated(request: pytest.FixtureRequest, seaweedfs: SeaweedFS) -> str:
    uri = f"s3://{BUCKET}/annotated-{request.param}"
    document = {**RECIPE, "output": {"format": "png", "container": request.param}}
    with pytest.MonkeyPatch.context() as patch:
        lead_to(seaweedfs, patch)
        put_sources(open_store(f"{uri}/source", settings=Settings.from_environment()))
        kd.run(f"{uri}/source", f"{uri}/made", kd.Recipe.from_mapping(document), workers=2)
    return f"{uri}/made"


@pytest.fixture
def uri(annotated: str, seaweedfs: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> str:
    lead_to(seaweedfs, monkeypatch)
    return annotated


@pytest.fixture
def rows(uri: str) -> pd.DataFrame:
    return kd.read_manifest(uri)


def check(image: torch.Tensor, target: dict[str, torch.Tensor]) -> None:
    """White, mask and box are where the others are."""
    white = (image == 255).all(dim=0)
    assert torch.equal(target["mask"] > 0, white)
    assert target["mask"].dtype == torch.int64
    assert len(target["boxes"]) == len(target["labels"]) == int(white.any())
    if white.any():
        left, top, right, bottom = target["boxes"][0].int().tolist()
        assert white[top:bottom, left:right].all()
        assert white.sum() == (bottom - top) * (right - left)
        assert (target["mask"][white] == target["labels"][0] + 1).all()


def test_images_come_with_their_masks_and_boxes(uri: str, rows: pd.DataFrame) -> None:
    dataset = TargetDataset(uri, rows)
    assert dataset.categories == ("cat", "dog")
    assert len(dataset) == 12
    for number in range(12):
        check(*dataset[number])


def test_workers_load_them(uri: str, rows: pd.DataFrame) -> None:
    loader = DataLoader(
        TargetDataset(uri, rows),
        batch_size=4,
        num_workers=1,
        multiprocessing_context="spawn",
        collate_fn=_together,
    )
    for images, targets in loader:
        for image, target in zip(images, targets, strict=True):
            check(image, target)


def _together(batch: list[tuple[torch.Tensor, dict[str, torch.Tensor]]]) -> tuple[object, ...]:
    return tuple(zip(*batch, strict=True))


def test_a_batch_is_what_its_images_are(uri: str, rows: pd.DataFrame) -> None:
    dataset = TargetDataset(uri, rows)
    batch = dataset.__getitems__([2, 0, 5])
    for (image, target), index in zip(batch, [2, 0, 5], strict=True):
        wanted, its_target = dataset[index]
        assert torch.equal(image, wanted)
        assert target.keys() == its_target.keys()
        assert all(torch.equal(target[name], its_target[name]) for name in target)


def test_a_transform_takes_image_and_target(uri: str, rows: pd.DataFrame) -> None:
    dataset = TargetDataset(uri, rows, transform=lambda image, target: (image.float(), target))
    assert dataset[0][0].dtype == torch.float32


def test_masks_come_as_opencv_has_them(uri: str, rows: pd.DataFrame) -> None:
    for (image, _), mask in zip(iter_images(uri, rows), iter_masks(uri, rows), strict=True):
        assert mask.shape == image.shape[:2]
        np.testing.assert_array_equal(mask > 0, (image == 255).all(axis=2))


def test_a_row_without_mask_or_box_is_named(uri: str, rows: pd.DataFrame) -> None:
    bare = rows.drop(columns=["mask_key", "objects"])
    with pytest.raises(LoaderError, match="neither mask_key nor objects"):
        TargetDataset(uri, bare)
    with pytest.raises(LoaderError, match=r"has no mask; make the images with targets.masks"):
        next(iter_masks(uri, bare))
    some = rows.copy()
    some.loc[0, "objects"] = None
    with pytest.raises(LoaderError, match=r"0-.* has no objects and others have"):
        TargetDataset(uri, some)
    dogs = rows[rows["source_key"] == "1.png"]
    with pytest.raises(LoaderError, match=r"has a box of 'dog', which is none of .*\['cat'\]"):
        TargetDataset(uri, dogs, categories=["cat"])[0]


def test_a_mask_in_a_tar_needs_the_columns_that_say_where(uri: str, rows: pd.DataFrame) -> None:
    bare = rows.drop(columns=["mask_offset"])
    assert len(list(iter_images(uri, bare))) == len(rows)
    if "webdataset" not in uri:
        assert len(list(iter_masks(uri, bare))) == len(rows)
        return
    with pytest.raises(LoaderError, match="no column 'mask_offset' to say where"):
        next(iter_masks(uri, bare))


def test_an_image_folder_of_hugging_face_has_them(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "webdataset" in uri:
        pytest.skip("tars are no image folder")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    store = open_store(uri, settings=Settings.from_environment())
    for info in store.list_objects():
        if not info.key.startswith("_kaleidoscope/"):
            (tmp_path / info.key).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / info.key).write_bytes(store.get(info.key).data)
    loaded = datasets.load_dataset("imagefolder", data_dir=str(tmp_path), split="train")
    assert len(loaded) == 12
    for example in loaded:
        image, mask = np.asarray(example["image"]), np.asarray(example["mask"])
        np.testing.assert_array_equal(mask > 0, (image == 255).all(axis=2))
        assert len(example["objects"]["bbox"]) == int((mask > 0).any())
