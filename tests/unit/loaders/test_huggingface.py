import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kaleidoscope import cli
from kaleidoscope.identity import METADATA_KEY
from tests.unit.loaders.conftest import main_color

os.environ["HF_HUB_OFFLINE"] = "1"  # Read when datasets is imported; nothing is to be fetched.

import datasets


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
