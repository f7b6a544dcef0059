"""The command line, called as the console script calls it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from kaleidoscope import cli, read_manifest
from kaleidoscope.codecs import probe
from kaleidoscope.recipe import Recipe
from kaleidoscope.transforms import TRANSFORMS
from tools.seaweedfs import SeaweedFS

PHOTOS = Path(__file__).parents[2] / "examples" / "photos"

Command = Callable[..., tuple[int, str, str]]


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
    assert f"Nothing to do: all {num_sources} sources were done before." in messages


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


def test_recipe_prints_a_preset_that_can_be_read_back(command: Command) -> None:
    code, out, _ = command("recipe", "classic")
    assert code == 0
    assert Recipe.from_text(out) == Recipe.preset("classic")


def test_recipe_without_a_name_lists_the_presets(command: Command) -> None:
    code, out, _ = command("recipe")
    assert code == 0
    assert "classic" in out.split()


def test_one_bad_photograph_more_is_judged_by_the_whole_data_set(
    command: Command, photos: Path, recipe: Path, tmp_path: Path
) -> None:
    recipe.write_text(f"{recipe.read_text()}limits: {{max_error_rate: 0.3}}\n")
    command("run", photos, tmp_path / "out", "-r", recipe)
    (photos / "animals" / "broken.jpg").write_bytes(b"no image")
    assert command("run", photos, tmp_path / "out", "-r", recipe)[0] == 0


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, seaweedfs: SeaweedFS, s3_uri: str) -> str:
    """A prefix on the S3 server that the environment leads to."""
    monkeypatch.setenv("KALEIDOSCOPE_S3_ENDPOINT_URL", seaweedfs.endpoint_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", seaweedfs.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", seaweedfs.secret_key)
    return s3_uri


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


def test_transforms_are_listed_with_their_ranges(command: Command) -> None:
    code, out, _ = command("transforms")
    assert code == 0
    assert [line.partition(":")[0] for line in out.splitlines() if line[0] != " "] == [*TRANSFORMS]
    assert "limit: Angle in degrees" in command("transforms", "Rotate")[1]
    assert "within [-180, 180]" in command("transforms", "Rotate")[1]


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
