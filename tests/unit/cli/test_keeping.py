"""Commands that look after a destination."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kaleidoscope import cli, read_manifest
from kaleidoscope.lease import Holder, hold
from kaleidoscope.pipeline import StartOptions, run_shard, start_run
from kaleidoscope.recipe import load_recipe
from kaleidoscope.stores import LocalStore
from tests.command_line import Command
from tests.data_sets import NOW


@pytest.fixture
def made(command: Command, photos: Path, recipe: Path, tmp_path: Path) -> Path:
    """A destination that is done."""
    assert command("run", photos, tmp_path / "out", "-r", recipe)[0] == 0
    return tmp_path / "out"


def test_status_of_what_is_done(command: Command, made: Path) -> None:
    code, out, _ = command("status", made)
    assert code == 0
    assert "committed, " in out
    assert "at work" in out
    assert json.loads(command("status", made, "--json")[1])["runs"][0]["state"] == "committed"


def test_retry_finishes_what_was_interrupted_with_the_recorded_recipe(
    command: Command, photos: Path, recipe: Path, tmp_path: Path
) -> None:
    source, destination = LocalStore(photos), LocalStore(tmp_path / "out")
    options = StartOptions(min_shards=3)
    (photos / "animals" / "broken.jpg").write_bytes(b"")
    recipe.write_text(f"{recipe.read_text()}limits: {{max_error_rate: 1}}\n")
    run = start_run(source, destination, load_recipe(str(recipe)), now=NOW, options=options)
    run_shard(source, destination, run, 0, workers=1, now=NOW)
    code, out, _ = command("status", tmp_path / "out")
    assert code == cli.EXIT_FOUND_WRONG
    assert f"not finished, 1 of {run.plan.num_shards} shards done" in out
    recipe.unlink()  # It is recorded.
    num_sources = len(list(photos.rglob("*.jpg")))
    code, out, messages = command("retry", tmp_path / "out")
    assert code == 0
    assert "finishing the run that was interrupted" in messages
    assert "failed    1: 1 empty" in out
    assert len(read_manifest(str(tmp_path / "out"))) == 4 * (num_sources - 1) + 1
    (photos / "animals" / "broken.jpg").write_bytes(next(photos.rglob("*.jpg")).read_bytes())
    code, _, messages = command("retry", tmp_path / "out")
    assert "interrupted" not in messages
    assert len(read_manifest(str(tmp_path / "out"))) == 4 * num_sources
    assert command("status", tmp_path / "out")[0] == 0


def test_verify_tells_by_its_exit_code_whether_all_is_there(command: Command, made: Path) -> None:
    code, out, _ = command("verify", made, "--replay")
    assert code == 0
    assert "identical" in out
    assert "nothing" in out
    output = next(made.rglob("animals/*.jpg"))
    output.unlink()
    code, out, _ = command("verify", made, "--sample", 0.5)
    assert code == cli.EXIT_FOUND_WRONG
    assert f"animals/{output.name}: the manifest has it, and no object is there" in out
    found = json.loads(command("verify", made, "--json")[1])
    assert found["num_problems"] == {"missing": 1}
    code, out, _ = command("verify", made, "--repair")
    assert code == 0
    assert "repaired  1" in out
    assert output.exists()


def test_replay_finds_the_destination_of_an_output(
    command: Command, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = sorted(made.rglob("animals/*.jpg"))[:2]
    code, out, _ = command("replay", *outputs)
    assert code == 0
    assert out.splitlines() == [f"animals/{output.name}: identical" for output in outputs]
    monkeypatch.chdir(made)
    assert command("replay", f"animals/{outputs[0].name}")[0] == 0
    code, out, _ = command("replay", "-d", made, f"animals/{outputs[0].name}", "--json")
    assert json.loads(out)[0]["outcome"] == "identical"
    outputs[0].write_bytes(b"flipped")
    code, out, _ = command("replay", *outputs)
    assert code == cli.EXIT_FOUND_WRONG
    assert "its SHA-256 is" in out.splitlines()[0]


def test_replay_of_what_no_run_made_says_so(command: Command, made: Path, photos: Path) -> None:
    photograph = next(photos.rglob("*.jpg"))
    code, _, messages = command("replay", photograph)
    assert code == cli.EXIT_BAD_INPUT
    assert "lies in no destination of runs" in messages
    assert command("replay", "-d", made, "none.jpg")[0] == cli.EXIT_BAD_INPUT


def test_a_run_is_refused_while_another_is_at_work(
    command: Command, photos: Path, recipe: Path, made: Path
) -> None:
    with hold(LocalStore(made), Holder("1", "flow run nightly", "ada.example", NOW)):
        code, _, messages = command("run", photos, made, "-r", recipe, "--wait", 0)
        status = command("status", made)[1]
    assert "flow run nightly on ada.example, started at 2026-11-22" in status
    assert "unless it died" in status
    assert code == cli.EXIT_RETRY_CAN_HELP
    assert "is in use by flow run nightly on ada.example" in messages


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_completes_commands(shell: str) -> None:
    environment = {
        **os.environ,
        "_KALEIDOSCOPE_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": "kaleidoscope ver",
        "COMP_CWORD": "1",
        "_TYPER_COMPLETE_ARGS": "kaleidoscope ver",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    program = "import sys; sys.argv = ['kaleidoscope']; from kaleidoscope.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, check=False
    )
    assert b"verify" in done.stdout


@pytest.mark.parametrize("name", ["status", "retry", "prune", "verify", "replay"])
def test_help_has_an_example_and_the_exit_codes(command: Command, name: str) -> None:
    code, out, _ = command(name, "--help")
    assert code == 0
    assert f"kaleidoscope {name} " in out
    assert "Exit codes" in out


def test_prune_says_what_would_go_and_does_it_when_told(
    command: Command, photos: Path, made: Path
) -> None:
    photograph = next(photos.rglob("*.jpg"))
    photograph.unlink()
    code, out, messages = command("prune", made)
    assert code == 0
    assert f"sources gone   1: animals/{photograph.name}" in out
    assert "would go       4 objects" in out
    assert "Nothing was removed" in messages
    num_outputs = len(list(made.rglob("animals/*.jpg")))
    assert json.loads(command("prune", made, "--json")[1])["num_objects"] == 4
    code, out, _ = command("prune", made, "--yes")
    assert code == 0
    assert "removed        4 objects" in out
    assert len(list(made.rglob("animals/*.jpg"))) == num_outputs - 4
    assert command("verify", made)[0] == 0
    code, _, messages = command("prune", made)
    assert code == 0
    assert "Nothing was removed" not in messages
