import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaleidoscope.errors import TransformError
from kaleidoscope.model import BgrImage
from kaleidoscope.transforms.coarse_dropout import (
    CoarseDropout,
    Hole,
    HolesCovered,
    cover_holes,
)

shares = st.floats(0, 1)


@given(
    hole=st.builds(Hole, shares, shares, shares, shares),
    height=st.integers(1, 50),
    width=st.integers(1, 50),
    fill=st.integers(0, 255),
)
def test_a_hole_covers_its_share_and_nothing_else(
    hole: Hole, height: int, width: int, fill: int
) -> None:
    image = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    covered = cover_holes(image, [hole], fill=fill)
    rows, columns = hole.slices(height, width)
    assert 0 <= rows.start < rows.stop <= height
    assert 0 <= columns.start < columns.stop <= width
    assert rows.stop - rows.start == max(round(hole.height * height), 1)
    assert columns.stop - columns.start == max(round(hole.width * width), 1)
    assert (covered[rows, columns] == fill).all()
    outside = np.ones((height, width), dtype=bool)
    outside[rows, columns] = False
    np.testing.assert_array_equal(covered[outside], image[outside])


@given(seed=st.integers(0, 2**32))
def test_numbers_and_sides_are_drawn_from_their_ranges(seed: int) -> None:
    transform = CoarseDropout(
        num_holes_range=(2, 4), hole_height_range=(0.1, 0.2), hole_width_range=(0.3, 0.4), fill=9
    )
    holes = transform.sample(np.random.default_rng(seed))
    assert 2 <= len(holes.tops) <= 4
    assert all(0.1 <= height <= 0.2 for height in holes.heights)
    assert all(0.3 <= width <= 0.4 for width in holes.widths)
    assert all(0 <= place <= 1 for place in holes.tops + holes.lefts)
    assert holes.fill == 9


def test_every_hole_is_covered(noise: BgrImage) -> None:
    operation = HolesCovered((0, 1), (0, 1), (0.1, 0.1), (0.1, 0.1), fill=255)
    covered = operation.apply(noise)
    assert (covered[0, 0] == 255).all()
    assert (covered[-1, -1] == 255).all()


@pytest.mark.parametrize(
    "operation",
    [
        HolesCovered((0.5,), (0.5,), (1.1,), (0.1,), fill=0),
        HolesCovered((1.5,), (0.5,), (0.1,), (0.1,), fill=0),
        HolesCovered((0.5,), (0.5,), (0.1,), (0.1,), fill=256),
        HolesCovered((0.5,), (0.5,), (0.1,), (), fill=0),
    ],
)
def test_holes_that_cannot_be_are_refused(noise: BgrImage, operation: HolesCovered) -> None:
    with pytest.raises(TransformError, match="hole"):
        operation.apply(noise)


def test_no_hole_is_the_identity(noise: BgrImage) -> None:
    empty = HolesCovered((), (), (), (), fill=0)
    np.testing.assert_array_equal(empty.apply(noise), noise)
