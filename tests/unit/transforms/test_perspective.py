import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaleidoscope.errors import TransformError
from kaleidoscope.model import BgrImage
from kaleidoscope.transforms.perspective import Perspective, perspective_matrix, pull_corners

insets_drawn = st.tuples(*[st.floats(0, 0.3)] * 8)


def test_corners_that_stay_are_the_identity(noise: BgrImage) -> None:
    np.testing.assert_array_equal(pull_corners(noise, insets=(0.0,) * 8), noise)


@given(width=st.integers(1, 3000), height=st.integers(1, 3000), insets=insets_drawn)
def test_the_frame_shows_the_quadrangle_between_the_insets(
    width: int, height: int, insets: tuple[float, ...]
) -> None:
    x, y, w, h = -0.5, -0.5, width, height
    a, b, c, d, e, f, g, i = insets
    seen = [
        (x + a * w, y + b * h),
        (x + w - c * w, y + d * h),
        (x + w - e * w, y + h - f * h),
        (x + g * w, y + h - i * h),
    ]
    frame = [(x, y), (x + w, y), (x + w, y + h), (x, y + h)]
    backwards = np.linalg.inv(perspective_matrix(width, height, insets))
    points = np.column_stack([np.array(frame), np.ones(4)]) @ backwards.T
    # Of one sign, or the horizon would run through the picture.
    assert (points[:, 2] > 0).all() or (points[:, 2] < 0).all()
    found = points[:, :2] / points[:, 2:]
    np.testing.assert_allclose(found, np.array(seen), atol=1e-3 * max(width, height))


@given(seed=st.integers(0, 2**32))
def test_no_corner_moves_further_than_the_scale(seed: int) -> None:
    operation = Perspective(scale=(0.05, 0.1)).sample(np.random.default_rng(seed))
    assert len(operation.insets) == 8
    assert all(0 <= inset <= 0.1 for inset in operation.insets)


@pytest.mark.parametrize("insets", [(0.1,) * 7, (0.1,) * 7 + (0.31,), (0.1,) * 7 + (-0.1,)])
def test_insets_that_fold_the_image_are_refused(noise: BgrImage, insets: tuple[float, ...]) -> None:
    with pytest.raises(TransformError, match="inset"):
        pull_corners(noise, insets=insets)
