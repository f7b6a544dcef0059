import itertools
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from kaleidoscope.augment import Augmenter
from kaleidoscope.codecs import EncodeSpec, encode
from kaleidoscope.errors import NotAnImageError, RecipeError, SettingsError
from kaleidoscope.model import BgrImage, StoredTargets
from kaleidoscope.preview import SMALL_SHEET, ContactSheet, SheetStyle, contact_sheet
from kaleidoscope.preview.captions import describe
from kaleidoscope.preview.layout import MAX_PAGE_PIXELS, MIN_TILE_PX
from kaleidoscope.preview.page import PAPER, Page, Type, shrink_to_fit
from kaleidoscope.recipe import Recipe
from kaleidoscope.transforms import TRANSFORMS, Operation
from kaleidoscope.tree import Applied

PHOTO = Path(__file__).parents[2] / "examples/photos/animals/cat.jpg"

FOUR = {"transforms": ["Rotate", "Contrast", "HorizontalFlip", "Noise"]}
WIDE = {
    "transforms": [{"name": "RandomRotate90", "copies": 2}, {"name": "Hue", "copies": 3}],
    "normalize": {"mode": "fit", "side": 120},
}
RECIPES = {
    "two nodes": {"transforms": ["Rotate"]},
    "four steps": FOUR,
    "shuffled": {**FOUR, "order": "shuffled"},
    "copies of a wide picture": WIDE,
    "without the original": {**FOUR, "select": {"keep_original": False}},
    "without inner nodes": {**FOUR, "select": {"include": ["*d"], "exclude": ["d"]}},
    "a sample": {**FOUR, "select": {"max_outputs_per_source": 5}},
}


@pytest.fixture(scope="module")
def photo() -> bytes:
    return PHOTO.read_bytes()


def _sheet(data: bytes, document: object, style: SheetStyle | None = None) -> ContactSheet:
    return contact_sheet(data, Recipe.from_mapping(document), style=style or SheetStyle(tile_px=64))


