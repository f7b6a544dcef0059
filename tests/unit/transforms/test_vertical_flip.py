import numpy as np

from kaleidoscope.model import BgrImage
from kaleidoscope.transforms.vertical_flip import flip_vertically


def test_rows_change_places_and_nothing_else(noise: BgrImage) -> None:
    np.testing.assert_array_equal(flip_vertically(noise), noise[::-1])
