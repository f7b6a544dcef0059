"""What holds for every recipe, and for every text that might be one."""

import itertools
import os
import subprocess
import sys
from typing import Any

import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from kaleidoscope.errors import RecipeError
from kaleidoscope.recipe import Recipe
from kaleidoscope.transforms import TRANSFORMS

_ANGLES = st.tuples(st.floats(-180, 180), st.floats(-180, 180)).map(sorted)
_PARAMS = st.fixed_dictionaries({}, optional={"limit": _ANGLES | st.floats(-180, 180)})
_STEPS = st.one_of(
    st.sampled_from(sorted(TRANSFORMS)),
    st.fixed_dictionaries({"name": st.just("Rotate")}, optional={"params": _PARAMS}),
    # With params of a single value, copies would be the same image.
    st.fixed_dictionaries({"name": st.just("Rotate")}, optional={"copies": st.integers(1, 9)}),
)
_PATTERNS = st.lists(st.text("abz09*?[]!-", min_size=1, max_size=5), max_size=3)
_SELECTIONS = st.fixed_dictionaries(
    {},
    optional={
        "max_depth": st.integers(1, 26),
        "include": _PATTERNS,
        "exclude": _PATTERNS,
        "max_outputs_per_source": st.integers(1, 10**6),
        "keep_original": st.booleans(),
    },
)
_NORMALIZATIONS = st.fixed_dictionaries(
    {},
    optional={
        "mode": st.sampled_from(["square_crop", "fit", "none"]),
        "side": st.integers(8, 8192),
    },
)
_OUTPUTS = st.fixed_dictionaries(
    {},
    optional={
        "format": st.sampled_from(["jpeg", "png", "webp", "source"]),
        "quality": st.integers(1, 100),
    },
)
_LIMITS = st.fixed_dictionaries(
    {"max_nodes": st.just(65536)},
    optional={"max_pixels": st.integers(1, 2**30), "max_error_rate": st.floats(0, 1)},
)
DOCUMENTS = st.fixed_dictionaries(
    {"transforms": st.lists(_STEPS, min_size=1, max_size=4), "limits": _LIMITS},
    optional={
        "order": st.sampled_from(["given", "shuffled"]),
        "normalize": _NORMALIZATIONS,
        "output": _OUTPUTS,
        "select": _SELECTIONS,
        "seed": st.integers(0, 2**53 - 1),
    },
)


@given(DOCUMENTS)
def test_a_recipe_written_and_read_back_is_the_same(document: dict[str, Any]) -> None:
    recipe = Recipe.from_mapping(document)
    assert Recipe.from_text(recipe.to_yaml()) == recipe
    assert Recipe.from_text(recipe.model_dump_json()) == recipe
    assert Recipe.from_text(recipe.to_yaml()).digest == recipe.digest


@given(DOCUMENTS)
def test_defaults_may_be_left_out_or_written(document: dict[str, Any]) -> None:
    recipe = Recipe.from_mapping(document)
    assert Recipe.from_text(yaml.safe_dump(document)) == recipe
    assert Recipe.from_mapping(recipe.model_dump(mode="json")) == recipe


@given(DOCUMENTS, _LIMITS)
def test_limits_leave_the_digest_as_it_is(document: dict[str, Any], limits: dict[str, Any]) -> None:
    other = Recipe.from_mapping({**document, "limits": limits})
    assert other.digest == Recipe.from_mapping(document).digest


@given(DOCUMENTS, DOCUMENTS)
def test_digests_are_equal_only_of_equal_recipes(
    left: dict[str, Any], right: dict[str, Any]
) -> None:
    one = Recipe.from_mapping(left)
    other = Recipe.from_mapping({**right, "limits": left["limits"]})
    assert (one.digest == other.digest) == (one == other)


@given(
    st.lists(st.integers(1, 3), min_size=1, max_size=5),
    st.none() | st.integers(1, 6),
)
def test_the_number_of_nodes_is_that_of_an_enumeration(
    copies: list[int], max_depth: int | None
) -> None:
    steps = [{"name": "Rotate", "copies": number} for number in copies]
    recipe = Recipe.from_mapping({"transforms": steps, "select": {"max_depth": max_depth}})
    choices = itertools.product(*(("", *recipe.copy_names(step)) for step in range(len(copies))))
    deepest = len(copies) if max_depth is None else max_depth
    chains = {"".join(choice) for choice in choices if sum(map(bool, choice)) <= deepest}
    assert recipe.num_nodes == len(chains)


@given(st.text(max_size=60) | st.text("[]{}:,-&*!<> \n\"'#|a1~%@", max_size=60))
@example("2020-13-01")
@example("!!bool x")
@example("!!int x")
@example("!!timestamp x")
@example("? []\n: 1")
@example("[" * 500)
@example("transforms: &a [*a]")
@example("transforms: [Rotate]\nseed: {2020-01-01: 1}")
@example("transforms: [{<<: 1}]")
@example("\0")
def test_a_text_is_a_recipe_or_a_recipe_error(text: str) -> None:
    try:
        recipe = Recipe.from_text(text, origin="my.yaml")
    except RecipeError as error:
        assert str(error).startswith("my.yaml ")  # noqa: PT017 -- some texts may be recipes.
    else:
        assert isinstance(recipe, Recipe)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(st.sampled_from(sorted(Recipe.model_fields)), _JSON)
def test_any_value_of_a_field_is_taken_or_a_recipe_error(field: str, value: Any) -> None:
    try:
        Recipe.from_mapping({"transforms": ["HorizontalFlip"], field: value})
    except RecipeError as error:
        assert field in str(error)  # noqa: PT017 -- some values are right.


def test_the_digest_is_the_same_in_every_process() -> None:
    hash_seed = os.environ.get("PYTHONHASHSEED")
    program = (
        "from kaleidoscope.recipe import Recipe;"
        "print(Recipe.from_mapping({'transforms': ['Rotate', 'HorizontalFlip']}).digest)"
    )
    other = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONHASHSEED": "1" if hash_seed != "1" else "2"},
        check=True,
        capture_output=True,
        text=True,
    )
    ours = Recipe.from_mapping({"transforms": ["Rotate", "HorizontalFlip"]}).digest
    assert other.stdout.strip() == ours
