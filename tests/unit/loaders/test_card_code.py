"""What a stranger does who has nothing but the card: its code, in one program."""

import os
import re
import subprocess
import sys
from pathlib import Path

from kaleidoscope.identity import CARD_KEY
from kaleidoscope.loaders.rows import open_destination

CHECKS = """
from collections import Counter
made = rows[rows["split"] == "train"]
assert len(train) == len(made) == sum(len(labels) for _, labels in DataLoader(train, 4)) > 0
assert Counter(row.label for _, row in iter_images(uri, rows, split="train")) == Counter(made.label)
assert len(list(image_dataset(uri, rows, split="train"))) == len(made)
assert images.num_rows == len(kd.Lineage.open(uri).to_pandas()) == 24
print("loaded by all")
"""


def test_the_code_of_a_card_loads_the_run_by_each_loader(run_uri: str, tmp_path: Path) -> None:
    card = open_destination(run_uri).get(CARD_KEY).data.decode()
    snippets = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    (command,) = re.findall(r"^# kaleidoscope (download .*)$", card, flags=re.MULTILINE)
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path / "cache"),
        "PYTHONPATH": str(Path(__file__).parents[3]),
    }
    for program in (
        ["-m", "kaleidoscope", *command.split()],
        ["-c", "\n".join([*snippets, CHECKS])],
    ):
        done = subprocess.run(
            [sys.executable, *program],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )
        assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("loaded by all")