def _pixels(sheet: ContactSheet) -> BgrImage:
    pixels = cv2.imdecode(np.frombuffer(sheet.data, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    return pixels.astype(np.uint8, copy=False)


def _outputs(data: bytes, document: object) -> dict[str, BgrImage]:
    augmenter = Augmenter(Recipe.from_mapping(document))
    outputs = augmenter.outputs(augmenter.root(data))
    return {output.growth.node.name: output.growth.image.copy() for output in outputs}


@pytest.mark.parametrize("document", RECIPES.values(), ids=RECIPES)
def test_every_output_is_on_the_sheet_where_its_tile_says(photo: bytes, document: object) -> None:
    outputs = _outputs(photo, document)
    sheet = _sheet(photo, document)
    pixels = _pixels(sheet)
    assert sheet.num_left_out == 0
    assert [tile.node for tile in sheet.tiles] == sorted(
        outputs, key=lambda node: 0 if node == "root" else sum(map(str.isalpha, node))
    )
    for tile in sheet.tiles:
        box = tile.box
        shown = pixels[box.top : box.bottom, box.left : box.right]
        expected = shrink_to_fit(outputs[tile.node], box.width, box.height)
        assert np.array_equal(shown, expected), tile.node


@pytest.mark.parametrize("document", RECIPES.values(), ids=RECIPES)
def test_pictures_lie_apart_on_the_page(photo: bytes, document: object) -> None:
    sheet = _sheet(photo, document)
    boxes = [tile.box for tile in sheet.tiles]
    assert all(box.left > 0 and box.right < sheet.width for box in boxes)
    assert all(box.top > 0 and box.bottom < sheet.height for box in boxes)
    for one, other in itertools.combinations(boxes, 2):
        apart = one.right < other.left or other.right < one.left
        assert apart or one.bottom < other.top or other.bottom < one.top


def test_pictures_keep_their_proportions(photo: bytes) -> None:
    outputs = _outputs(photo, WIDE)
    turned = {image.shape[0] > image.shape[1] for image in outputs.values()}
    assert turned == {False, True}
    for tile in _sheet(photo, WIDE).tiles:
        height, width = outputs[tile.node].shape[:2]
        assert tile.box.width == pytest.approx(tile.box.height * width / height, abs=1)


def test_names_and_lines_are_drawn_around_the_pictures(photo: bytes) -> None:
    sheet = _sheet(photo, FOUR, SheetStyle(tile_px=128))
    pixels = _pixels(sheet)
    for tile in sheet.tiles[1:]:
        box = tile.box
        below = pixels[box.bottom + 2 : box.bottom + 22, box.left : box.right]
        above = pixels[box.top - 22 : box.top - 2, box.left : box.right]
        assert (below != PAPER).any(), tile.node
        assert (above != PAPER).any(), tile.node


def test_captions_tell_the_chain_in_the_order_in_which_it_was_applied(photo: bytes) -> None:
    document = {**FOUR, "order": "shuffled"}
    augmenter = Augmenter(Recipe.from_mapping(document))
    chains = {
        output.growth.node.name: output.growth.chain
        for output in augmenter.outputs(augmenter.root(photo))
    }
    tiles = _sheet(photo, document).tiles
    assert tiles[0].caption == "root"
    for tile in tiles[1:]:
        assert tile.operations == tuple(describe(applied) for applied in chains[tile.node])
        assert tile.caption == f"{tile.node}: {', '.join(tile.operations)}"


@pytest.mark.parametrize("num_tiles", [1, 4, 15])
def test_a_limit_keeps_the_images_nearest_to_the_root(photo: bytes, num_tiles: int) -> None:
    whole = _sheet(photo, FOUR)
    cut = _sheet(photo, FOUR, SheetStyle(tile_px=64, max_tiles=num_tiles))
    assert cut.num_left_out == whole.num_tiles - num_tiles
    assert [tile.caption for tile in cut.tiles] == [
        tile.caption for tile in whole.tiles[:num_tiles]
    ]


def test_a_limit_of_a_random_sample_keeps_members_of_the_sample(photo: bytes) -> None:
    document = RECIPES["a sample"]
    cut = _sheet(photo, document, SheetStyle(tile_px=64, max_tiles=3))
    assert {tile.node for tile in cut.tiles} <= set(_outputs(photo, document))


def test_a_limit_spares_the_work_for_what_is_left_out(
    photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    applied: list[str] = []
    for name in ("Rotate", "Contrast", "HorizontalFlip", "Noise"):
        operation = TRANSFORMS[name].operation

        def count(
            self: Operation,
            image: BgrImage,
            name: str = name,
            apply: Callable[[Operation, BgrImage], BgrImage] = operation.apply,
        ) -> BgrImage:
            applied.append(name)
            return apply(self, image)

        monkeypatch.setattr(operation, "apply", count)
    _sheet(photo, FOUR, SheetStyle(max_tiles=4))
    assert applied == ["Rotate", "Contrast", "HorizontalFlip"]


def test_a_limit_that_is_not_reached_changes_nothing(photo: bytes) -> None:
    limited = _sheet(photo, FOUR, SheetStyle(tile_px=64, max_tiles=16))
    assert limited == _sheet(photo, FOUR)


def test_tiles_shrink_until_the_page_has_a_size_that_programs_open() -> None:
    grey = encode(np.full((32, 32, 3), 128, np.uint8), EncodeSpec("png"))
    names = ["HorizontalFlip", "VerticalFlip", "ToGray", "Contrast", "Hue"] * 2 + ["Brightness"]
    document = {"transforms": names, "normalize": {"mode": "none"}}
    sheet = _sheet(grey, document, SheetStyle(tile_px=160))
    assert sheet.num_tiles == 2**11
    assert sheet.width * sheet.height <= MAX_PAGE_PIXELS
    assert len({tile.box for tile in sheet.tiles}) == 2**11
    assert MIN_TILE_PX <= sheet.tiles[-1].box.width < 100


@pytest.mark.parametrize("style", [SheetStyle(format="webp"), SMALL_SHEET])
def test_the_same_input_gives_the_same_bytes(photo: bytes, style: SheetStyle) -> None:
    assert _sheet(photo, FOUR, style) == _sheet(photo, FOUR, style)


@pytest.mark.parametrize(
    ("style", "magic"),
    [
        (SheetStyle(format="png"), b"\x89PNG"),
        (SheetStyle(format="jpeg"), b"\xff\xd8\xff"),
        (SheetStyle(format="webp"), b"RIFF"),
    ],
)
def test_a_sheet_is_of_the_format_and_size_that_it_says(
    photo: bytes, style: SheetStyle, magic: bytes
) -> None:
    sheet = _sheet(photo, FOUR, style)
    assert sheet.data.startswith(magic)
    assert sheet.format == style.format
    assert _pixels(sheet).shape == (sheet.height, sheet.width, 3)


def test_a_small_sheet_fits_into_a_document() -> None:
    raccoon = (PHOTO.parent / "raccoon.jpg").read_bytes()
    sheet = contact_sheet(raccoon, Recipe.preset("camera"), style=SMALL_SHEET)
    assert sheet.num_left_out == 64
    assert len(sheet.data) < 300_000


def test_what_is_no_image_fails_as_it_does_in_a_run() -> None:
    with pytest.raises(NotAnImageError):
        _sheet(b"these are words, not pixels", FOUR)


@pytest.mark.parametrize(("field", "value"), [("tile_px", 15), ("max_tiles", 0)])
def test_a_style_names_a_size_that_cannot_be(field: str, value: int) -> None:
    with pytest.raises(SettingsError, match=f"{field} must be at least .* got {value}"):
        SheetStyle(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "params", "caption"),
    [
        ("Rotate", {"angle_deg": -37.4}, "Rotate \N{MINUS SIGN}37°"),
        ("Contrast", {"gain": 1.311}, "Contrast \N{MULTIPLICATION SIGN}1.31"),
        ("Brightness", {"offset": 42}, "Brightness +42"),
        ("HorizontalFlip", {}, "HorizontalFlip"),
        ("Noise", {"kind": "salt_and_pepper", "noise_seed": 7}, "Noise salt & pepper"),
        ("RandomRotate90", {"quarter_turns": 3}, "RandomRotate90 270°"),
    ],
)
def test_a_caption_is_a_name_and_one_parameter(
    name: str, params: dict[str, float], caption: str
) -> None:
    assert describe(Applied(name, 1, TRANSFORMS[name].operation(**params))) == caption


@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_transform_has_a_short_caption(name: str) -> None:
    operation = TRANSFORMS[name]().sample(np.random.default_rng(1))
    caption = describe(Applied(name, 1, operation))
    assert caption.startswith(name)
    assert len(caption) <= 32


@pytest.mark.parametrize(
    "text", ["a photograph of nothing.jpg", "żółw.jpg", "写真.jpg", "\udce4\n"]
)
def test_text_never_leaves_the_room_that_it_has(text: str) -> None:
    page = Page(400, 60)
    page.write(text, (20, 40), Type(30, 600), width=90)
    columns = np.flatnonzero((page.pixels != PAPER).any(axis=(0, 2)))
    assert columns.size
    assert columns.min() >= 19
    assert columns.max() <= 20 + 90


FORBIDDING = {
    "transforms": ["Rotate", {"name": "HorizontalFlip", "not_for": ["left"]}, "Contrast"],
    "normalize": {"side": 64},
}


@pytest.mark.parametrize("select", [{}, {"max_outputs_per_source": 3}])
def test_what_is_not_for_a_label_is_not_on_the_sheet(photo: bytes, select: object) -> None:
    recipe = Recipe.from_mapping({**FORBIDDING, "select": select})
    sheet = contact_sheet(photo, recipe, known=StoredTargets(label="left"))
    nodes = {tile.node for tile in sheet.tiles}
    assert sheet.not_for == "not for left: b HorizontalFlip"
    assert nodes <= {"root", "a", "c", "ac"}
    assert len(nodes) == (3 if select else 4)
    for label in (None, "right"):
        whole = contact_sheet(photo, recipe, known=StoredTargets(label=label))
        assert (whole.not_for, whole.num_tiles) == ("", 3 if select else 8)


def test_the_sheet_says_what_is_not_on_it(photo: bytes) -> None:
    recipe = Recipe.from_mapping(FORBIDDING)
    fewer = Recipe.from_mapping({**FORBIDDING, "select": {"exclude": ["*b*"]}})
    said = _pixels(
        contact_sheet(photo, recipe, known=StoredTargets(label="left"), recipe_name="flips")
    )
    unsaid = _pixels(contact_sheet(photo, fewer, recipe_name="flips"))
    assert said.shape == unsaid.shape
    rows, _ = np.nonzero((said != unsaid).any(axis=2))
    assert rows.size
    assert rows.max() - rows.min() < 20


def test_a_label_of_which_nothing_is_made_has_no_sheet(photo: bytes) -> None:
    document = {**FORBIDDING, "select": {"keep_original": False, "include": ["*b*"]}}
    with pytest.raises(RecipeError, match="nothing is made of a photograph labelled 'left'"):
        contact_sheet(photo, Recipe.from_mapping(document), known=StoredTargets(label="left"))
