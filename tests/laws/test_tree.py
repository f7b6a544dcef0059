"""What holds for the tree of every recipe: its nodes, its draws and the images it keeps alive."""

import fnmatch
import itertools
import json
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kaleidoscope.errors import RecipeError
from kaleidoscope.model import BgrImage
from kaleidoscope.recipe import LETTERS, Recipe
from kaleidoscope.transforms import TRANSFORMS, Operation, Transform, load_operation
from kaleidoscope.tree import ROOT, Applied, Growth, Node, Tree

SHAS = st.sampled_from(["00ff", "17aa", "e3b0", "e3b1"])


@dataclass
class Census:
    """Counts calls and the images that live."""

    calls: int = 0
    alive: int = 0
    most: int = 0

    def enter(self, image: BgrImage) -> BgrImage:
        self.alive += 1
        self.most = max(self.most, self.alive)
        weakref.finalize(image, self._leave)
        return image

    def _leave(self) -> None:
        self.alive -= 1


@dataclass
class Desk:
    """Where the operations of the tests find the census of the current example."""

    census: Census = field(default_factory=Census)


DESK = Desk()


@dataclass(frozen=True, slots=True)
class Mixed(Operation):
    """Depends on the pixels, the draw and the order, so that any other chain shows."""

    amount: int

    def apply(self, image: BgrImage) -> BgrImage:
        DESK.census.calls += 1
        return DESK.census.enter(image * np.uint8(3) + np.uint8(self.amount))


class Mix(Transform):
    operation: ClassVar[type[Operation]] = Mixed
    cost_ns_per_pixel: ClassVar[float] = 1.0

    def sample(self, rng: np.random.Generator) -> Mixed:
        return Mixed(int(rng.integers(256)))


class Stir(Mix):
    """The same under another name."""


@pytest.fixture(autouse=True, scope="module")
def _registry() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        known = {**TRANSFORMS, "Mix": Mix, "Stir": Stir}
        patch.setattr("kaleidoscope.recipe.TRANSFORMS", known)
        patch.setattr("kaleidoscope.transforms.TRANSFORMS", known)
        yield


def steps(most: int = 4) -> st.SearchStrategy[list[dict[str, Any]]]:
    step = st.fixed_dictionaries(
        {"name": st.sampled_from(["Mix", "Stir"]), "copies": st.sampled_from([1, 1, 1, 2, 3])}
    )
    return st.lists(step, min_size=1, max_size=most)


ORDERS = st.sampled_from(["given", "shuffled"])
PATTERNS = st.lists(
    st.sampled_from(["a*", "*b", "?", "??", "*c*", "[!a]*", "a1*", "*2", "abc", "z"]), max_size=2
)
SELECTIONS = st.fixed_dictionaries(
    {},
    optional={
        "max_depth": st.integers(1, 5),
        "include": PATTERNS,
        "exclude": PATTERNS,
        "max_outputs_per_source": st.integers(1, 20),
        "keep_original": st.booleans(),
    },
)


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "transforms": draw(steps()),
        "order": draw(ORDERS),
        "select": draw(SELECTIONS),
        "seed": draw(st.integers(0, 3)),
    }


def whole(document: dict[str, Any]) -> Recipe:
    """The recipe with all its nodes."""
    return Recipe.from_mapping({**document, "select": {}})


def selecting(document: dict[str, Any]) -> Recipe:
    """The recipe, if its selection leaves a node."""
    recipe = Recipe.from_mapping(document)
    try:
        Tree(recipe)
    except RecipeError:
        assume(condition=False)
    return recipe


def names_of(recipe: Recipe) -> set[str]:
    """All names by another way than the tree's: a choice of none or one label for each step."""
    choices = [("", *recipe.copy_names(step)) for step in range(len(recipe.transforms))]
    return {"".join(choice) or ROOT for choice in itertools.product(*choices)}


def length_of(name: str) -> int:
    return 0 if name == ROOT else sum(char in LETTERS for char in name)


