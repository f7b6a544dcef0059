from pathlib import Path

from tests.command_line import Command


def test_a_run_writes_a_card_that_the_command_writes_again(
    command: Command, photos: Path, recipe: Path, tmp_path: Path
) -> None:
    made = tmp_path / "made"
    assert command("run", photos, made, "--recipe", recipe)[0] == 0
    card = (made / "README.md").read_text()
    (made / "README.md").unlink()
    (made / "metadata.parquet").unlink()
    code, out, _ = command("card", made)
    assert (code, out) == (0, card)
    assert (made / "README.md").read_text() == card
    assert (made / "metadata.parquet").exists()


def test_a_folder_without_a_run_has_no_card(command: Command, tmp_path: Path) -> None:
    code, _, err = command("card", tmp_path)
    assert code == 2
    assert "no run is committed" in err
