import multiprocessing

import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader

from kaleidoscope.errors import LoaderError
from kaleidoscope.loaders.torch import ImageDataset
from kaleidoscope.loaders.webdataset import tar_images
from tests.unit.loaders.conftest import COLORS, main_color

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork")


def test_tars_give_the_images_that_their_ranges_give(tars_uri: str, members: pd.DataFrame) -> None:
    assert members["tar_key"].nunique() == 2
    by_number = ImageDataset(tars_uri, members)
    streamed = list(tar_images(tars_uri, members))
    assert [label for _, label in streamed] == by_number.labels.tolist()
    for number, (image, _) in enumerate(streamed):
        assert torch.equal(image, by_number[number][0])


def test_workers_share_the_tars(tars_uri: str, members: pd.DataFrame) -> None:
    loader = DataLoader(
        tar_images(tars_uri, members),
        batch_size=4,
        num_workers=2,
        multiprocessing_context=multiprocessing.get_context("fork"),
    )
    labels = []
    for images, batch in loader:
        for image, label in zip(images, batch, strict=True):
            assert main_color(image.numpy().transpose(1, 2, 0)[:, :, ::-1]) == tuple(COLORS)[label]
            labels.append(int(label))
    assert sorted(labels) == sorted(ImageDataset(tars_uri, members).labels.tolist())


def test_a_split_passes_over_the_members_of_others(tars_uri: str, members: pd.DataFrame) -> None:
    split = members.assign(split=members["node"].map({"root": "val"}).fillna("train"))
    assert len(list(tar_images(tars_uri, split, split="val"))) == 6
    assert {label for _, label in tar_images(tars_uri, split, split="val")} == {0, 1, 2}


def test_shuffling_draws_another_order_by_the_seed(tars_uri: str, members: pd.DataFrame) -> None:
    def order(seed: int) -> list[float]:
        mean = tar_images(tars_uri, members, shuffle=100, seed=seed, transform=torch.Tensor.sum)
        return [int(value) for value, _ in mean]

    plain = [int(image.sum()) for image, _ in tar_images(tars_uri, members)]
    assert order(1) == order(1) != order(2)
    assert sorted(order(1)) == sorted(plain)
    assert order(1) != plain


def test_images_that_are_in_no_tar_are_refused(run_uri: str, rows: pd.DataFrame) -> None:
    with pytest.raises(LoaderError, match="objects of their own"):
        tar_images(run_uri, rows)


def test_a_tar_that_was_replaced_is_noticed(tars_uri: str, members: pd.DataFrame) -> None:
    moved = members.assign(offset=members["offset"] + 512)
    with pytest.raises(LoaderError, match=r"\.tar has no members where the manifest says"):
        list(tar_images(tars_uri, moved))


@pytest.mark.parametrize("column", ["tar_key", "offset", "length", "label"])
def test_a_column_that_is_missing_is_named(
    tars_uri: str, members: pd.DataFrame, column: str
) -> None:
    with pytest.raises(LoaderError, match=f"no column '{column}'"):
        tar_images(tars_uri, members.drop(columns=column))
