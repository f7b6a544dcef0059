import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kaleidoscope import cli
from kaleidoscope.identity import METADATA_KEY
from tests.unit.loaders.conftest import COLORS, main_color

os.environ["HF_HUB_OFFLINE"] = "1"  # Read when datasets is imported; nothing is to be fetched.

import datasets
from torch.utils.data import DataLoader

from kaleidoscope.loaders.huggingface import image_dataset


@pytest.fixture
def folder(run_uri: str, tmp_path: Path) -> Path:
    """What `kaleidoscope download` brings of the run."""
    cli.app(["download", run_uri, str(tmp_path / "data")], standalone_mode=False)
    return tmp_path / "data"


def check(dataset: "datasets.Dataset", rows: pd.DataFrame) -> None:
    assert dataset.num_rows == len(rows)
    expected = rows.set_index("output_id")["label"]
    for sample in dataset:
        assert sample["label"] == expected[sample["output_id"]]
        assert main_color(np.asarray(sample["image"])[:, :, ::-1]) == sample["label"]


def test_load_dataset_reads_a_downloaded_run_as_it_is(
    folder: Path, rows: pd.DataFrame, tmp_path: Path
) -> None:
    made = rows[rows["status"] == "ok"]
    cache = str(tmp_path / "cache")
    for arguments in (
        {"path": "imagefolder", "data_dir": str(folder)},
        {"path": "imagefolder", "data_files": str(folder / METADATA_KEY)},
        {"path": str(folder)},  # By the card's front matter.
    ):
        check(datasets.load_dataset(**arguments, split="train", cache_dir=cache), made)


def test_rows_can_be_chosen_when_a_run_is_loaded(folder: Path, rows: pd.DataFrame) -> None:
    chosen = datasets.load_dataset(
        "imagefolder",
        data_files=str(folder / METADATA_KEY),
        filters=[("label", "==", "green"), ("node", "==", "ab")],
        split="train",
        cache_dir=str(folder.parent / "cache"),
    )
    check(chosen, rows.query("label == 'green' and node == 'ab'"))


def test_a_run_is_streamed_from_s3_without_a_copy(run_uri: str, rows: pd.DataFrame) -> None:
    examples = list(image_dataset(run_uri, rows))
    made = rows[rows["status"] == "ok"]
    assert [example["output_id"] for example in examples] == made["output_id"].tolist()
    for example in examples:
        color = main_color(np.asarray(example["image"])[:, :, ::-1])
        assert tuple(COLORS)[example["label"]] == color


def test_a_stream_reads_members_of_tars_and_only_its_split(
    tars_uri: str, members: pd.DataFrame
) -> None:
    split = members.assign(split=members["label"].map({"red": "val"}).fillna("train"))
    dataset = image_dataset(tars_uri, split, split="val")
    assert dataset.features["label"].names == list(COLORS)
    assert {example["label"] for example in dataset} == {2}
    assert len(list(dataset)) == 4


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork")
def test_workers_share_a_stream(run_uri: str, rows: pd.DataFrame) -> None:
    dataset = image_dataset(run_uri, rows).with_format("torch")
    loader = DataLoader(dataset, batch_size=4, num_workers=2, multiprocessing_context="fork")
    ids = [output_id for batch in loader for output_id in batch["output_id"]]
    assert sorted(ids) == sorted(rows.loc[rows["status"] == "ok", "output_id"])


def test_load_dataset_reads_downloaded_tars_by_the_card(tars_uri: str, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    cli.app(["download", tars_uri, str(folder)], standalone_mode=False)
    loaded = datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.num_rows == 24
    for example in loaded:
        assert main_color(np.asarray(example["png"])[:, :, ::-1]) == example["json"]["label"]