def grow(recipe: Recipe, sha: str = "00ff") -> list[Growth]:
    DESK.census = Census()
    return list(Tree(recipe).grow(_image(), sha))


def operations(recipe: Recipe, sha: str) -> dict[str, Applied[Operation]]:
    """Draw every node that is computed for a source."""
    tree = Tree(recipe)
    return {n.name: tree.sample(n, sha) for n in tree.nodes(sha) if n.parent is not None}


def _image() -> BgrImage:
    return np.arange(12, dtype=np.uint8).reshape(2, 2, 3)


@given(documents(), SHAS)
def test_a_whole_tree_calls_one_transform_for_each_node_but_the_root(
    document: dict[str, Any], sha: str
) -> None:
    recipe = whole(document)
    growths = grow(recipe, sha)
    assert {growth.node.name for growth in growths} == names_of(recipe)
    assert len(growths) == Tree(recipe).num_outputs == recipe.num_nodes
    assert DESK.census.calls == recipe.num_nodes - 1


@given(documents(), SHAS)
def test_every_node_stands_behind_its_parent(document: dict[str, Any], sha: str) -> None:
    seen: dict[str | None, Node] = {}
    for node in Tree(selecting(document)).nodes(sha):
        assert node.name not in seen
        assert node.depth == length_of(node.name)
        if node.parent is None:
            assert (node.name, node.depth, node.step) == (ROOT, 0, -1)
        else:
            assert seen[node.parent].depth == node.depth - 1
        seen[node.name] = node


@given(documents(), SHAS)
def test_a_parents_chain_is_its_childs_less_the_last(document: dict[str, Any], sha: str) -> None:
    chains = {growth.node.name: growth.chain for growth in grow(whole(document), sha)}
    for growth in grow(whole(document), sha):
        assert len(growth.chain) == growth.node.depth
        if growth.node.parent is not None:
            assert chains[growth.node.parent] == growth.chain[:-1]


@given(documents(), SHAS)
def test_at_most_one_image_more_than_the_depth_is_alive(document: dict[str, Any], sha: str) -> None:
    recipe = selecting(document)
    deepest = max(node.depth for node in Tree(recipe).nodes(sha))
    DESK.census = census = Census()
    growths = Tree(recipe).grow(census.enter(_image()), sha)
    while True:  # A for loop would hold on to the last image while the next is made.
        growth = next(growths, None)
        if growth is None:
            break
        assert census.alive == growth.node.depth + 1
        del growth
    assert census.most <= deepest + 1
    assert census.alive == 0


@given(documents(), SHAS)
def test_only_outputs_and_their_ancestors_are_computed(document: dict[str, Any], sha: str) -> None:
    recipe = selecting(document)
    parents = {node.name: node.parent for node in Tree(whole(document)).nodes(sha)}
    outputs = [growth.node.name for growth in grow(recipe, sha)]
    needed = {ROOT}
    for name in outputs:
        step: str | None = name
        while step is not None:
            needed.add(step)
            step = parents[step]
    assert {node.name for node in Tree(recipe).nodes(sha)} == needed
    assert [node.name for node in Tree(recipe).nodes(sha) if node.is_output] == outputs
    assert DESK.census.calls == len(needed) - 1


@given(documents(), SHAS)
def test_outputs_are_those_that_the_selection_names(document: dict[str, Any], sha: str) -> None:
    recipe = selecting(
        {**document, "select": {**document["select"], "max_outputs_per_source": None}}
    )
    select = recipe.select

    def is_wanted(name: str) -> bool:
        if name == ROOT:
            return select.keep_original
        included = [fnmatch.fnmatchcase(name, pattern) for pattern in select.include] or [True]
        excluded = [fnmatch.fnmatchcase(name, pattern) for pattern in select.exclude]
        shallow = select.max_depth is None or length_of(name) <= select.max_depth
        return shallow and any(included) and not any(excluded)

    wanted = {name for name in names_of(recipe) if is_wanted(name)}
    assert {node.name for node in Tree(recipe).nodes(sha) if node.is_output} == wanted
    assert Tree(recipe).num_outputs == len(wanted)


