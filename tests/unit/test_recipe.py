"""Recipes as people write them, rightly and wrongly."""

import re
from typing import Any

import numpy as np
import pytest

from kaleidoscope.augment import Augmenter
from kaleidoscope.errors import RecipeError
from kaleidoscope.recipe import Recipe, preset_names
from kaleidoscope.transforms import TRANSFORMS
from tests import image_files

STEPS: list[dict[str, Any]] = [
    {"name": "Rotate", "params": {"limit": [-10, 10]}},
    {"name": "HorizontalFlip"},
]


def make_recipe(**fields: Any) -> Recipe:
    return Recipe.from_mapping({"transforms": STEPS, **fields})


def test_a_bare_name_is_a_step_with_its_defaults() -> None:
    bare = Recipe.from_text("transforms: [Rotate, HorizontalFlip]")
    written = Recipe.from_text(
        "transforms:\n"
        "  - {name: Rotate, copies: 1, params: {limit: [-90, 90]}}\n"
        "  - {name: HorizontalFlip, params: {}}\n"
    )
    assert bare == written


def test_json_is_read_as_yaml_is() -> None:
    assert Recipe.from_text('{"transforms": ["Rotate"]}') == Recipe.from_text(
        "transforms: [Rotate]"
    )


def test_a_merge_key_fills_a_step_in() -> None:
    text = (
        "transforms:\n"
        "  - &turn {name: Rotate, copies: 2, params: {limit: [0, 5]}}\n"
        "  - {<<: *turn, copies: 3}\n"
    )
    first, second = Recipe.from_text(text).transforms
    assert (first.copies, second.copies) == (2, 3)
    assert first.params == second.params


@pytest.mark.parametrize(
    ("copies", "labels"),
    [(1, ("b",)), (2, ("b1", "b2")), (9, tuple(f"b{n}" for n in range(1, 10)))],
)
def test_steps_are_called_by_letters_and_copies_by_numbers(
    copies: int, labels: tuple[str, ...]
) -> None:
    steps = ["Rotate", {"name": "Rotate", "copies": copies}]
    assert make_recipe(transforms=steps).copy_names(1) == labels


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"transforms": []}, "transforms: .* at least 1 item.*, got []"),
        ({"transforms": "Rotate"}, 'transforms: .*, got "Rotate"'),
        ({"transforms": None}, "transforms: .*, got null"),
        ({"transforms": [3]}, "transforms[0]: .*, got 3"),
        ({"transforms": [{}]}, "transforms[0].name: Field required"),
        ({"transforms": [{"name": 3}]}, "transforms[0].name: .* string, got 3"),
        ({"transforms": ["Rotat"]}, 'transforms[0].name: .* Rotate.*, got "Rotat"'),
        ({"transforms": ["Rotate", "x"]}, 'transforms[1].name: there is no .*, got "x"'),
        ({"transforms": [{"name": "Rotate", "copies": 0}]}, "transforms[0].copies: .* 1.*, got 0"),
        (
            {"transforms": [{"name": "Rotate", "copies": 10}]},
            "transforms[0].copies: .* 9.*, got 10",
        ),
        ({"transforms": [{"name": "Rotate", "copies": True}]}, "copies: .* integer, got true"),
        ({"transforms": [{"name": "Rotate", "copies": "2"}]}, 'copies: .* integer, got "2"'),
        ({"transforms": [{"name": "Rotate", "copys": 2}]}, "transforms[0].copys: .*, got 2"),
        ({"transforms": [{"name": "Rotate", "params": 3}]}, "transforms[0].params: .*, got 3"),
        (
            {"transforms": [{"name": "Rotate", "params": {"limt": 3}}]},
            "transforms[0].params.limt: .*, got 3",
        ),
        (
            {"transforms": [{"name": "Rotate", "params": {"limit": [-181, 0]}}]},
            "transforms[0].params.limit: .* -180 <= low <= high <= 180 degrees, got [-181, 0]",
        ),
        (
            {"transforms": [{"name": "Rotate", "params": {"limit": [5, 1]}}]},
            "transforms[0].params.limit: .* low <= high .*, got [5, 1]",
        ),
        (
            {"transforms": [{"name": "Rotate", "params": {"limit": [0, float("inf")]}}]},
            "transforms[0].params.limit[1]: .* finite .*, got Infinity",
        ),
        ({"order": "random"}, "order: .*'given' or 'shuffled', got \"random\""),
        ({"normalize": {"side": 7}}, "normalize.side: .* 8.*, got 7"),
        ({"normalize": {"side": 8193}}, "normalize.side: .* 8192.*, got 8193"),
        ({"normalize": {"side": 400.0}}, "normalize.side: .* integer, got 400.0"),
        ({"normalize": {"mode": "crop"}}, "normalize.mode: .*'square_crop'.*, got \"crop\""),
        ({"output": {"format": "gif"}}, "output.format: .*'webp'.*, got \"gif\""),
        ({"output": {"quality": 0}}, "output.quality: .* 1.*, got 0"),
        ({"output": {"quality": 101}}, "output.quality: .* 100.*, got 101"),
        ({"select": {"max_depth": 0}}, "select.max_depth: .* 1.*, got 0"),
        ({"select": {"max_depth": 27}}, "select.max_depth: .* 26.*, got 27"),
        ({"select": {"include": "a*"}}, 'select.include: .*, got "a*"'),
        ({"select": {"include": ["a", "A"]}}, 'select.include[1]: .*, got "A"'),
        ({"select": {"exclude": [""]}}, 'select.exclude[0]: .*, got ""'),
        ({"select": {"max_outputs_per_source": 0}}, "select.max_outputs_per_source: .* 1.*, got 0"),
        ({"select": {"keep_original": "no"}}, 'select.keep_original: .* boolean, got "no"'),
        ({"limits": {"max_nodes": 65537}}, "limits.max_nodes: .* 65536.*, got 65537"),
        ({"limits": {"max_pixels": 0}}, "limits.max_pixels: .* 1.*, got 0"),
        ({"limits": {"max_error_rate": 1.1}}, "limits.max_error_rate: .* 1.*, got 1.1"),
        ({"limits": {"max_error_rate": -0.1}}, "limits.max_error_rate: .* 0.*, got -0.1"),
        ({"limits": {"max_error_rate": float("nan")}}, "limits.max_error_rate: .*, got NaN"),
        ({"seed": -1}, "seed: .* 0.*, got -1"),
        ({"seed": 2**53}, "seed: .* 9007199254740992.*, got 9007199254740992"),
        ({"seed": True}, "seed: .* integer, got true"),
        ({"seed": 1.5}, "seed: .* integer, got 1.5"),
        ({"seeds": 1}, "seeds: .*, got 1"),
        ({"output": None}, "output: .*, got null"),
    ],
)
def test_a_wrong_value_is_reported_with_its_place_and_what_is_allowed(
    fields: dict[str, Any], message: str
) -> None:
    # In the table only ".*" is a pattern; brackets and dots stand for themselves.
    pattern = ".*".join(re.escape(part) for part in message.split(".*"))
    with pytest.raises(RecipeError, match=pattern):
        make_recipe(**fields)


