"""What holds for every recipe that adds to another, and for every choice of nodes."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from kaleidoscope.errors import RecipeError
from kaleidoscope.increments import find_conflict, selected_nodes
from kaleidoscope.model import NodeChoice, PlannedSource
from kaleidoscope.recipe import Recipe
from kaleidoscope.runs import Request, Versions
from kaleidoscope.tree import Growth, Tree

IMAGE = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
STEPS = st.lists(
    st.fixed_dictionaries(
        {
            "name": st.sampled_from(["HorizontalFlip", "Contrast", "Rotate"]),
            "copies": st.sampled_from([1, 1, 2, 3]),
        }
    ),
    min_size=1,
    max_size=3,
)
PATTERNS = st.lists(st.sampled_from(["a*", "*b*", "??", "*c", "a"]), max_size=2, unique=True)
FIELDS = st.fixed_dictionaries(
    {
        "select": st.fixed_dictionaries(
            {},
            optional={
                "max_depth": st.integers(1, 3),
                "include": PATTERNS,
                "exclude": PATTERNS,
                "keep_original": st.booleans(),
                "max_outputs_per_source": st.integers(1, 9),
            },
        ),
        "order": st.sampled_from(["given", "given", "shuffled"]),
        "seed": st.sampled_from([0, 0, 0, 1]),
    }
)
SHA256 = st.sampled_from(["0" * 64, "a" * 64])


def make_recipe(steps: list[dict[str, Any]], fields: dict[str, Any]) -> Recipe:
    recipe = Recipe.from_mapping({"transforms": steps, **fields})
    try:
        selected_nodes(recipe)
    except RecipeError:  # The selection leaves nothing, or a pattern matches no node.
        assume(condition=False)
    return recipe


def grow(recipe: Recipe, sha256: str, choice: NodeChoice) -> dict[str, Growth]:
    return {
        growth.node.name: Growth(growth.node, growth.image.copy(), growth.chain)
        for growth in Tree(recipe).grow(IMAGE, sha256, choice)
    }


def same_images(one: dict[str, Growth], other: dict[str, Growth]) -> bool:
    return one.keys() == other.keys() and all(
        one[name].chain == other[name].chain and np.array_equal(one[name].image, other[name].image)
        for name in one
    )


@given(STEPS, FIELDS, SHA256, st.data())
def test_what_was_made_and_what_is_missing_are_what_is_made_at_once(
    steps: list[dict[str, Any]], fields: dict[str, Any], sha256: str, data: st.DataObject
) -> None:
    recipe = make_recipe(steps, fields)
    names = st.frozensets(st.sampled_from(sorted(selected_nodes(recipe))))
    among, made = data.draw(st.none() | names), data.draw(names)
    wanted = grow(recipe, sha256, NodeChoice(among))
    new = grow(recipe, sha256, NodeChoice(among, made))
    before = {name: wanted[name] for name in wanted if name in made}
    assert not made & new.keys()
    assert same_images({**before, **new}, wanted)


@given(STEPS, STEPS, FIELDS, FIELDS, SHA256)
def test_a_recipe_without_a_conflict_makes_all_that_the_earlier_one_made(
    steps: list[dict[str, Any]],
    more: list[dict[str, Any]],
    fields: dict[str, Any],
    other_fields: dict[str, Any],
    sha256: str,
) -> None:
    before = make_recipe(steps, fields)
    request = Request("r", "s", before, datetime.now(UTC), Versions.installed(), before.versions)
    for steps_after in (steps, [*steps, *more][:3], more):
        for fields_after in (fields, other_fields):
            after = Recipe.from_mapping({"transforms": steps_after, **fields_after})
            try:
                conflict = find_conflict(request, after)
            except RecipeError:
                continue
            if conflict is None:
                earlier = grow(before, sha256, NodeChoice())
                later = grow(after, sha256, NodeChoice())
                assert earlier.keys() <= later.keys()
                assert same_images(earlier, {name: later[name] for name in earlier})


@given(STEPS, FIELDS)
def test_a_recipe_adds_to_itself(steps: list[dict[str, Any]], fields: dict[str, Any]) -> None:
    recipe = make_recipe(steps, fields)
    request = Request("r", "s", recipe, datetime.now(UTC), Versions.installed(), recipe.versions)
    assert find_conflict(request, recipe) is None


@given(st.builds(PlannedSource), st.none() | SHA256, st.frozensets(st.text("ab")), SHA256)
def test_only_content_that_is_known_is_spared(
    planned: PlannedSource, made_sha256: str | None, made: frozenset[str], sha256: str
) -> None:
    planned = PlannedSource(planned.info, made, made, made_sha256)
    is_known = made_sha256 in (None, sha256)
    assert planned.choice(sha256).of(made) == (frozenset() if is_known else made)
