"""Commands that make images, called as the console script calls them."""

import json
from pathlib import Path

import pytest

from kaleidoscope import cli, read_manifest
from kaleidoscope.codecs import probe
from tests.command_line import PHOTOS, Command


def test_run_makes_every_image_and_says_so(
    command: Command, photos: Path, recipe: Path, tmp_path: Path
) -> None:
    code, out, _ = command("run", photos, tmp_path / "out", "--recipe", recipe, "--workers", 2)
    num_sources = len(list(photos.rglob("*.jpg")))
    assert code == 0
    assert f"images    {4 * num_sources} (" in out
    assert len(read_manifest(str(tmp_path / "out"))) == 4 * num_sources


def test_a_second_run_has_nothing_to_do(
    command: Command, photos: Path, recipe: Path, tmp_path: Path
) -> None:
    command("run", photos, tmp_path / "out", "-r", recipe)
    num_sources = len(list(photos.rglob("*.jpg")))
    code, _, messages = command("run", photos, tmp_path / "out", "-r", recipe)
    assert code == 0
    assert f"Nothing to do: nothing is missing of {num_sources} sources;" in messages


def test_run_as_json_is_the_report(
    command: Command, photos: Path, recipe: Path, tmp_path: Path
) -> None:
    code, out, _ = command("run", photos, tmp_path / "out", "-r", recipe, "--json")
    assert code == 0
    assert json.loads(out)["num_failed"] == 0


def test_the_seed_on_the_command_line_takes_the_place_of_the_recipe_s(
    command: Command, photos: Path, recipe: Path, tmp_path: Path
) -> None:
    command("run", photos, tmp_path / "one", "-r", recipe, "--seed", 1)
    command("run", photos, tmp_path / "two", "-r", recipe, "--seed", 2)
    one, two = (read_manifest(str(tmp_path / name)) for name in ("one", "two"))
    assert set(one["seed"]) == {1}
    assert set(one["output_key"]) == set(two["output_key"])
    turned = [rows.loc[rows["op"] == "Rotate", "sha256"] for rows in (one, two)]
    assert set(turned[0]).isdisjoint(turned[1])


def test_too_many_failures_end_with_their_own_exit_code_after_the_commit(
    command: Command, photos: Path, recipe: Path, tmp_path: Path
) -> None:
    (photos / "animals" / "broken.jpg").write_bytes(b"no image")
    code, out, messages = command("run", photos, tmp_path / "out", "-r", recipe)
    assert code == cli.EXIT_TOO_MANY_FAILURES
    assert "1 not_an_image" in out
    assert "max_error_rate" in messages
    assert set(read_manifest(str(tmp_path / "out"))["status"]) == {"ok", "failed"}
    code, _, messages = command("run", photos, tmp_path / "out", "-r", recipe)
    assert code == cli.EXIT_TOO_MANY_FAILURES
    assert "Nothing to do" in messages
    assert f"`kaleidoscope retry {tmp_path / 'out'}` does those" in messages


def test_plan_writes_nothing_and_counts_what_run_would_make(
    command: Command, photos: Path, recipe: Path, tmp_path: Path
) -> None:
    (photos / "notes.txt").write_text("not an image")
    code, out, _ = command("plan", photos, tmp_path / "out", "-r", recipe, "--json")
    plan = json.loads(out)
    assert code == 0
    assert plan["num_sources"] == len(list(photos.rglob("*.jpg")))
    assert plan["left_out"] == {"no image by extension": 1}
    assert not (tmp_path / "out").exists()


def test_plan_in_words_names_images_requests_and_dollars(
    command: Command, photos: Path, recipe: Path
) -> None:
    code, out, _ = command("plan", photos, "-r", recipe, "--cpus", 8)
    assert code == 0
    assert "4 of each source by 3 transform calls" in out
    assert "on 8 CPUs" in out
    assert "PUTs, $0.00" in out


