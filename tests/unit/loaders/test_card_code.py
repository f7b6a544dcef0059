"""What a stranger does who has nothing but the card: its code, in one program."""

import os
import re
import subprocess
import sys
from pathlib import Path

from kaleidoscope.identity import CARD_KEY
from kaleidoscope.loaders.rows import open_destination

SPLIT_CHECKS = """
from collections import Counter
made = rows[rows["split"] == "train"]
assert len(train) == len(made) == sum(len(labels) for _, labels in DataLoader(train, 4)) > 0
assert Counter(row.label for _, row in iter_images(uri, rows, split="train")) == Counter(made.label)
assert len(list(image_dataset(uri, rows, split="train"))) == len(made)
"""

FOLDER_CHECKS = """
assert images.num_rows == len(kd.Lineage.open(uri).to_pandas()) == 24
print("loaded by all")
"""

TAR_CHECKS = """
assert len(list(tar_images(uri, rows, split="train"))) == len(made)
print("loaded by all")
"""


def code_of(uri: str) -> tuple[str, list[str]]:
    """Return the card, and its code piece by piece."""
    card = open_destination(uri).get(CARD_KEY).data.decode()
    return card, re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)


def execute(folder: Path, *arguments: str) -> str:
    """Return what Python prints in a process of its own, which may fetch nothing."""
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(folder / "cache"),
        "PYTHONPATH": str(Path(__file__).parents[3]),
    }
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.rstrip()


def test_the_code_of_a_card_loads_the_run_by_each_loader(run_uri: str, tmp_path: Path) -> None:
    card, code = code_of(run_uri)
    (command,) = re.findall(r"^# kaleidoscope (download .*)$", card, flags=re.MULTILINE)
    execute(tmp_path, "-m", "kaleidoscope", *command.split())
    program = "\n".join([*code, SPLIT_CHECKS, FOLDER_CHECKS])
    assert execute(tmp_path, "-c", program).endswith("loaded by all")


def test_the_code_of_a_card_loads_tars_by_each_loader(tars_uri: str, tmp_path: Path) -> None:
    card, code = code_of(tars_uri)
    assert "- '*.tar'" in card
    assert "metadata.parquet" not in card
    program = "\n".join([*code, SPLIT_CHECKS, TAR_CHECKS])
    assert execute(tmp_path, "-c", program).endswith("loaded by all")
