import json

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaleidoscope.codecs import EncodeSpec, decode, encode, probe, reduction_for
from kaleidoscope.errors import TransformError
from kaleidoscope.model import BgrImage
from kaleidoscope.normalization import Normalization, NormalizationMode, square_left_top
from kaleidoscope.seeding import named_rng
from tests.image_files import picture

MODES: tuple[NormalizationMode, ...] = ("square_crop", "fit", "none")

lengths = st.integers(1, 90)
output_sides = st.integers(1, 70)
offsets = st.floats(0, 1) | st.sampled_from([0.0, 1.0])
modes = st.sampled_from(MODES)


def columns(width: int, height: int) -> BgrImage:
    """Each pixel holds its column (blue) and its row (green)."""
    y, x = np.mgrid[0:height, 0:width]
    return np.dstack((x, y, x)).astype(np.uint8)


def normalize(image: BgrImage, normalization: Normalization) -> BgrImage:
    height, width = image.shape[:2]
    return normalization.apply(image, source_width=width, source_height=height)


@given(lengths, lengths, output_sides, offsets)
def test_square_crop_is_exactly_side_by_side(
    width: int, height: int, side: int, offset: float
) -> None:
    root = normalize(columns(width, height), Normalization("square_crop", side, offset))
    assert root.shape == (side, side, 3)
    assert root.dtype == np.uint8
    assert root.flags.c_contiguous


@given(lengths, lengths, output_sides)
def test_fit_keeps_the_aspect_and_never_loses_a_side(width: int, height: int, side: int) -> None:
    root = normalize(columns(width, height), Normalization("fit", side))
    assert max(root.shape[:2]) == side
    exact = side * min(width, height) / max(width, height)
    assert abs(min(root.shape[:2]) - max(exact, 1)) <= 0.5
    assert (root.shape[0] <= root.shape[1]) or height > width


@given(lengths, lengths, modes, output_sides, offsets)
def test_output_size_is_the_root_s(
    width: int, height: int, mode: NormalizationMode, side: int, offset: float
) -> None:
    normalization = Normalization(mode, side, offset)
    root = normalize(columns(width, height), normalization)
    assert normalization.output_size(width, height) == (root.shape[1], root.shape[0])


@given(lengths, lengths, modes, output_sides, offsets)
def test_source_is_left_untouched(
    width: int, height: int, mode: NormalizationMode, side: int, offset: float
) -> None:
    image = columns(width, height)
    normalize(image, Normalization(mode, side, offset))
    assert np.array_equal(image, columns(width, height))


@given(lengths, lengths, modes, output_sides, offsets)
def test_recorded_parameters_give_the_same_root(
    width: int, height: int, mode: NormalizationMode, side: int, offset: float
) -> None:
    normalization = Normalization(mode, side, offset)
    replayed = Normalization.from_params(json.loads(json.dumps(dict(normalization.params()))))
    image = picture(width, height)
    assert np.array_equal(normalize(image, replayed), normalize(image, normalization))
    assert replayed.params() == normalization.params()


@given(lengths, lengths)
def test_offset_zero_is_the_left_or_top_edge_and_one_the_right_or_bottom(
    width: int, height: int
) -> None:
    image, side = columns(width, height), min(width, height)
    first = normalize(image, Normalization("square_crop", side, 0))
    last = normalize(image, Normalization("square_crop", side, 1))
    assert first[0, 0].tolist() == [0, 0, 0]
    assert last[-1, -1].tolist() == [width - 1, height - 1, width - 1]


@given(lengths, lengths, offsets)
def test_unresized_crop_is_a_cut_of_the_source(width: int, height: int, offset: float) -> None:
    image, side = columns(width, height), min(width, height)
    left, top = square_left_top(width, height, offset)
    root = normalize(image, Normalization("square_crop", side, offset))
    assert np.array_equal(root, image[top : top + side, left : left + side])


