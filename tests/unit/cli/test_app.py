"""What is the same for every command."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kaleidoscope import cli
from tests.command_line import Command


def test_help_loads_no_library_that_takes_time() -> None:
    program = (
        "import sys, kaleidoscope.cli\n"
        "print(sorted({'cv2', 'numpy', 'pyarrow', 'pandas', 'obstore', 'boto3', 'pydantic'}"
        " & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.decode().strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plan", "photos", "--recipe", "clasic"], "no preset is called 'clasic'"),
        (["plan", "photos", "--recipe", "missing.yaml"], "cannot read the recipe missing.yaml"),
        (["plan", "/nowhere/at/all"], "there is no folder /nowhere/at/all"),
        (["plan", "ftp://host/photos"], "ftp://"),
        (["plan", "odd[/x]"], "odd[/x]; check its spelling"),
        (["run", "photos"], "Missing argument"),
        (["upload", ".", "bucket/photos"], "must be s3://bucket/prefix, got bucket/photos"),
        (["download", "bucket/photos", "."], "must be s3://bucket/prefix, got bucket/photos"),
        (["preview", __file__, "-o", "sheet.gif"], "--output must end with .png"),
        (["transforms", "Rotat"], "there is no 'Rotat'"),
        (["run", "photos", "out", "--workers", "0"], "--workers"),
    ],
)
def test_wrong_input_is_named_without_a_traceback(
    command: Command, arguments: list[str], message: str
) -> None:
    code, _, messages = command(*arguments)
    assert code == cli.EXIT_BAD_INPUT
    assert message in messages
    assert "Traceback" not in messages


@pytest.mark.parametrize("folder", ["photos", "Hündinnen"])
def test_a_locale_without_utf8_is_told_what_to_set(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder / "ä").mkdir(parents=True)
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "kaleidoscope", "plan", tmp_path / folder],
        env={**os.environ, **locale},
        capture_output=True,
        check=False,
    )
    assert done.returncode == cli.EXIT_BAD_INPUT
    assert done.stderr.startswith(b"error: ")
    assert b"set PYTHONUTF8=1" in done.stderr
