"""What is predicted is never less than what a process of its own is measured to take."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from kaleidoscope.memory import LIBRARIES_BYTES, predict_peak_bytes
from kaleidoscope.recipe import Recipe

# Linux's ru_maxrss begins with the peak of the process that started this one; VmHWM does not.
RUN_AND_REPORT_PEAK = """
import sys
import kaleidoscope
from kaleidoscope.recipe import Recipe
source, destination, recipe, workers = sys.argv[1:]
kaleidoscope.run(source, destination, Recipe.from_text(recipe), workers=int(workers))
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(status["VmHWM"].split()[0]) * 1024)
"""

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="peaks are read as Linux shows them"
)


def classic(*, side: int = 400, steps: int = 6) -> Recipe:
    document = Recipe.preset("classic").model_dump(mode="json")
    document["transforms"] = document["transforms"][:steps]
    document["normalize"]["side"] = side
    return Recipe.from_mapping(document)


def make_photographs(folder: Path, *, number: int, width: int, height: int) -> int:
    """Write JPEGs that are as large as those of cameras, and return the size of the largest."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(1)
    for index in range(number):
        coarse = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f"{index:04d}.jpg"), image)
    return max(path.stat().st_size for path in folder.iterdir())


def measure_peak(source: Path, destination: Path, recipe: Recipe, *, workers: int) -> int:
    command = [sys.executable, "-c", RUN_AND_REPORT_PEAK, str(source), str(destination)]
    done = subprocess.run(
        [*command, recipe.to_yaml(), str(workers)], check=True, capture_output=True, text=True
    )
    return int(done.stdout)


@pytest.mark.parametrize(
    ("number", "size", "side", "steps", "workers", "container"),
    [
        pytest.param(4, (640, 480), 400, 6, 1, "files", id="few"),
        pytest.param(80, (640, 480), 64, 6, 1, "files", id="more rows than are held"),
        pytest.param(6, (1600, 1200), 960, 4, 2, "files", id="large"),
        pytest.param(2, (640, 480), 400, 8, 2, "files", id="deep"),
        pytest.param(16, (640, 480), 400, 6, 2, "webdataset", id="tars"),
    ],
)
def test_a_process_stays_below_what_is_predicted(  # noqa: PLR0913, PLR0917 -- a table.
    tmp_path: Path,
    number: int,
    size: tuple[int, int],
    side: int,
    steps: int,
    workers: int,
    container: str,
) -> None:
    width, height = size
    source = tmp_path / "source"
    largest = make_photographs(source, number=number, width=width, height=height)
    document = classic(side=side).model_dump(mode="json")
    document["transforms"] = [*document["transforms"], "VerticalFlip", "Hue"][:steps]
    document["output"]["container"] = container
    recipe = Recipe.from_mapping(document)
    measured = measure_peak(source, tmp_path / "destination", recipe, workers=workers)
    predicted = predict_peak_bytes(recipe, workers=workers, largest_source_bytes=largest)
    assert measured <= predicted
    # A prediction that is far too high would refuse machines that are large enough.
    assert predicted < 2 * measured


def test_masks_are_predicted_as_well(tmp_path: Path) -> None:
    """The worst that there are: noise in four channels, of which PNG saves nothing."""
    source = tmp_path / "source"
    largest = make_photographs(source / "images", number=8, width=640, height=480)
    noise = np.random.default_rng(2).integers(0, 255, (480, 640, 4), np.uint8)
    (source / "masks").mkdir()
    for image in (source / "images").iterdir():
        cv2.imwrite(str(source / "masks" / f"{image.stem}.png"), noise)
    document = classic(side=400).model_dump(mode="json") | {"targets": {"masks": "masks"}}
    recipe = Recipe.from_mapping(document)
    measured = measure_peak(source, tmp_path / "destination", recipe, workers=2)
    assert measured <= predict_peak_bytes(recipe, workers=2, largest_source_bytes=largest)


def test_pictures_with_alpha_are_predicted_as_well(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    rows = np.random.default_rng(3).integers(0, 255, (1, 6000, 4), np.uint8)
    picture = np.repeat(np.repeat(rows[:, ::4], 4, axis=1), 5000, axis=0)
    cv2.imwrite(str(source / "drawing.png"), picture)
    largest = picture.shape[0] * picture.shape[1] // 10
    measured = measure_peak(source, tmp_path / "destination", classic(steps=2), workers=1)
    predicted = predict_peak_bytes(classic(steps=2), workers=1, largest_source_bytes=largest)
    assert measured <= predicted


def test_more_outputs_need_no_more_memory_than_a_frame_for_each_level() -> None:
    frame = 400 * 400 * 3
    five, six = (predict_peak_bytes(classic(steps=steps), workers=1) for steps in (5, 6))
    assert six - five == frame


def test_each_worker_needs_its_own_frames() -> None:
    one, two, three = (predict_peak_bytes(classic(), workers=workers) for workers in (1, 2, 3))
    assert two - one == three - two > 13 * 400 * 400 * 3
    assert one > LIBRARIES_BYTES


def test_a_source_counts_by_its_pixels_up_to_the_limit() -> None:
    small, large, larger = (
        predict_peak_bytes(classic(), workers=1, largest_source_bytes=size)
        for size in (10**5, 10**7, 10**7 + 1)
    )
    assert large - small > 6 * 99_000_000
    assert larger - large < 10  # Beyond limits.max_pixels no source is decoded.
