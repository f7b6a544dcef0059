"""Commands that copy data sets between folders and S3."""

from pathlib import Path

from kaleidoscope import cli
from tests.command_line import Command


def test_upload_and_download_copy_a_folder_and_leave_alone_what_is_there(
    command: Command, photos: Path, tmp_path: Path, bucket: str
) -> None:
    num_files = len(list(photos.rglob("*.jpg")))
    assert f"{num_files} objects copied" in command("upload", photos, bucket)[1]
    assert f"{num_files} were there already" in command("upload", photos, bucket)[1]
    code, out, _ = command("download", bucket, tmp_path / "b")
    assert code == 0
    assert f"{num_files} objects copied" in out
    photograph = next(photos.rglob("*.jpg")).relative_to(photos)
    assert (tmp_path / "b" / photograph).read_bytes() == (photos / photograph).read_bytes()


def test_a_place_with_nothing_in_it_is_an_error(
    command: Command, tmp_path: Path, bucket: str
) -> None:
    code, _, messages = command("download", f"{bucket}/nothing-here", tmp_path / "out")
    assert code == cli.EXIT_BAD_INPUT
    assert "nothing under" in messages
