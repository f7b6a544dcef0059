"""The arithmetic of plans, by examples that can be checked by hand."""

from dataclasses import replace
from typing import Any

import pytest

from kaleidoscope import planning
from kaleidoscope.errors import PlanError, RecipeError
from kaleidoscope.model import ObjectInfo, PlannedSource
from kaleidoscope.planning import Estimate, Plan, bytes_per_pixel, cut_shards, estimate
from kaleidoscope.recipe import Output, Recipe
from kaleidoscope.transforms import TRANSFORMS

COST = Estimate(
    num_outputs=64,
    num_calls=63,
    transform_cpu_s=0.5,
    output_cpu_s=1.5,
    output_bytes=2_000_000,
    cheapest_order=(1, 0),
    cheapest_transform_cpu_s=0.25,
)


def make_recipe(**fields: Any) -> Recipe:
    return Recipe.from_mapping({"transforms": ["HorizontalFlip", "Rotate"], **fields})


def make_source(size: int = 0, name: str = "rex") -> PlannedSource:
    return PlannedSource(ObjectInfo(f"{name}.jpg", size, "etag"))


def make_sources(number: int, size: int = 0) -> list[PlannedSource]:
    return [make_source(size, str(index)) for index in range(number)]


def test_a_source_costs_its_bytes_its_transforms_and_its_outputs() -> None:
    assert COST.work_s(make_source(10**9)) == pytest.approx(16.0 + 0.5 + 1.5)


def test_a_source_of_which_something_is_made_costs_less() -> None:
    half = frozenset(map(str, range(32)))
    new_half = replace(make_source(), made=half)
    assert COST.work_s(new_half) == pytest.approx(0.5 + 1.5 / 2)
    quarter = replace(make_source(), nodes=frozenset(map(str, range(16))))
    assert COST.work_s(quarter) == pytest.approx(0.5 / 2 + 1.5 / 4)
    # Whether its content is the same is not known, so it may all be made again.
    assert COST.work_s(replace(new_half, made_sha256="0" * 64)) == COST.work_s(make_source())


def test_an_estimate_counts_calls_and_pixels() -> None:
    cost = estimate(make_recipe(normalize={"side": 1000}))
    flip, rotate = (TRANSFORMS[name].cost_ns_per_pixel for name in ("HorizontalFlip", "Rotate"))
    assert (cost.num_outputs, cost.num_calls) == (4, 3)
    assert cost.transform_cpu_s == pytest.approx((flip + 2 * rotate) / 1000)
    assert cost.cheapest_order == (1, 0)
    assert cost.cheapest_transform_cpu_s == pytest.approx((rotate + 2 * flip) / 1000)
    assert cost.output_cpu_s == pytest.approx(4 * (2.5e-3 + 200e-6))
    assert cost.output_bytes == 4 * 260_000


def test_a_step_that_no_output_needs_costs_nothing() -> None:
    cost = estimate(make_recipe(select={"include": ["a"]}))
    assert (cost.num_outputs, cost.num_calls) == (2, 1)
    assert cost.transform_cpu_s < estimate(make_recipe()).transform_cpu_s


def test_the_given_order_is_kept_where_none_is_cheaper() -> None:
    recipe = make_recipe(transforms=["Rotate", "Rotate", "HorizontalFlip", "HorizontalFlip"])
    assert estimate(recipe).cheapest_order == (0, 1, 2, 3)


def test_the_given_order_is_kept_where_order_makes_no_difference() -> None:
    assert estimate(make_recipe(select={"max_depth": 1})).cheapest_order == (0, 1)


def test_a_source_that_is_not_resized_is_taken_for_a_megapixel() -> None:
    unresized = estimate(make_recipe(normalize={"mode": "none"}))
    assert unresized == estimate(make_recipe(normalize={"side": 1000}))


def test_a_sample_bounds_outputs_and_calls() -> None:
    cost = estimate(
        make_recipe(transforms=["HorizontalFlip"] * 10, select={"max_outputs_per_source": 5})
    )
    assert cost.num_outputs == 5
    assert cost.num_calls <= 5 * 10


