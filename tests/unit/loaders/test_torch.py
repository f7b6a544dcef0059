import multiprocessing
import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader, WeightedRandomSampler

from kaleidoscope.errors import LoaderError
from kaleidoscope.loaders import BalancedSampler, balanced_weights
from kaleidoscope.loaders.torch import ImageDataset
from tests.unit.loaders.conftest import COLORS, main_color

# The servers' threads of a test session are not what a forked worker uses.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork")


def check_batch(images: torch.Tensor, labels: torch.Tensor, classes: tuple[str, ...]) -> None:
    for image, label in zip(images, labels, strict=True):
        rgb = image.numpy().transpose(1, 2, 0)
        assert main_color(rgb[:, :, ::-1]) == classes[int(label)]


def test_images_are_rgb_tensors_with_the_class_of_their_folder(
    run_uri: str, rows: pd.DataFrame
) -> None:
    dataset = ImageDataset(run_uri, rows)
    assert len(dataset) == 24  # Not the row of the file that is no image.
    assert dataset.classes == tuple(COLORS)
    image, label = dataset[0]
    assert (image.shape, image.dtype) == ((3, 16, 16), torch.uint8)
    assert label == list(COLORS).index(str(dataset.rows.loc[0, "label"]))
    images = torch.stack([dataset[number][0] for number in range(24)])
    check_batch(images, torch.from_numpy(dataset.labels), dataset.classes)


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_load_every_image_once(run_uri: str, rows: pd.DataFrame, context: str) -> None:
    dataset = ImageDataset(run_uri, rows)
    dataset[0]  # The store is open before workers are forked off, as after any look at the data.
    loader = DataLoader(
        dataset,
        batch_size=5,
        num_workers=2,
        multiprocessing_context=multiprocessing.get_context(context),
    )
    batches = list(loader)
    labels = torch.cat([labels for _, labels in batches])
    assert labels.tolist() == dataset.labels.tolist()
    for images, batch_labels in batches:
        check_batch(images, batch_labels, dataset.classes)


def test_a_transform_takes_the_tensor_and_replaces_it(run_uri: str, rows: pd.DataFrame) -> None:
    dataset = ImageDataset(run_uri, rows, transform=lambda image: image.float().mean())
    plain = ImageDataset(run_uri, rows)
    assert dataset[3][0] == plain[3][0].float().mean()
    assert [value for value, _ in dataset.__getitems__([3, 4])] == [dataset[3][0], dataset[4][0]]


def test_a_split_is_taken_and_keeps_the_class_indices_of_all(
    run_uri: str, rows: pd.DataFrame
) -> None:
    split = rows.assign(split=rows["label"].map({"red": "val"}).fillna("train"))
    train = ImageDataset(run_uri, split, split="train")
    val = ImageDataset(run_uri, split, split="val")
    assert (len(train), len(val)) == (20, 4)
    assert train.classes == val.classes == tuple(COLORS)
    assert set(val.labels) == {2}
    with pytest.raises(LoaderError, match=r"split 'test'; the rows have \['train', 'val'\]"):
        ImageDataset(run_uri, split, split="test")


def test_a_missing_or_an_unknown_label_is_refused(run_uri: str, rows: pd.DataFrame) -> None:
    with pytest.raises(LoaderError, match=r"'red', which is none of the classes"):
        ImageDataset(run_uri, rows, classes=["blue", "green"])
    unlabelled = rows.assign(label=rows["label"].where(rows["label"] != "red"))
    with pytest.raises(LoaderError, match=r"red/0-.*has no label"):
        ImageDataset(run_uri, unlabelled)
    with pytest.raises(LoaderError, match="no column 'label'"):
        ImageDataset(run_uri, rows[["output_key"]])


def test_rows_without_an_image_are_refused(run_uri: str, rows: pd.DataFrame) -> None:
    with pytest.raises(LoaderError, match="no image in the rows"):
        ImageDataset(run_uri, rows[rows["status"] == "failed"])


def test_a_member_of_a_tar_is_read_by_its_range(
    run_uri: str, rows: pd.DataFrame, tars_uri: str, members: pd.DataFrame
) -> None:
    by_id = [frame.sort_values("output_id") for frame in (rows, members)]
    files, tars = ImageDataset(run_uri, by_id[0]), ImageDataset(tars_uri, by_id[1])
    assert len(files) == len(tars) == 24
    for number in range(len(files)):
        assert torch.equal(files[number][0], tars[number][0])


def test_a_sampler_of_torch_balances_classes(run_uri: str, rows: pd.DataFrame) -> None:
    dataset = ImageDataset(run_uri, rows)
    weights = balanced_weights(dataset.rows)
    generator = torch.Generator().manual_seed(1)
    weighted = WeightedRandomSampler(weights.tolist(), 3000, generator=generator)
    own = BalancedSampler(dataset.rows, seed=1, num_samples=3000)
    for sampler in (weighted, own):
        counts = np.bincount(dataset.labels[list(sampler)])
        assert counts.min() > 850  # 1,000 each, against 1,333, 2,000 and 667 unbalanced.
    loader = DataLoader(dataset, batch_size=4, sampler=BalancedSampler(dataset.rows, seed=1))
    assert sum(len(labels) for _, labels in loader) == len(dataset)


def test_a_data_set_is_pickled_without_its_connection(run_uri: str, rows: pd.DataFrame) -> None:
    dataset = ImageDataset(run_uri, rows)
    image, label = dataset[7]
    again = pickle.loads(pickle.dumps(dataset))  # noqa: S301 - our own bytes.
    assert torch.equal(again[7][0], image)
    assert again[7][1] == label


def test_importing_the_library_imports_no_framework() -> None:
    program = (
        "import sys, kaleidoscope, kaleidoscope.loaders, kaleidoscope.cli\n"
        "print(sorted({'torch', 'datasets', 'webdataset'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.decode().strip() == "[]"
