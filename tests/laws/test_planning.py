"""What holds for every plan: its shards, and the order of transforms that it proposes."""

import itertools
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kaleidoscope import planning
from kaleidoscope.errors import RecipeError
from kaleidoscope.model import ObjectInfo, PlannedSource
from kaleidoscope.planning import Estimate, cut_shards, estimate
from kaleidoscope.recipe import Recipe
from kaleidoscope.transforms import TRANSFORMS, Operation, Transform
from kaleidoscope.transforms.hue import HueShifted
from kaleidoscope.tree import Tree

ROUNDING = 1 + 1e-9


class Dear(Transform):
    operation: ClassVar[type[Operation]] = HueShifted
    cost_ns_per_pixel: ClassVar[float] = 40.0

    def sample(self, rng: np.random.Generator) -> Operation:
        return HueShifted(float(rng.random()))


class Middling(Dear):
    cost_ns_per_pixel: ClassVar[float] = 7.0


class Cheap(Dear):
    cost_ns_per_pixel: ClassVar[float] = 0.5


@pytest.fixture(autouse=True, scope="module")
def _registry() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        added = {cls.__name__: cls for cls in (Dear, Middling, Cheap)}
        patch.setattr("kaleidoscope.recipe.TRANSFORMS", {**TRANSFORMS, **added})
        yield


def cost_of(output_s: float) -> Estimate:
    """What a source costs whose outputs take so long; reading comes on top."""
    return Estimate(
        num_outputs=1,
        num_calls=0,
        transform_cpu_s=0.0,
        output_cpu_s=output_s,
        output_bytes=1,
        cheapest_order=(0,),
        cheapest_transform_cpu_s=0.0,
    )


def make_sources(sizes: list[int]) -> list[PlannedSource]:
    return [
        PlannedSource(ObjectInfo(f"{index:06}.jpg", size, "etag"))
        for index, size in enumerate(sizes)
    ]


SOURCES = st.lists(st.integers(0, 10**9), max_size=60).map(make_sources)
COSTS = st.floats(0.001, 10).map(cost_of)
SHARD_S = st.floats(0.01, 100)
MIN_SHARDS = st.integers(1, 20)


@given(SOURCES, COSTS, SHARD_S, MIN_SHARDS)
def test_shards_hold_every_source_once_and_in_order(
    sources: list[PlannedSource], cost: Estimate, shard_s: float, min_shards: int
) -> None:
    shards = list(cut_shards(sources, cost, shard_s=shard_s, min_shards=min_shards))
    assert [source for shard in shards for source in shard.sources] == sources
    assert [shard.index for shard in shards] == list(range(len(shards)))
    assert all(shard.sources for shard in shards)


@given(SOURCES, COSTS, SHARD_S, MIN_SHARDS)
def test_no_shard_is_over_its_target_by_more_than_a_source(
    sources: list[PlannedSource], cost: Estimate, shard_s: float, min_shards: int
) -> None:
    shards = list(cut_shards(sources, cost, shard_s=shard_s, min_shards=min_shards))
    works = [cost.work_s(source) for source in sources]
    target_s = min(shard_s, sum(works) / min_shards)
    for shard in shards:
        work_s = sum(map(cost.work_s, shard.sources))
        assert work_s <= (target_s + max(works)) * ROUNDING


@given(SOURCES, COSTS, SHARD_S, MIN_SHARDS)
def test_no_more_shards_are_cut_than_the_work_fills(
    sources: list[PlannedSource], cost: Estimate, shard_s: float, min_shards: int
) -> None:
    shards = list(cut_shards(sources, cost, shard_s=shard_s, min_shards=min_shards))
    work_s = sum(map(cost.work_s, sources))
    assert len(shards) <= max(min_shards, work_s / shard_s) + 2


@given(st.integers(0, 400), st.integers(1, 100), COSTS)
def test_few_sources_are_spread_over_all_workers(
    num_sources: int, min_shards: int, cost: Estimate
) -> None:
    sources = make_sources([1000] * num_sources)
    shards = list(cut_shards(sources, cost, shard_s=1e6, min_shards=min_shards))
    assert len(shards) == min(num_sources, min_shards)
    lengths = [len(shard.sources) for shard in shards]
    assert max(lengths, default=0) - min(lengths, default=0) <= 1