def test_every_wrong_value_is_reported_at_once() -> None:
    with pytest.raises(RecipeError) as caught:
        make_recipe(seed=-1, output={"quality": 0}, transforms=["Nothing"])
    lines = str(caught.value).splitlines()
    assert lines[0] == "recipe is not a recipe:"
    assert [line.split(":")[0].strip() for line in lines[1:]] == [
        "transforms[0].name",
        "output.quality",
        "seed",
    ]


def test_a_long_value_is_cut_short() -> None:
    with pytest.raises(RecipeError) as caught:
        make_recipe(seed="x" * 10_000)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "text",
    [
        "transforms: [Rotate]\nseed: 1\nseed: 2",
        "transforms: [{name: Rotate, copies: 1, copies: 2}]",
        '{"transforms": ["Rotate"], "transforms": ["HorizontalFlip"]}',
    ],
)
def test_a_key_that_stands_twice_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match=r"the key '.*' stands twice"):
        Recipe.from_text(text)


@pytest.mark.parametrize("text", ["", "Rotate", "- Rotate", "3", "null"])
def test_a_document_that_is_no_mapping_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match=r"my\.yaml must be a mapping with a field 'transforms'"):
        Recipe.from_text(text, origin="my.yaml")


@pytest.mark.parametrize("text", ["transforms: [", "a: b: c", "\t"])
def test_a_text_that_is_no_yaml_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match=r"my\.yaml is neither YAML nor JSON"):
        Recipe.from_text(text, origin="my.yaml")


def test_code_in_a_document_is_not_run() -> None:
    with pytest.raises(RecipeError, match="could not determine a constructor"):
        Recipe.from_text("!!python/object/apply:os.getcwd []")


def test_a_forgotten_power_of_two_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"1048576 nodes .* limits\.max_nodes = 4096; take"):
        make_recipe(transforms=["HorizontalFlip"] * 20)