def test_a_selection_of_nothing_has_no_estimate() -> None:
    with pytest.raises(RecipeError, match="leaves no node"):
        estimate(make_recipe(select={"exclude": ["*"], "keep_original": False}))


def test_better_quality_takes_more_bytes() -> None:
    sizes = [bytes_per_pixel(Output(quality=quality)) for quality in range(1, 101)]
    assert sizes == sorted(sizes)
    assert 0 < sizes[0] < sizes[94] < sizes[-1] < 3


def test_formats_differ_in_bytes() -> None:
    webp, jpeg, png = (
        bytes_per_pixel(Output.model_validate({"format": name})) for name in ("webp", "jpeg", "png")
    )
    assert webp < jpeg < png
    assert bytes_per_pixel(Output(format="source")) == jpeg


def test_shards_of_equal_sources_have_equal_numbers() -> None:
    shards = list(cut_shards(make_sources(100), COST, shard_s=20.0, min_shards=1))
    assert [len(shard.sources) for shard in shards] == [10] * 10


def test_a_huge_source_has_a_shard_of_its_own_and_delays_no_other() -> None:
    sources = make_sources(40)
    sources[20] = make_source(10**10)
    shards = list(cut_shards(sources, COST, shard_s=10.0, min_shards=1))
    (huge,) = (shard for shard in shards if sources[20] in shard.sources)
    assert len(huge.sources) <= 5
    assert max(len(shard.sources) for shard in shards) <= 5
    assert len(shards) <= 40 * 2 / 10 + 2


def test_dear_sources_behind_cheap_ones_make_small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "MAX_SOURCES_PER_SHARD", 10)
    cost = replace(COST, transform_cpu_s=0.0, output_cpu_s=0.001)
    sources = make_sources(1000) + make_sources(50, size=10**9)
    shards = list(cut_shards(sources, cost, shard_s=16.0, min_shards=1))
    assert max(sum(map(cost.work_s, shard.sources)) for shard in shards) < 33


def test_cheap_sources_are_not_all_read_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "MAX_SOURCES_PER_SHARD", 10)
    stream = iter(make_sources(1000))
    next(cut_shards(stream, COST, shard_s=1e9, min_shards=3))
    assert sum(1 for _ in stream) == 1000 - 30


def test_cheap_sources_at_the_start_do_not_make_every_shard_small(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(planning, "MAX_SOURCES_PER_SHARD", 10)
    cost = replace(COST, transform_cpu_s=0.0, output_cpu_s=0.001)
    sources = make_sources(30) + make_sources(40, size=10**9 // 4)
    shards = list(cut_shards(sources, cost, shard_s=16.0, min_shards=3))
    assert [len(shard.sources) for shard in shards] == [10, 10, 10] + [4] * 10


def test_no_sources_make_no_shards() -> None:
    assert list(cut_shards([], COST, shard_s=1.0, min_shards=5)) == []


@pytest.mark.parametrize(
    ("shard_s", "min_shards"), [(0.0, 1), (-1.0, 1), (float("nan"), 1), (1.0, 0), (1.0, -3)]
)
def test_shards_of_nothing_are_refused(shard_s: float, min_shards: int) -> None:
    with pytest.raises(PlanError, match="min_shards >= 1 and shard_s > 0, got"):
        list(cut_shards(make_sources(3), COST, shard_s=shard_s, min_shards=min_shards))


def test_a_plan_adds_up() -> None:
    plan = Plan(
        num_sources=1000,
        num_done=5,
        num_shards=10,
        source_bytes=10**9,
        num_outputs=32_000,
        cpu_s=1000.0,
        left_out={"not an image": 2},
        per_source=COST,
        num_gone=0,
        gone=(),
        classes=(),
    )
    assert plan.output_bytes == 10**9
    assert plan.num_puts == 32_000 + 2 * 10 + 5
    assert plan.put_usd == pytest.approx(plan.num_puts * 0.000005)
