"""Commands that split a data set and look for leaks."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from kaleidoscope import Lineage, cli
from tests.command_line import PHOTOS, Command


@pytest.fixture
def made(command: Command, recipe: Path, tmp_path: Path) -> Path:
    """What a run made of all example photographs."""
    folder = tmp_path / "made"
    command("run", PHOTOS, folder, "--recipe", recipe)
    return folder


def test_a_split_is_saved_described_and_free_of_leaks(command: Command, made: Path) -> None:
    shares = ["--train", 0.5, "--val", 0.25, "--test", 0.25]
    code, out, _ = command("split", made, "half", *shares)
    assert code == 0
    rows = Lineage.open(made).load_split("half")
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["split", "sources", "images"]
    for name, sources, images in lines[1:]:
        part = rows[rows["split"] == name]
        assert (part["source_id"].nunique(), len(part)) == (int(sources), int(images))
    assert sum(int(line[1]) for line in lines[1:]) == len(list(PHOTOS.rglob("*.jpg")))
    counts = rows["split"].value_counts()
    code, out, _ = command("audit", made, "--name", "half", "--json")
    assert code == 0
    assert json.loads(out) == counts.to_dict()


def test_a_split_as_json_counts_each_label(command: Command, made: Path) -> None:
    code, out, _ = command("split", made, "--augmented-everywhere", "--stratify", "", "--json")
    assert code == 0
    found = pd.DataFrame(json.loads(out))
    assert set(found["label"]) == {folder.name for folder in PHOTOS.iterdir() if folder.is_dir()}
    assert found["images"].tolist() == (4 * found["sources"]).tolist()


def test_a_split_of_another_kind_needs_another_name(command: Command, made: Path) -> None:
    command("split", made)
    code, _, messages = command("split", made, "--seed", 5)
    assert code == cli.EXIT_BAD_INPUT
    assert "choose another name" in messages


def sorted_by_hand(made: Path, folder: Path) -> Path:
    """Whole families in folders named by their split."""
    for _, row in Lineage.open(made).split(0.5, 0.25, 0.25, originals_only=()).iterrows():
        target = folder / row["split"] / row["output_key"]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(made / row["output_key"], target)
    return folder


def test_an_audit_of_folders_names_each_image_of_a_torn_family(
    command: Command, made: Path, tmp_path: Path
) -> None:
    folder = sorted_by_hand(made, tmp_path / "sorted")
    (folder / "README.md").write_text("no image")
    code, out, _ = command("audit", folder)
    assert code == 0
    assert out.startswith("No leak. Images: test ")
    stray = next((folder / "test").rglob("*-ab.jpg"))
    stray.rename(folder / "train" / stray.name)
    code, out, _ = command("audit", folder)
    assert code == cli.EXIT_FOUND_WRONG
    assert "outputs of 1 sources are in more than one split (4 rows)" in out
    assert f"train/{stray.name}" in out
    code, out, _ = command("audit", folder, "--json")
    assert code == cli.EXIT_FOUND_WRONG
    assert {row["split"] for row in json.loads(out)} == {"train", "test"}


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_an_audit_of_a_table_finds_a_random_split(
    command: Command, made: Path, tmp_path: Path, suffix: str
) -> None:
    rows = Lineage.open(made).to_pandas(["output_key"])
    rows["fold"] = ["train", "test"] * (len(rows) // 2)
    table = tmp_path / f"split{suffix}"
    rows.to_csv(table) if suffix == ".csv" else rows.to_parquet(table)
    code, out, _ = command("audit", table, "--column", "fold")
    assert code == cli.EXIT_FOUND_WRONG
    assert f"({len(rows)} rows)" in out
    assert f"… and {len(rows) - 20} more" in out


def test_what_an_audit_cannot_tell_is_wrong_input(
    command: Command, made: Path, tmp_path: Path
) -> None:
    table = tmp_path / "table.csv"
    table.write_text('"')
    header = tmp_path / "header.csv"
    header.write_text("output_key,split\n")
    tars = tmp_path / "tars" / "train"
    tars.mkdir(parents=True)
    (tars / "000000.tar").write_bytes(b"")
    cases: list[tuple[list[object], str]] = [
        ([PHOTOS], "are not those of outputs"),
        ([tars.parent], "audit the column of the table"),
        ([tmp_path / "tars", "--name", "x", "--column", "y"], "a saved split has no --column"),
        ([made, "--name", "none"], "has no split 'none'"),
        ([made], "is a destination of runs"),
        ([made, "--column", "split"], "a table is a .csv or .parquet file"),
        ([table, "--column", "split"], "cannot be read"),
        ([header, "--column", "split"], "no row has a split"),
        ([header], "give --column, which names the splits"),
        (["s3://bucket/x.csv", "--column", "split"], "local file; download s3://bucket/x.csv"),
    ]
    for arguments, message in cases:
        code, _, messages = command("audit", *arguments)
        assert code == cli.EXIT_BAD_INPUT
        assert message in " ".join(messages.split())
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "there is no image under" in command("audit", empty)[2]
