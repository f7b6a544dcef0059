import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaleidoscope.errors import CodecError
from kaleidoscope.fingerprints import NEAR_BITS, fingerprint, near_pairs, perceptual_hash
from kaleidoscope.model import BgrImage
from tests import image_files
from tests.data_sets import PHOTOS

PATHS = sorted(PHOTOS.rglob("*.jpg"))


def photo(index: int) -> BgrImage:
    image = cv2.imread(str(PATHS[index]))
    assert image is not None
    return image.astype(np.uint8)


def bits_between(one: int, other: int) -> int:
    return (one ^ other).bit_count()


@pytest.mark.parametrize("index", range(len(PATHS)))
def test_copies_of_a_photograph_are_near_and_others_are_far(index: int) -> None:
    image = photo(index)
    found = perceptual_hash(image)
    copies = [
        cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
        cv2.convertScaleAbs(image, alpha=1.1, beta=15),
        cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR),
    ]
    for copy in copies:
        assert bits_between(found, perceptual_hash(copy.astype(np.uint8))) <= NEAR_BITS
    again = image_files.opencv(".jpg", image, cv2.IMWRITE_JPEG_QUALITY, 30)
    assert bits_between(found, fingerprint(again, max_pixels=2**30)) <= NEAR_BITS
    other = perceptual_hash(photo(index - 1))
    assert bits_between(found, other) > 2 * NEAR_BITS


@given(st.lists(st.integers(0, 2**64 - 1), max_size=30), st.integers(0, 64))
def test_near_pairs_are_those_of_a_look_at_each(hashes: list[int], max_bits: int) -> None:
    hashes += [value ^ 1 for value in hashes[::3]]
    found = list(near_pairs(np.array(hashes, dtype=np.uint64), max_bits=max_bits))
    numbered = itertools.combinations(enumerate(hashes), 2)
    assert sorted(found) == [
        (i, j) for (i, one), (j, other) in numbered if bits_between(one, other) <= max_bits
    ]


def test_near_pairs_are_found_across_blocks() -> None:
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**63, 1_000).astype(np.uint64)
    hashes[900] = hashes[3] ^ np.uint64(0b111)
    assert list(near_pairs(hashes)) == [(3, 900)]


def test_what_is_no_image_has_no_fingerprint() -> None:
    with pytest.raises(CodecError):
        fingerprint(b"text", max_pixels=100)
