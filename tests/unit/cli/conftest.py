"""A folder of photographs, a small recipe, and the command line to use on them."""

import shutil
from pathlib import Path

import pytest

from kaleidoscope import cli
from tests.command_line import PHOTOS, Command
from tools.seaweedfs import SeaweedFS


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command and return its exit code, its output and its messages."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["kaleidoscope", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    shutil.copytree(PHOTOS / "animals", folder / "animals")
    return folder


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text("transforms: [Rotate, HorizontalFlip]\nnormalize: {side: 32}\n")
    return path


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, seaweedfs: SeaweedFS, s3_uri: str) -> str:
    """A prefix on the S3 server that the environment leads to."""
    monkeypatch.setenv("KALEIDOSCOPE_S3_ENDPOINT_URL", seaweedfs.endpoint_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", seaweedfs.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", seaweedfs.secret_key)
    return s3_uri
