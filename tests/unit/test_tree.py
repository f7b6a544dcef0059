"""The tree as its documentation draws it."""

import json
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from kaleidoscope.errors import RecipeError, TransformError
from kaleidoscope.model import BgrImage
from kaleidoscope.recipe import Recipe
from kaleidoscope.transforms import TRANSFORMS, Operation, Transform
from kaleidoscope.tree import Tree

SHA = "9f86d081"
OTHER_SHA = "60303ae2"


def make_recipe(**fields: Any) -> Recipe:
    return Recipe.from_mapping({"transforms": ["Rotate", "HorizontalFlip", "Rotate"], **fields})


def names(recipe: Recipe, sha: str = SHA) -> list[str]:
    return [growth.node.name for growth in Tree(recipe).grow(make_image(), sha)]


def make_image() -> BgrImage:
    return np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)


def test_nodes_come_depth_first_and_are_called_by_their_steps() -> None:
    assert names(make_recipe()) == ["root", "a", "ab", "abc", "ac", "b", "bc", "c"]


def test_copies_are_numbered() -> None:
    steps = [{"name": "Rotate", "copies": 2}, "HorizontalFlip"]
    assert names(make_recipe(transforms=steps)) == ["root", "a1", "a1b", "a2", "a2b", "b"]


@pytest.mark.parametrize(
    ("select", "expected"),
    [
        ({"max_depth": 1}, ["root", "a", "b", "c"]),
        ({"include": ["a*"]}, ["root", "a", "ab", "abc", "ac"]),
        ({"include": ["abc"], "keep_original": False}, ["abc"]),
        ({"exclude": ["*c"]}, ["root", "a", "ab", "b"]),
        ({"include": ["a*"], "exclude": ["*c"]}, ["root", "a", "ab"]),
        ({"include": ["??"], "max_depth": 2}, ["root", "ab", "ac", "bc"]),
        ({"exclude": ["*"]}, ["root"]),
    ],
)
def test_a_selection_keeps_what_it_names(select: dict[str, Any], expected: list[str]) -> None:
    assert names(make_recipe(select=select)) == expected


@pytest.mark.parametrize(
    "select",
    [
        {"exclude": ["*"], "keep_original": False},
        {"include": ["a*"], "exclude": ["a*"], "keep_original": False},
    ],
)
def test_a_selection_that_leaves_nothing_is_an_error(select: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="select leaves no node of the tree: include"):
        Tree(make_recipe(select=select))


@pytest.mark.parametrize(
    "select",
    [
        {"include": ["z"]},
        {"exclude": ["root"]},
        {"exclude": ["a*", "ba"]},
        {"include": ["??"], "max_depth": 1},
    ],
)
def test_a_pattern_that_matches_no_node_is_an_error(select: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="matches no node; nodes are called a, "):
        Tree(make_recipe(select=select))


def test_sources_get_samples_of_their_own() -> None:
    recipe = make_recipe(transforms=["HorizontalFlip"] * 8, select={"max_outputs_per_source": 6})
    assert names(recipe, SHA) == names(recipe, SHA)
    assert names(recipe, SHA) != names(recipe, OTHER_SHA)


def test_a_shuffled_source_keeps_its_names_and_records_its_order() -> None:
    recipe = make_recipe(order="shuffled")
    orders = {sha: Tree(recipe).order(sha) for sha in map(str, range(20))}
    assert len(set(orders.values())) == 6
    shuffled = next(sha for sha, order in orders.items() if order == (2, 1, 0))
    assert names(recipe, shuffled) == ["root", "c", "bc", "abc", "ac", "b", "ab", "a"]
    chains = {g.node.name: g.chain for g in Tree(recipe).grow(make_image(), shuffled)}
    assert [applied.name for applied in chains["ab"]] == ["HorizontalFlip", "Rotate"]
    assert chains["abc"][:2] == chains["bc"]


def test_an_edge_is_recorded_as_json_that_can_be_read_back() -> None:
    (_, growth, *_) = Tree(make_recipe()).grow(make_image(), SHA)
    (applied,) = growth.chain
    assert json.loads(applied.params) == dict(applied.operation.params())
    assert json.loads(applied.text) == {
        "op": "Rotate",
        "version": 1,
        "params": json.loads(applied.params),
    }


@pytest.mark.parametrize(
    ("seed", "sha", "node"), [(1, SHA, "c"), (0, OTHER_SHA, "c"), (0, SHA, "ac")]
)
def test_draws_follow_from_the_seed_the_source_and_the_node(seed: int, sha: str, node: str) -> None:
    def drawn(seed: int, sha: str, node: str) -> Operation:
        tree = Tree(make_recipe(seed=seed))
        return next(tree.sample(n, sha).operation for n in tree.nodes(sha) if n.name == node)

    assert drawn(seed, sha, node) != drawn(0, SHA, "c")


def test_no_two_nodes_draw_the_same() -> None:
    tree = Tree(make_recipe(transforms=[{"name": "Rotate", "copies": 3}] * 3))
    drawn = {tree.sample(node, SHA).operation for node in tree.nodes(SHA)[1:]}
    assert len(drawn) == tree.num_outputs - 1 == 63


def test_the_version_of_a_transform_is_part_of_its_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Tree(make_recipe()).sample(Tree(make_recipe()).nodes(SHA)[1], SHA)
    monkeypatch.setattr(TRANSFORMS["Rotate"], "version", 2)
    after = Tree(make_recipe()).sample(Tree(make_recipe()).nodes(SHA)[1], SHA)
    assert (before.version, after.version) == (1, 2)
    assert before.operation != after.operation


@dataclass(frozen=True, slots=True)
class Refused(Operation):
    def apply(self, image: BgrImage) -> BgrImage:
        raise TransformError(f"cannot be applied to {image.shape}")


class Refuse(Transform):
    operation: ClassVar[type[Operation]] = Refused
    cost_ns_per_pixel: ClassVar[float] = 1.0

    def sample(self, rng: np.random.Generator) -> Refused:  # noqa: ARG002
        return Refused()


def test_a_transform_that_fails_ends_the_growth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kaleidoscope.recipe.TRANSFORMS", {**TRANSFORMS, "Refuse": Refuse})
    growths = Tree(make_recipe(transforms=["Rotate", "Refuse"])).grow(make_image(), SHA)
    assert [next(growths).node.name for _ in range(2)] == ["root", "a"]
    with pytest.raises(TransformError, match="cannot be applied"):
        next(growths)
