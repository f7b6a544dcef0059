"""Runs that fill classes up, and what their plans say."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from kaleidoscope import pipeline
from kaleidoscope.balance import Balancer, ClassShare
from kaleidoscope.errors import PlanError, RecipeError
from kaleidoscope.increments import History, MissingSources
from kaleidoscope.labels import Labels
from kaleidoscope.listing import SourceListing
from kaleidoscope.model import SourceLabels
from kaleidoscope.planning import Plan
from kaleidoscope.recipe import Balance, Recipe
from kaleidoscope.runs import load_run
from kaleidoscope.summary import describe_plan
from tests import data_sets, image_files
from tests.data_sets import MANY_SHARDS, NOW, Place

DAY = timedelta(days=1)
IMAGES = [image_files.opencv(".jpg", image_files.picture(30 + n, 41)) for n in range(12)]


def balanced(images_per_class: int, max_per_source: int | None = None, steps: int = 3) -> Recipe:
    balance = {"images_per_class": images_per_class, "max_per_source": max_per_source}
    return data_sets.recipe(steps=steps, side=16, balance=balance)


def animals(folder: Path, *, cats: int, dogs: int) -> Place:
    """Eight images of each source at most."""
    names = [f"cats/{n}.jpg" for n in range(cats)] + [f"dogs/{n}.jpg" for n in range(dogs)]
    return data_sets.local(folder, dict(zip(names, IMAGES, strict=False)))


def by_class(place: Place) -> dict[str, int]:
    rows = place.rows()
    return {str(k): int(v) for k, v in rows[rows["status"] == "ok"]["label"].value_counts().items()}


def by_source(place: Place) -> Counter[str]:
    rows = place.rows()
    return Counter(rows[rows["status"] == "ok"]["source_key"])


def plan(place: Place, recipe: Recipe) -> Plan:
    return pipeline.make_plan(place.source, place.destination, recipe, options=MANY_SHARDS)


def test_a_run_makes_what_the_plan_says_of_each_class(tmp_path: Path) -> None:
    place = animals(tmp_path, cats=7, dogs=2)
    recipe = balanced(20)
    planned = plan(place, recipe)
    assert planned.classes == (
        ClassShare("cats", 7, 0, 20, 20),
        ClassShare("dogs", 2, 0, 16, 20),
    )
    assert planned.num_outputs == 36
    assert [share["num_short"] for share in planned.to_document()["classes"]] == [0, 4]
    text = describe_plan(planned, cpus=1)
    short, full = text.splitlines()[2:4]
    assert short.split() == [
        "classes",
        "dogs:",
        "16",
        "of",
        "20",
        "images",
        "from",
        "2",
        "sources,",
        "4",
        "short",
    ]
    assert full.split() == ["cats:", "20", "of", "20", "images", "from", "7", "sources"]
    report = place.run(recipe)
    assert report.num_outputs == 36
    assert by_class(place) == {"cats": 20, "dogs": 16}
    assert set(by_source(place).values()) == {2, 3, 8}
    assert set(place.rows().query("depth == 0")["source_key"]) == {
        info.key for info in place.source.list_objects()
    }
    data_sets.check_whole(place)
    assert load_run(place.destination, report.run_id).plan.classes == planned.classes


def test_a_cap_bounds_what_a_source_gives(tmp_path: Path) -> None:
    place = animals(tmp_path, cats=3, dogs=1)
    place.run(balanced(10, 3))
    assert set(by_source(place).values()) == {3}


def test_a_class_with_more_sources_than_images_takes_some_of_them(tmp_path: Path) -> None:
    place = animals(tmp_path, cats=7, dogs=2)
    planned = plan(place, balanced(3))
    assert (planned.num_sources, planned.num_done, planned.num_outputs) == (5, 4, 6)
    text = describe_plan(planned, cpus=1)
    assert "not needed  4, of which the recipe wants no image" in text
    assert "complete" not in text
    place.run(balanced(3))
    assert set(place.rows().query("label == 'cats'")["node"]) == {"root"}


def test_what_is_balanced_is_what_the_whole_tree_has_of_it(tmp_path: Path) -> None:
    place = animals(tmp_path / "balanced", cats=4, dogs=1)
    place.run(balanced(6))
    whole = animals(tmp_path / "whole", cats=4, dogs=1)
    whole.run(data_sets.recipe(side=16))
    every_image = data_sets.outputs(whole)
    made = data_sets.outputs(place)
    assert len(made) == 12
    assert made.items() <= every_image.items()


def test_a_second_run_has_nothing_to_do_and_new_sources_fill_what_is_short(tmp_path: Path) -> None:
    place = animals(tmp_path, cats=7, dogs=2)
    recipe = balanced(20)
    place.run(recipe)
    assert plan(place, recipe).num_sources == 0
    place.source.put("cats/new.jpg", IMAGES[10])
    place.source.put("dogs/new.jpg", IMAGES[11])
    planned = plan(place, recipe)
    assert planned.classes == (
        ClassShare("cats", 8, 20, 20, 20),
        ClassShare("dogs", 3, 16, 20, 20),
    )
    place.run(recipe, now=NOW + DAY)
    assert by_class(place) == {"cats": 20, "dogs": 20}
    assert by_source(place)["dogs/new.jpg"] == 4
    assert by_source(place)["cats/new.jpg"] == 0
    place.run(balanced(24), now=NOW + 2 * DAY)
    assert by_class(place) == {"cats": 24, "dogs": 24}
    assert by_source(place)["cats/new.jpg"] == 3
    data_sets.check_whole(place)


def test_a_changed_source_gives_as_many_images_of_its_new_content(tmp_path: Path) -> None:
    place = animals(tmp_path, cats=3, dogs=0)
    recipe = balanced(7)
    place.run(recipe)
    before = by_source(place)
    place.source.put("cats/1.jpg", IMAGES[9])
    place.source.put("cats/2.jpg", IMAGES[2])  # As it was.
    assert place.run(recipe, now=NOW + DAY).num_outputs == before["cats/1.jpg"]
    assert by_source(place) == before
    data_sets.check_whole(place)


def test_what_failed_is_made_up_for_by_the_others_in_the_next_run(tmp_path: Path) -> None:
    place = animals(tmp_path, cats=3, dogs=0)
    place.source.put("cats/bad.jpg", b"no image")
    recipe = balanced(12)
    assert place.run(recipe).num_outputs == 9
    assert place.run(recipe, now=NOW + DAY).num_outputs == 3
    assert by_class(place) == {"cats": 12}
    assert plan(place, recipe).num_sources == 0
    retry = replace(MANY_SHARDS, retry_failed=True)
    assert place.start(recipe, retry, NOW + 2 * DAY).plan.num_outputs == 0


def test_an_appended_transform_lets_a_short_class_fill_up(tmp_path: Path) -> None:
    place = animals(tmp_path, cats=2, dogs=1)
    place.run(balanced(7, steps=2))
    assert by_class(place) == {"cats": 7, "dogs": 4}
    place.run(balanced(7), now=NOW + DAY)
    assert by_class(place) == {"cats": 7, "dogs": 7}
    data_sets.check_whole(place)


def test_balance_may_be_widened_and_taken_away_but_not_narrowed(tmp_path: Path) -> None:
    place = animals(tmp_path, cats=2, dogs=1)
    place.run(balanced(4, 4))
    for narrower, field in [
        (balanced(3, 4), "balance.images_per_class: 3, and was 4"),
        (balanced(4, 3), "balance.max_per_source: 3, and was 4"),
    ]:
        with pytest.raises(PlanError, match=field):
            place.run(narrower)
    place.run(balanced(10, 5), now=NOW + DAY)
    assert by_class(place) == {"cats": 10, "dogs": 5}
    place.run(data_sets.recipe(side=16), now=NOW + 2 * DAY)
    assert by_class(place) == {"cats": 16, "dogs": 8}
    with pytest.raises(PlanError, match=r"balance: .*and was None, so every node was made"):
        place.run(balanced(100))


ODD = SourceLabels("odd")


def test_classes_come_from_the_labels_that_are_given(tmp_path: Path) -> None:
    place = animals(tmp_path, cats=3, dogs=3)
    missing = MissingSources(
        SourceListing(place.source),
        History(place.destination, ()),
        balanced(4),
        retry_failed=False,
        labels=Labels({"cats/1.jpg": ODD, "dogs/1.jpg": ODD}, unlisted=SourceLabels()),
    )
    planned = list(missing)
    assert [(share.label, share.num_sources) for share in missing.classes] == [
        (None, 4),
        ("odd", 2),
    ]
    assert sum(len(source.nodes or ()) for source in planned) == 8
    assert list(missing) == planned


def test_a_class_that_comes_between_two_listings_waits_for_the_next_run() -> None:
    balancer = Balancer(balanced(4), Balance(images_per_class=4), {})
    assert balancer.nodes("cats/1.jpg", "cats", frozenset({"a"})) == {"a"}


def test_a_sample_and_a_balance_are_not_asked_for_together() -> None:
    with pytest.raises(RecipeError, match=r"balance.max_per_source instead"):
        data_sets.recipe(balance={"images_per_class": 3}, select={"max_outputs_per_source": 2})


def test_a_wrong_field_of_balance_is_explained() -> None:
    with pytest.raises(RecipeError, match=r"balance.images_per_clas: no such field; did you mean"):
        data_sets.recipe(balance={"images_per_clas": 3})
    with pytest.raises(RecipeError, match=r"balance.max_per_source: must be at least 1, got 0"):
        data_sets.recipe(balance={"images_per_class": 3, "max_per_source": 0})


def test_many_classes_are_not_all_named(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, {f"class {n:02}/a.jpg": IMAGES[0] for n in range(12)})
    text = describe_plan(plan(place, balanced(3)), cpus=1)
    assert "class 09: 3 of 3" in text
    assert "class 10" not in text
    assert "and 2 classes more" in text
