"""Each source has the mask that is called like it, and no other."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from kaleidoscope.errors import PlanError
from kaleidoscope.masks import Masks, find_masks
from kaleidoscope.stores import LocalStore

Find: TypeAlias = Callable[..., Masks]


@pytest.fixture
def found(tmp_path: Path) -> Find:
    def find(*keys: str) -> Masks:
        for key in keys:
            LocalStore(tmp_path).put(key, b"")
        return find_masks(LocalStore(tmp_path), "masks")

    return find


@pytest.mark.parametrize(
    ("mask", "source"),
    [
        ("masks/rex.png", "rex.jpg"),
        ("masks/rex.TIF", "rex.JPG"),
        ("masks/cats/rex.png", "cats/rex.jpg"),
        ("masks/cats/rex.png", "images/cats/rex.jpg"),
        ("masks/rex.bmp", "images/rex.jpg"),
        ("masks/rex.v2.png", "rex.v2.jpg"),
    ],
)
def test_a_mask_is_called_like_its_source(found: Find, mask: str, source: str) -> None:
    info = found(mask, "masks/other.png").of(source)
    assert info is not None
    assert info.key == mask


def test_a_mask_of_another_folder_is_none(found: Find) -> None:
    masks = found("masks/dogs/rex.png", "masks/a/b/rex.png", "masks/notes.txt")
    assert masks.of("cats/rex.jpg") is None
    assert masks.of("rex.jpg") is None
    assert masks.of("x/y/a/b/rex.jpg") is None


def test_the_whole_path_goes_before_the_one_without_its_first_folder(found: Find) -> None:
    masks = found("masks/images/rex.png", "masks/rex.png")
    info = masks.of("images/rex.jpg")
    assert info is not None
    assert info.key == "masks/images/rex.png"


@pytest.mark.parametrize("second", ["rex.png", "dogs/rex.jpg"])
def test_a_mask_of_two_sources_is_refused(found: Find, second: str) -> None:
    masks = found("masks/rex.png")
    masks.claim("cats/rex.jpg" if "/" in second else "rex.jpg")
    with pytest.raises(PlanError, match=r"the mask masks/rex.png would belong to .*rex"):
        masks.claim(second)


def test_a_source_may_ask_for_its_mask_again(found: Find) -> None:
    masks = found("masks/rex.png")
    assert masks.claim("rex.jpg") == masks.claim("rex.jpg") is not None


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (("rex.jpg",), r"there is no mask under .*/masks/; check targets.masks"),
        (("masks/readme.txt",), r"there is no mask"),
        (("masks/rex.jpg",), r"masks/rex.jpg is of a lossy format"),
        (("masks/rex.png", "masks/rex.tif"), r"masks/rex.png and masks/rex.tif would be masks of"),
    ],
)
def test_masks_that_cannot_be_told_are_refused(
    found: Find, keys: tuple[str, ...], message: str
) -> None:
    with pytest.raises(PlanError, match=message):
        found(*keys)
