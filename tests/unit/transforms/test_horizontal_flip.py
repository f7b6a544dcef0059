import numpy as np

from kaleidoscope.model import BgrImage
from kaleidoscope.transforms.horizontal_flip import flip_horizontally


def test_columns_change_places_and_nothing_else(noise: BgrImage) -> None:
    np.testing.assert_array_equal(flip_horizontally(noise), noise[:, ::-1])