@given(st.integers(1, 4000), st.integers(1, 4000), offsets, st.sampled_from([2, 4, 8]))
def test_reduced_decode_moves_the_crop_by_little_more_than_a_decoded_pixel(
    width: int, height: int, offset: float, reduction: int
) -> None:
    # One row is enough to see where the crop lies; its values are the columns, in two bytes.
    wide, short = (max(1, round(f(width, height) / reduction)) for f in (max, min))
    x = np.arange(wide, dtype=np.uint16)
    row = np.dstack((x % 256, x // 256, x)).astype(np.uint8)
    image = np.repeat(row, short, axis=0)
    source = (max(width, height), min(width, height))
    root = Normalization("square_crop", short, offset).apply(
        image, source_width=source[0], source_height=source[1]
    )
    first, last = (int(root[0, x, 0]) + 256 * int(root[0, x, 1]) for x in (0, -1))
    left, side = square_left_top(*source, offset)[0], source[1]
    assert abs(first * reduction - left) <= 1.5 * reduction
    assert abs((last + 1) * reduction - (left + side)) <= 1.5 * reduction


@pytest.mark.parametrize(("mode", "expected"), [("square_crop", 4), ("fit", 8)])
@pytest.mark.parametrize("size", [(1600, 1000), (1000, 1601)])
def test_reduced_decode_gives_nearly_the_same_root(
    mode: NormalizationMode, expected: int, size: tuple[int, int]
) -> None:
    data = encode(picture(*size), EncodeSpec(quality=98))
    header = probe(data, max_pixels=10_000_000)
    normalization = Normalization(mode, 200, 0.3)
    needed = normalization.min_short_side(header.width, header.height)
    reduction = reduction_for(header, needed)
    full, reduced = (
        normalization.apply(
            decode(data, header, reduction=r), source_width=size[0], source_height=size[1]
        )
        for r in (1, reduction)
    )
    assert reduction == expected
    assert full.shape == reduced.shape
    assert cv2.PSNR(full, reduced) > 35


@given(st.integers(1, 9000), st.integers(1, 9000), modes, st.integers(1, 9000))
def test_reduced_short_side_suffices_for_the_root(
    width: int, height: int, mode: NormalizationMode, side: int
) -> None:
    normalization = Normalization(mode, side)
    needed = normalization.min_short_side(width, height)
    assert needed >= min(normalization.output_size(width, height)) - 0.5


def test_square_image_loses_nothing_whatever_the_offset() -> None:
    image = columns(40, 40)
    for offset in (0.0, 0.37, 1.0):
        assert np.array_equal(normalize(image, Normalization("square_crop", 40, offset)), image)


def test_none_returns_the_source() -> None:
    image = columns(30, 20)
    assert normalize(image, Normalization("none")) is image


def test_strong_shrinking_averages_over_areas() -> None:
    stripes = np.zeros((80, 80, 3), np.uint8)
    stripes[:, ::4] = 255
    root = normalize(stripes, Normalization("fit", 20))
    # One column of four is white; linear interpolation would see two of the four.
    assert np.all(root == 64)


@pytest.mark.parametrize("size", [60, 75, 90])
def test_shrinking_to_half_or_less_uses_the_area(size: int) -> None:
    image = picture(size, size)
    area = cv2.resize(image, (30, 30), interpolation=cv2.INTER_AREA)
    assert np.array_equal(normalize(image, Normalization("square_crop", 30)), area)


def test_slight_shrinking_and_growing_interpolate_linearly() -> None:
    image = picture(60, 60)
    for side in (31, 59, 61, 200):
        root = normalize(image, Normalization("square_crop", side))
        assert np.array_equal(root, cv2.resize(image, (side, side)))


def test_sampled_offsets_cover_the_unit_interval_and_follow_their_names() -> None:
    drawn = [
        Normalization.sample(named_rng("seed", n), mode="square_crop", side=8).offset
        for n in range(200)
    ]
    assert 0 <= min(drawn) < 0.05
    assert 0.95 < max(drawn) <= 1
    again = Normalization.sample(named_rng("seed", 0), mode="square_crop", side=8)
    assert again == Normalization("square_crop", 8, drawn[0])


@pytest.mark.parametrize(
    ("mode", "names"),
    [("square_crop", ["mode", "side", "offset"]), ("fit", ["mode", "side"]), ("none", ["mode"])],
)
def test_only_what_was_used_is_recorded(mode: NormalizationMode, names: list[str]) -> None:
    assert list(Normalization(mode).params()) == names


@pytest.mark.parametrize(
    "params",
    [
        {"mode": "stretch"},
        {},
        {"mode": "fit", "side": 0},
        {"mode": "square_crop", "side": 8, "offset": 1.01},
        {"mode": "square_crop", "side": 8, "offset": float("nan")},
        {"mode": "fit", "size": 8},
    ],
)
def test_wrong_parameters_are_refused(params: dict[str, float | int | str]) -> None:
    with pytest.raises(TransformError, match="normali"):
        Normalization.from_params(params)
