import numpy as np
import pytest

from kaleidoscope.errors import TransformError
from kaleidoscope.model import BgrImage
from kaleidoscope.transforms.random_rotate90 import RandomRotate90, turn_quarters


@pytest.mark.parametrize("quarter_turns", [1, 2, 3])
def test_pixels_change_places_and_nothing_else(noise: BgrImage, quarter_turns: int) -> None:
    turned = turn_quarters(noise, quarter_turns=quarter_turns)
    np.testing.assert_array_equal(turned, np.rot90(noise, quarter_turns))


def test_the_image_itself_is_never_drawn() -> None:
    rng = np.random.default_rng(1)
    assert {RandomRotate90().sample(rng).quarter_turns for _ in range(100)} == {1, 2, 3}


@pytest.mark.parametrize("quarter_turns", [0, 4, -1])
def test_other_turns_are_refused(noise: BgrImage, quarter_turns: int) -> None:
    with pytest.raises(TransformError, match=str(quarter_turns)):
        turn_quarters(noise, quarter_turns=quarter_turns)
