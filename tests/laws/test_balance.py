"""What holds for every class that is balanced, whatever is there already."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kaleidoscope.balance import Balancer, Label
from kaleidoscope.recipe import Balance, Recipe
from kaleidoscope.tree import ROOT, Tree

NAMES = st.integers(0, 10**6).map(lambda number: f"{number}.jpg")
LABELS = st.sampled_from([None, "cats", "dogs"])
SOURCES = st.dictionaries(NAMES, LABELS, max_size=25)
BALANCES = st.builds(
    Balance, images_per_class=st.integers(1, 60), max_per_source=st.none() | st.integers(1, 10)
)
STEPS = st.fixed_dictionaries(
    {
        "name": st.just("HorizontalFlip"),
        "not_for": st.sampled_from([[], [], ["cats"], ["cats", "dogs"]]),
    }
)
RECIPES = st.builds(
    lambda steps, select, seed: Recipe.from_mapping(
        {"transforms": steps, "select": select, "seed": seed}
    ),
    st.lists(STEPS, min_size=1, max_size=3),
    st.fixed_dictionaries({"keep_original": st.booleans()}),
    st.integers(0, 3),
)
EMPTY: st.SearchStrategy[frozenset[str]] = st.just(frozenset())
Made = Mapping[str, frozenset[str]]


def balance(
    recipe: Recipe, wanted: Balance, labels: Mapping[str, Label], made: Made, keys: Sequence[str]
) -> tuple[Balancer, dict[str, frozenset[str]]]:
    """What each source has in the end; sources come in the order of ``keys``."""
    counts: defaultdict[Label, Counter[int]] = defaultdict(Counter)
    for key in keys:
        counts[labels[key]][len(made.get(key, ()))] += 1
    balancer = Balancer(recipe, wanted, counts)
    return balancer, {
        key: balancer.nodes(key, labels[key], made.get(key, frozenset())) for key in keys
    }


def some_made(data: st.DataObject, recipe: Recipe, labels: Mapping[str, Label]) -> Made:
    nodes = {
        label: st.frozensets(st.sampled_from(allowed), max_size=6) if allowed else EMPTY
        for label in set(labels.values())
        for allowed in [Tree(recipe).selected_for(label)]
    }
    return {key: data.draw(nodes[label]) for key, label in labels.items()}


def num_possible(recipe: Recipe, wanted: Balance, label: Label, num_sources: int = 1) -> int:
    most = min(len(Tree(recipe).selected_for(label)), wanted.max_per_source or 99)
    return num_sources * most


@given(RECIPES, BALANCES, SOURCES, st.data())
def test_nodes_are_nodes_of_the_tree_and_what_is_made_stays(
    recipe: Recipe, wanted: Balance, labels: dict[str, Label], data: st.DataObject
) -> None:
    made = some_made(data, recipe, labels)
    _, nodes = balance(recipe, wanted, labels, made, sorted(labels))
    for key, chosen in nodes.items():
        assert made[key] <= chosen <= set(Tree(recipe).selected_for(labels[key]))
        new = chosen - made[key]
        if recipe.select.keep_original and new:
            assert ROOT in chosen
        if new and wanted.max_per_source is not None:
            assert len(chosen) <= wanted.max_per_source


@given(RECIPES, BALANCES, SOURCES)
def test_a_class_gets_what_it_asks_for_or_all_that_is_possible(
    recipe: Recipe, wanted: Balance, labels: dict[str, Label]
) -> None:
    balancer, nodes = balance(recipe, wanted, labels, {}, sorted(labels))
    classes = {share.label: share for share in balancer.classes}
    assert set(classes) == set(labels.values())
    for label, share in classes.items():
        counts = [len(nodes[key]) for key in labels if labels[key] == label]
        possible = num_possible(recipe, wanted, label, len(counts))
        assert sum(counts) == min(wanted.images_per_class, possible) == share.num_images
        assert share.num_short == max(0, wanted.images_per_class - possible)
        assert share.num_sources == len(counts)
        # No source is repeated twice before every other is repeated once.
        assert max(counts) - min(counts) <= 1


@given(RECIPES, BALANCES, SOURCES, st.data())
def test_beside_what_is_made_the_emptiest_sources_are_filled_first(
    recipe: Recipe, wanted: Balance, labels: dict[str, Label], data: st.DataObject
) -> None:
    made = some_made(data, recipe, labels)
    balancer, nodes = balance(recipe, wanted, labels, made, sorted(labels))
    for share in balancer.classes:
        most = num_possible(recipe, wanted, share.label)
        keys = [key for key in labels if labels[key] == share.label]
        num_made = sum(len(made[key]) for key in keys)
        possible = sum(max(most, len(made[key])) for key in keys)
        total = sum(len(nodes[key]) for key in keys)
        assert total == max(num_made, min(wanted.images_per_class, possible))
        assert (share.num_made, share.num_images) == (num_made, total)
        grown = [len(nodes[key]) for key in keys if len(nodes[key]) > len(made[key])]
        assert max(grown, default=0) - min(len(nodes[key]) for key in keys) <= 1


@given(RECIPES, BALANCES, SOURCES, st.randoms(use_true_random=False))
def test_an_order_of_the_listing_changes_no_number(
    recipe: Recipe, wanted: Balance, labels: dict[str, Label], random: Any
) -> None:
    keys = list(labels)
    random.shuffle(keys)
    one, in_order = balance(recipe, wanted, labels, {}, sorted(labels))
    other, shuffled = balance(recipe, wanted, labels, {}, keys)
    assert one.classes == other.classes
    for key in keys:
        # A source has the first of its own draw, one more or less.
        smaller, larger = sorted([in_order[key], shuffled[key]], key=len)
        assert smaller <= larger
        assert len(larger) - len(smaller) <= 1


@given(RECIPES, BALANCES, SOURCES, SOURCES)
def test_sources_that_come_later_never_take_a_class_over_its_number(
    recipe: Recipe, wanted: Balance, labels: dict[str, Label], more: dict[str, Label]
) -> None:
    _, first = balance(recipe, wanted, labels, {}, sorted(labels))
    labels = {**more, **labels}
    _, second = balance(recipe, wanted, labels, first, sorted(labels))
    _, third = balance(recipe, wanted, labels, second, sorted(labels))
    assert third == second
    for label in set(labels.values()):
        counts = [len(second[key]) for key in labels if labels[key] == label]
        possible = num_possible(recipe, wanted, label, len(counts))
        assert sum(counts) == min(wanted.images_per_class, possible)
