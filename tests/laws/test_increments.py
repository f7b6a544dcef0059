"""What holds for every recipe that adds to another, and for every choice of nodes."""

import tempfile
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kaleidoscope import pipeline
from kaleidoscope.errors import RecipeError
from kaleidoscope.increments import find_conflict, selected_nodes
from kaleidoscope.model import NodeChoice, ObjectInfo, PlannedSource
from kaleidoscope.recipe import Recipe
from kaleidoscope.runs import Request, Versions
from kaleidoscope.tree import Growth, Tree
from tests import data_sets, image_files
from tests.data_sets import MANY_SHARDS, NOW, Place

IMAGE = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
STEPS = st.lists(
    st.fixed_dictionaries(
        {
            "name": st.sampled_from(["Brightness", "Contrast", "Rotate"]),
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


@given(STEPS, FIELDS, SHA256, st.data())
def test_a_sample_is_of_the_nodes_that_are_chosen(
    steps: list[dict[str, Any]], fields: dict[str, Any], sha256: str, data: st.DataObject
) -> None:
    recipe = make_recipe(steps, fields)
    among = data.draw(st.frozensets(st.sampled_from(sorted(selected_nodes(recipe)))))
    most = recipe.select.max_outputs_per_source or len(among)
    made = grow(recipe, sha256, NodeChoice(among))
    assert made.keys() <= among
    planned = PlannedSource(ObjectInfo("a.jpg", 1, "e"), among)
    assert len(made) == min(most, len(among)) == planned.num_missing(Tree(recipe).num_outputs)
    if among == selected_nodes(recipe):
        assert same_images(made, grow(recipe, sha256, NodeChoice()))


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


@given(
    st.builds(ObjectInfo), st.none() | SHA256, st.frozensets(st.text("ab")), SHA256, st.booleans()
)
def test_only_content_that_is_known_is_spared(
    info: ObjectInfo,
    made_sha256: str | None,
    made: frozenset[str],
    sha256: str,
    is_planned_version: bool,  # noqa: FBT001 -- Hypothesis draws it.
) -> None:
    planned = PlannedSource(info, made, made, made_sha256)
    read = info if is_planned_version else replace(info, etag=f"{info.etag}x")
    is_known = is_planned_version if made_sha256 is None else made_sha256 == sha256
    assert planned.choice(read, sha256).of(made) == (frozenset() if is_known else made)


DAY = timedelta(days=1)
RETRY = replace(MANY_SHARDS, retry_failed=True)
FILES = [image_files.opencv(".jpg", image_files.picture(20 + n, 23)) for n in range(3)]
FILES.append(b"no image")
CHAIN = [
    data_sets.recipe(steps=1, side=8),
    data_sets.recipe(steps=2, side=8, select={"max_depth": 1}),
    data_sets.recipe(steps=2, side=8),
    data_sets.recipe(steps=3, side=8),
]
"""Each adds to the one before."""


@dataclass(frozen=True)
class Day:
    """What happens to the sources, and the run that follows."""

    changes: dict[str, int | None]
    """Which of the files a source becomes; None takes it away."""
    adds: bool
    retries: bool
    num_shards: int | None
    """After so many shards the run is interrupted; None lets it end."""


DAYS = st.lists(
    st.builds(
        Day,
        changes=st.dictionaries(
            st.sampled_from(["a.jpg", "b.jpg", "c.jpg"]),
            st.none() | st.integers(0, len(FILES) - 1),
            max_size=3,
        ),
        adds=st.booleans(),
        retries=st.booleans(),
        num_shards=st.none() | st.none() | st.integers(0, 1),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=20)
@given(DAYS)
def test_whatever_happens_between_runs_the_end_is_what_one_run_makes(days: list[Day]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = data_sets.local(Path(folder) / "grown", {"z.jpg": FILES[0]})
        step = 0
        for number, day in enumerate(days):
            for key, index in day.changes.items():
                if index is None:
                    place.source.delete([key])
                else:
                    place.source.put(key, FILES[index])
            step = min(step + day.adds, len(CHAIN) - 1)
            run_day(place, CHAIN[step], day, NOW + number * DAY)
        place.run(CHAIN[step], RETRY, now=NOW + 8 * DAY)  # Ends what was interrupted, or retries.
        place.run(CHAIN[step], RETRY, now=NOW + 9 * DAY)
        images = {info.key: place.source.get(info.key).data for info in place.source.list_objects()}
        at_once = data_sets.local(Path(folder) / "at once", images)
        at_once.run(CHAIN[step])
        wanted = data_sets.outputs(at_once)
        made = data_sets.outputs(place)
        assert {key: made.get(key) for key in wanted} == wanted
        assert facts_of(place, images) == facts_of(at_once, images)


def run_day(place: Place, recipe: Recipe, day: Day, now: datetime) -> None:
    run = place.start(recipe, RETRY if day.retries else MANY_SHARDS, now)
    num_shards = run.plan.num_shards if day.num_shards is None else day.num_shards
    for shard in range(min(num_shards, run.plan.num_shards)):
        pipeline.run_shard(place.source, place.destination, run, shard, workers=1, now=now)
    if day.num_shards is None:
        pipeline.commit_run(place.destination, run, now=now)


def facts_of(place: Place, images: dict[str, bytes]) -> list[dict[str, Any]]:
    rows = [row for row in data_sets.facts(place) if row["source_key"] in images]
    # That of the run which made it, and so of an earlier recipe.
    return [{name: row[name] for name in row if name != "recipe_digest"} for row in rows]