def test_preview_writes_a_png_of_the_tree(command: Command, recipe: Path, tmp_path: Path) -> None:
    photograph = next(PHOTOS.rglob("*.jpg"))
    sheet = tmp_path / "sheet.png"
    code, out, _ = command("preview", photograph, "-r", recipe, "-o", sheet)
    assert code == 0
    assert "4 images" in out
    assert probe(sheet.read_bytes(), max_pixels=10**8).format == "png"


FLIPS = "transforms: [Contrast, {name: HorizontalFlip, not_for: [left]}]\nnormalize: {side: 32}\n"


def test_preview_leaves_out_what_is_not_for_the_label_of_the_photograph(
    command: Command, tmp_path: Path
) -> None:
    photograph = tmp_path / "left" / "photo.jpg"
    photograph.parent.mkdir()
    photograph.write_bytes(next(PHOTOS.rglob("*.jpg")).read_bytes())
    recipe, sheet = tmp_path / "flips.yaml", tmp_path / "sheet.png"

    def shown(*options: str) -> str:
        code, out, _ = command("preview", photograph, "-r", recipe, "-o", sheet, *options)
        assert code == 0
        return out.strip().removeprefix(f"{sheet}: ")

    recipe.write_text(FLIPS)
    assert shown() == "2 images, not for left: b HorizontalFlip"
    assert shown("--label", "right") == "4 images"
    recipe.write_text(f"{FLIPS}targets: {{masks: masks}}\n")
    assert shown() == "2 images, not for left: b HorizontalFlip"  # There is no folder of masks.
    recipe.write_text(f"{FLIPS}targets: {{labels: labels.csv}}\n")
    assert shown() == "4 images"  # There is no table.
    (tmp_path / "labels.csv").write_text("file_name,label\nleft/photo.jpg,right\n")
    assert shown() == "4 images"
    (tmp_path / "labels.csv").write_text("file_name,label\nleft/photo.jpg,left\n")
    assert shown() == "2 images, not for left: b HorizontalFlip"


def test_one_bad_photograph_more_is_judged_by_the_whole_data_set(
    command: Command, photos: Path, recipe: Path, tmp_path: Path
) -> None:
    recipe.write_text(f"{recipe.read_text()}limits: {{max_error_rate: 0.3}}\n")
    command("run", photos, tmp_path / "out", "-r", recipe)
    (photos / "animals" / "broken.jpg").write_bytes(b"no image")
    assert command("run", photos, tmp_path / "out", "-r", recipe)[0] == 0


@pytest.mark.parametrize("name", ["sheet.jpg", "new folder/sheet.webp"])
def test_a_sheet_has_the_format_that_its_name_says(
    command: Command, recipe: Path, tmp_path: Path, name: str
) -> None:
    photograph = next(PHOTOS.rglob("*.jpg"))
    assert command("preview", photograph, "-r", recipe, "-o", tmp_path / name)[0] == 0
    header = probe((tmp_path / name).read_bytes(), max_pixels=10**8)
    assert header.format == {".jpg": "jpeg", ".webp": "webp"}[Path(name).suffix]


def test_an_error_keeps_its_brackets_and_its_line(
    command: Command, photos: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "wide.yaml"
    recipe.write_text("transforms: [{name: Rotate, params: {limit: [-500, 15]}}]")
    _, _, messages = command("plan", photos, "-r", recipe)
    assert "must be [low, high] with -180 <= low <= high <= 180 degrees, got [-500, 15]" in messages


def test_an_unwritable_place_of_a_preview_is_told_in_a_line(
    command: Command, photos: Path, recipe: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    photo = next(photos.rglob("*.jpg"))
    code, _, messages = command("preview", photo, "-r", recipe, "-o", tmp_path / "file" / "a.png")
    assert code == cli.EXIT_BAD_INPUT
    assert "cannot write" in messages
    assert "Traceback" not in messages