@given(st.integers(1, 10), st.integers(1, 30))
def test_an_endless_listing_is_read_no_further_than_the_look_ahead(
    min_shards: int, sources_per_shard: int
) -> None:
    read: list[PlannedSource] = []

    def endless() -> Iterator[PlannedSource]:
        for index in itertools.count():
            read.append(PlannedSource(ObjectInfo(str(index), 0, "etag")))
            yield read[-1]

    shards = cut_shards(
        endless(), cost_of(1.0), shard_s=float(sources_per_shard), min_shards=min_shards
    )
    assert len(next(shards).sources) == sources_per_shard
    assert len(read) == sources_per_shard * min_shards
    for _ in range(min_shards):
        assert len(next(shards).sources) == sources_per_shard
    assert len(read) == sources_per_shard * (min_shards + 1)


@given(SOURCES, COSTS, SHARD_S, MIN_SHARDS, st.integers(1, 5))
def test_a_shard_has_a_largest_number_of_sources(
    sources: list[PlannedSource], cost: Estimate, shard_s: float, min_shards: int, most: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "MAX_SOURCES_PER_SHARD", most)
        shards = list(cut_shards(sources, cost, shard_s=shard_s, min_shards=min_shards))
    assert [source for shard in shards for source in shard.sources] == sources
    works = [cost.work_s(source) for source in sources]
    for shard in shards:
        assert 1 <= len(shard.sources) <= most
        # Shards that were closed by number leave no arrears to those after them.
        assert sum(map(cost.work_s, shard.sources)) <= (shard_s + max(works)) * ROUNDING


STEPS = st.lists(
    st.fixed_dictionaries(
        {
            "name": st.sampled_from(["Dear", "Middling", "Cheap"]),
            "copies": st.sampled_from([1, 1, 2, 3]),
        }
    ),
    min_size=1,
    max_size=4,
)
SELECTIONS = st.fixed_dictionaries(
    {},
    optional={
        "max_depth": st.integers(1, 5),
        "include": st.lists(st.sampled_from(["a*", "*b", "??", "*c*", "d"]), max_size=2),
        "exclude": st.lists(st.sampled_from(["a*", "*b", "??", "*c*", "d"]), max_size=2),
        "max_outputs_per_source": st.integers(1, 20),
    },
)


def make_recipe(steps: list[dict[str, Any]], **fields: Any) -> Recipe:
    return Recipe.from_mapping({"transforms": steps, **fields})


def cost_in_order(recipe: Recipe, order: tuple[int, ...]) -> float:
    """CPU seconds of the transforms, counted node by node."""
    side = recipe.normalize.side
    nodes = Tree(recipe).nodes("", order=order)
    costs = [recipe.transforms[n.step].params.cost_ns_per_pixel for n in nodes if n.parent]
    return sum(costs) * side * side / 1e9


@given(STEPS, st.integers(1, 5))
def test_the_cheapest_order_is_the_best_of_all_orders(
    steps: list[dict[str, Any]], max_depth: int
) -> None:
    recipe = make_recipe(steps, select={"max_depth": max_depth})
    cost = estimate(recipe)
    best_s = min(
        cost_in_order(recipe, order) for order in itertools.permutations(range(len(steps)))
    )
    assert cost.cheapest_transform_cpu_s == pytest.approx(best_s)
    assert cost_in_order(recipe, cost.cheapest_order) == pytest.approx(best_s)


@given(STEPS, SELECTIONS, st.sampled_from(["given", "shuffled"]))
def test_the_cheapest_order_is_never_dearer_than_the_recipes(
    steps: list[dict[str, Any]], select: dict[str, Any], order: str
) -> None:
    recipe = make_recipe(steps, select=select, order=order)
    try:
        cost = estimate(recipe)
    except RecipeError:
        assume(condition=False)
    assert cost.cheapest_transform_cpu_s <= cost.transform_cpu_s * ROUNDING
    assert sorted(cost.cheapest_order) == list(range(len(steps)))


@given(STEPS)
def test_a_shuffled_recipe_costs_what_its_orders_cost_on_average(
    steps: list[dict[str, Any]],
) -> None:
    alike = [{**step, "copies": 1} for step in steps]
    recipe = make_recipe(alike, order="shuffled")
    orders = list(itertools.permutations(range(len(steps))))
    mean_s = sum(cost_in_order(recipe, order) for order in orders) / len(orders)
    assert estimate(recipe).transform_cpu_s == pytest.approx(mean_s)
    assert estimate(recipe).num_calls == recipe.num_nodes - 1