@given(documents(), SHAS)
def test_a_sample_has_the_number_that_was_asked_for(document: dict[str, Any], sha: str) -> None:
    unlimited = {**document["select"], "max_outputs_per_source": None}
    every = {g.node.name for g in grow(selecting({**document, "select": unlimited}), sha)}
    for limit in (1, 3, len(every), len(every) + 1):
        recipe = Recipe.from_mapping(
            {**document, "select": {**unlimited, "max_outputs_per_source": limit}}
        )
        sampled = [growth.node.name for growth in grow(recipe, sha)]
        assert len(sampled) == len(set(sampled)) == Tree(recipe).num_outputs
        assert len(sampled) == min(limit, len(every))
        assert set(sampled) <= every
        assert sampled == [growth.node.name for growth in grow(recipe, sha)]


@given(documents(), SHAS)
def test_draws_do_not_depend_on_which_nodes_are_selected(
    document: dict[str, Any], sha: str
) -> None:
    every = operations(whole(document), sha)
    selected = operations(selecting(document), sha)
    assert selected == {name: every[name] for name in selected}


@given(documents(), SHAS)
def test_pixels_do_not_depend_on_which_nodes_are_selected(
    document: dict[str, Any], sha: str
) -> None:
    every = {growth.node.name: growth.image.copy() for growth in grow(whole(document), sha)}
    for growth in grow(selecting(document), sha):
        assert np.array_equal(growth.image, every[growth.node.name])


@given(steps(most=3), st.sampled_from(["Mix", "Stir"]), SHAS)
def test_an_appended_transform_leaves_the_others_as_they_are(
    given_steps: list[dict[str, Any]], name: str, sha: str
) -> None:
    before = operations(Recipe.from_mapping({"transforms": given_steps}), sha)
    longer = Recipe.from_mapping({"transforms": [*given_steps, {"name": name}]})
    after = operations(longer, sha)
    assert before == {name: after[name] for name in before}
    assert len(after) > len(before)


@given(documents(), SHAS)
def test_a_recorded_chain_makes_the_same_pixels_again(document: dict[str, Any], sha: str) -> None:
    for growth in grow(selecting(document), sha):
        image = _image()
        for applied in growth.chain:
            recorded = json.loads(applied.text)
            operation = load_operation(recorded["op"], recorded["version"], recorded["params"])
            image = operation.apply(image)
        assert np.array_equal(image, growth.image)


@given(documents(), SHAS)
def test_a_chain_applies_its_steps_in_the_order_of_its_source(
    document: dict[str, Any], sha: str
) -> None:
    recipe = whole(document)
    order = Tree(recipe).order(sha)
    assert sorted(order) == list(range(len(recipe.transforms)))
    for growth in grow(recipe, sha):
        chosen = [step for step in order if LETTERS[step] in growth.node.name]
        if growth.node.name != ROOT:
            assert [a.name for a in growth.chain] == [recipe.transforms[s].name for s in chosen]
            assert growth.node.step == chosen[-1]


@given(documents(), SHAS, st.randoms(use_true_random=False))
def test_the_outputs_are_the_same_in_any_order(
    document: dict[str, Any], sha: str, random: Any
) -> None:
    recipe = selecting(document)
    order = list(range(len(recipe.transforms)))
    random.shuffle(order)
    reordered = Tree(recipe).nodes(sha, order=tuple(order))
    assert {node.name for node in reordered if node.is_output} == {
        node.name for node in Tree(recipe).nodes(sha) if node.is_output
    }


@given(documents(), SHAS)
def test_the_root_is_left_as_it_was(document: dict[str, Any], sha: str) -> None:
    root = _image()
    for _ in Tree(selecting(document)).grow(root, sha):
        assert np.array_equal(root, _image())
