"""What a few real sources say of an estimate."""

from dataclasses import asdict
from pathlib import Path

import cv2
import pytest

from kaleidoscope.augment import Augmenter
from kaleidoscope.calibration import calibrate
from kaleidoscope.errors import AccessError
from kaleidoscope.planning import Estimate, estimate
from kaleidoscope.stores import LocalStore, Store
from tests import data_sets
from tests.data_sets import Place
from tests.faulty_stores import WatchedStore

RECIPE = data_sets.recipe(steps=2, side=16)
SECONDS = ("transform_cpu_s", "output_cpu_s", "cheapest_transform_cpu_s")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return data_sets.local(tmp_path, data_sets.plain_images(3))


def calibrated(store: Store) -> tuple[Estimate, Estimate]:
    before = estimate(RECIPE)
    return before, calibrate(before, store, list(store.list_objects()), RECIPE)


def test_all_seconds_change_by_one_factor_and_bytes_are_as_measured(place: Place) -> None:
    before, after = map(asdict, calibrated(LocalStore(place.source.uri)))
    report = place.run(RECIPE)
    assert after.pop("output_bytes") == round(report.output_bytes / 3)
    before.pop("output_bytes")
    factors = {round(after.pop(name) / before.pop(name), 9) for name in SECONDS}
    assert len(factors) == 1
    assert factors != {1.0}
    assert after == before


def test_what_cannot_be_used_is_passed_over(tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "broken.jpg").write_bytes(b"no image")
    before, after = calibrated(LocalStore(str(folder)))
    assert after == before
    (folder / "good.png").write_bytes(next(iter(data_sets.plain_images(1).values())))
    before, after = calibrated(LocalStore(str(folder)))
    assert after != before


def test_a_source_that_is_refused_or_breaks_opencv_is_passed_over(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: str, key: str) -> None:
        if key == "a/000.jpg":
            raise AccessError(f"not allowed: {key}")

    before, after = calibrated(WatchedStore(place.source, before=refuse))
    assert after != before

    def break_down(*_: object, **__: object) -> None:
        raise cv2.error("out of memory")

    monkeypatch.setattr(Augmenter, "root", break_down)
    before, after = calibrated(place.source)
    assert after == before


def test_without_samples_the_estimate_stays(place: Place) -> None:
    before = estimate(RECIPE)
    assert calibrate(before, place.source, [], RECIPE) == before