@pytest.mark.parametrize(
    "fields",
    [
        {"transforms": ["HorizontalFlip"] * 12},
        {"transforms": ["HorizontalFlip"] * 20, "select": {"max_depth": 3}},
        {"transforms": ["HorizontalFlip"] * 16, "limits": {"max_nodes": 65536}},
    ],
)
def test_a_tree_within_the_limit_is_taken(fields: dict[str, Any]) -> None:
    recipe = make_recipe(**fields)
    assert recipe.num_nodes <= recipe.limits.max_nodes


@pytest.mark.parametrize(
    "fields",
    [
        {"transforms": STEPS[:1]},
        {"transforms": STEPS[::-1]},
        {"transforms": [{"name": "Rotate", "params": {"limit": [-10, 11]}}, STEPS[1]]},
        {"transforms": [{**STEPS[0], "copies": 2}, STEPS[1]]},
        {"order": "shuffled"},
        {"normalize": {"side": 401}},
        {"normalize": {"mode": "fit"}},
        {"output": {"format": "png"}},
        {"output": {"quality": 94}},
        {"select": {"max_depth": 1}},
        {"select": {"include": ["a*"]}},
        {"select": {"exclude": ["a*"]}},
        {"select": {"max_outputs_per_source": 1}},
        {"select": {"keep_original": False}},
        {"seed": 1},
    ],
)
def test_what_changes_outputs_changes_the_digest(fields: dict[str, Any]) -> None:
    assert make_recipe(**fields).digest != make_recipe().digest


def test_a_new_version_of_a_transform_changes_the_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    before = make_recipe().digest
    monkeypatch.setattr(TRANSFORMS["Rotate"], "version", TRANSFORMS["Rotate"].version + 1)
    assert make_recipe().digest != before


def test_the_digest_is_that_of_every_release() -> None:
    # A change of it makes every data set that was made before look unmade.
    assert Recipe.from_text("transforms: [Rotate, HorizontalFlip]").digest == "75e579b7c1498290"


@pytest.mark.parametrize(
    ("name", "num_nodes"), [("camera", 128), ("classic", 64), ("geometry", 32), ("light", 32)]
)
def test_a_preset_makes_as_many_images_as_it_says(name: str, num_nodes: int) -> None:
    assert Recipe.preset(name).num_nodes == num_nodes


def test_the_symmetries_of_a_square_are_made_once_each() -> None:
    augmenter = Augmenter(Recipe.preset("geometry"))
    for seed in range(8):
        noise = np.random.default_rng(seed).integers(0, 255, (64, 64, 3), np.uint8)
        root = augmenter.root(image_files.opencv(".png", noise))
        made = [output.data for output in augmenter.outputs(root)]
        assert len(set(made)) == len(made)


@pytest.mark.parametrize(
    "step",
    [
        {"name": "HorizontalFlip", "copies": 3},
        {"name": "Rotate", "copies": 2, "params": {"limit": 10}},
    ],
)
def test_copies_of_what_draws_nothing_are_refused(step: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=rf"{step['name']} draws nothing by chance here"):
        make_recipe(transforms=[step])


@pytest.mark.parametrize(
    ("field", "value", "wanted"),
    [
        ("labels", "labels.xlsx", "a file below the source that ends in .csv"),
        ("masks", "masks/", "a folder below the source, without a slash"),
    ],
)
def test_a_wrong_place_of_targets_is_told_what_it_must_be(
    field: str, value: str, wanted: str
) -> None:
    with pytest.raises(RecipeError, match=rf"targets\.{field}: must be {wanted}"):
        make_recipe(targets={field: value})


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_a_recipe_with_nothing_but_its_steps(name: str) -> None:
    assert Recipe.preset(name) == make_recipe(transforms=Recipe.preset(name).transforms)


@pytest.mark.parametrize("name", ["", "nothing", "../recipe", "classic.yaml"])
def test_an_unknown_preset_is_an_error_that_names_those_there_are(name: str) -> None:
    with pytest.raises(RecipeError, match=r"there are .*classic"):
        Recipe.preset(name)


def test_numbers_may_be_written_with_an_exponent() -> None:
    recipe = Recipe.from_text("transforms: [HorizontalFlip]\nlimits: {max_error_rate: 1e-3}")
    assert recipe.limits.max_error_rate == 0.001


def test_a_number_in_quotes_is_no_number_in_a_range_either() -> None:
    with pytest.raises(RecipeError, match=r"transforms\[0\].params.limit\[0\]: .*valid number"):
        Recipe.from_text("transforms: [{name: Rotate, params: {limit: ['1', 2]}}]")
