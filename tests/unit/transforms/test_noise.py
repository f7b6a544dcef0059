import math

import numpy as np
import pytest
from pydantic import ValidationError

from kaleidoscope.errors import TransformError
from kaleidoscope.model import BgrImage
from kaleidoscope.transforms.noise import Noise, add_noise


def test_gaussian_noise_has_a_variance_of_two_grey_levels() -> None:
    grey = np.full((400, 400, 3), 128, dtype=np.uint8)
    noise = add_noise(grey, kind="gaussian", noise_seed=1).astype(float) - 128
    assert noise.var() == pytest.approx(2 + 1 / 12, rel=0.02)


def test_one_value_in_fifty_is_salt_or_pepper() -> None:
    grey = np.full((400, 400, 3), 128, dtype=np.uint8)
    result = add_noise(grey, kind="salt_and_pepper", noise_seed=1)
    assert (result == 255).mean() == pytest.approx(0.01, rel=0.06)
    assert (result == 0).mean() == pytest.approx(0.01, rel=0.06)


def test_speckle_is_a_grey_level_near_white() -> None:
    bright = np.full((400, 400, 3), 250, dtype=np.uint8)
    noise = add_noise(bright, kind="speckle", noise_seed=1).astype(float) - 250
    assert noise.std() == pytest.approx(math.sqrt((250 / 255) ** 2 + 1 / 12), rel=0.02)


def test_every_kind_is_drawn_about_as_often() -> None:
    rng = np.random.default_rng(1)
    drawn = [Noise().sample(rng).kind for _ in range(3000)]
    for kind in ("gaussian", "salt_and_pepper", "speckle"):
        assert drawn.count(kind) == pytest.approx(1000, rel=0.1)


def test_a_kind_that_was_left_out_is_not_drawn() -> None:
    rng = np.random.default_rng(1)
    assert {Noise(kinds=("speckle",)).sample(rng).kind for _ in range(20)} == {"speckle"}


@pytest.mark.parametrize("kinds", [[], ["fog"]])
def test_kinds_that_are_not_there_are_refused(kinds: list[str]) -> None:
    with pytest.raises(ValidationError, match="kinds"):
        Noise.model_validate({"kinds": kinds})


def test_a_recorded_kind_that_is_not_there_is_refused(noise: BgrImage) -> None:
    with pytest.raises(TransformError, match="fog"):
        add_noise(noise, kind="fog", noise_seed=1)
