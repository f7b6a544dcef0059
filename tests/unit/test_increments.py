"""Runs on one destination make what is missing there, and nothing else."""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from kaleidoscope import pipeline
from kaleidoscope.errors import PlanError, TransformError
from kaleidoscope.increments import find_conflict, gone_sources, selected_nodes
from kaleidoscope.listing import SourceListing
from kaleidoscope.manifest import source_hashes, sources_to_parquet
from kaleidoscope.model import BgrImage, ObjectInfo, PlannedSource
from kaleidoscope.planning import Plan
from kaleidoscope.recipe import Recipe
from kaleidoscope.runs import (
    Request,
    RunKeys,
    Versions,
    list_runs,
    load_report,
    load_run,
    save_plan,
)
from kaleidoscope.stores import LocalStore, open_store
from kaleidoscope.transforms.contrast import ContrastScaled
from kaleidoscope.transforms.noise import Noise
from kaleidoscope.transforms.rotate import Rotate
from tests import data_sets, image_files
from tests.data_sets import MANY_SHARDS, NOW, Place
from tests.faulty_stores import Requests, WatchedStore

DAY = timedelta(days=1)
RETRY = replace(MANY_SHARDS, retry_failed=True)
IMAGES = [image_files.opencv(".jpg", image_files.picture(30 + n, 41)) for n in range(8)]
TWO = data_sets.recipe(steps=2, side=16)
THREE = data_sets.recipe(steps=3, side=16)
TWO_NODES = ["root", "a", "b", "ab"]
NEW_NODES = ["c", "ac", "bc", "abc"]


def run(
    place: Place, recipe: Recipe, day: int, options: pipeline.StartOptions = MANY_SHARDS
) -> set[str]:
    """Run, and return what was made, each as ``key-without-extension node``."""
    requests = Requests()
    watching = Place(place.source, WatchedStore(place.destination, before=requests))
    watching.run(recipe, options, now=NOW + day * DAY)
    written = [key for key in requests.keys("put") if not key.startswith("_kaleidoscope/")]
    assert len(written) == len(set(written))
    return {_name(key) for key in written}


def _name(output_key: str) -> str:
    stem, _, node = output_key.removesuffix(".jpg").rsplit("-", 2)
    return f"{stem} {node}"


def outputs_of(*sources: str, nodes: Sequence[str]) -> set[str]:
    return {f"{source} {node}" for source in sources for node in nodes}


def plan(place: Place, recipe: Recipe, options: pipeline.StartOptions = MANY_SHARDS) -> Plan:
    return pipeline.make_plan(place.source, place.destination, recipe, options=options)


def same_as_at_once(place: Place, recipe: Recipe, folder: Path) -> None:
    """The images are those that one run of the recipe makes of the sources that are there."""
    images = {info.key: place.source.get(info.key).data for info in place.source.list_objects()}
    at_once = data_sets.local(folder, images)
    at_once.run(recipe)
    wanted = data_sets.outputs(at_once)
    made = data_sets.outputs(place)
    assert {key: made[key] for key in wanted} == wanted
    digests = [
        {key: fact for key, fact in row.items() if key != "recipe_digest"}
        for row in data_sets.facts(at_once)
    ]
    there = [
        {key: fact for key, fact in row.items() if key != "recipe_digest"}
        for row in data_sets.facts(place)
        if row["source_key"] in images
    ]
    assert there == digests


def test_an_appended_transform_makes_only_its_nodes_of_what_is_there(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path / "grown", {"a.jpg": IMAGES[0], "b.jpg": IMAGES[1]})
    assert run(place, TWO, 0) == outputs_of("a", "b", nodes=TWO_NODES)
    planned = plan(place, THREE)
    assert (planned.num_sources, planned.num_outputs) == (2, 2 * 4)
    assert run(place, THREE, 1) == outputs_of("a", "b", nodes=NEW_NODES)
    assert run(place, THREE, 2) == set()
    same_as_at_once(place, THREE, tmp_path / "at once")
    data_sets.check_whole(place)
    assert set(place.rows().groupby("recipe_digest")["node"].count()) == {2 * 4}


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "local":
        return data_sets.local(tmp_path / "grown", {})
    settings = request.getfixturevalue("s3_settings")
    credentials = request.getfixturevalue("s3_credentials")
    uri = request.getfixturevalue("s3_uri")
    return Place(
        *(open_store(f"{uri}/{end}", settings=settings, credentials=credentials) for end in "sd")
    )


def test_over_three_runs_what_is_made_is_what_was_missing(place: Place, tmp_path: Path) -> None:
    images = {f"{name}.jpg": image for name, image in zip("abcde", IMAGES, strict=False)}
    data_sets.put_all(place.source, images)
    assert run(place, TWO, 0) == outputs_of(*"abcde", nodes=TWO_NODES)

    place.source.put("b.jpg", IMAGES[5])  # Changed.
    place.source.put("c.jpg", IMAGES[2])  # As it was; its etag may change.
    place.source.delete(["d.jpg"])  # Renamed.
    place.source.put("z.jpg", IMAGES[3])
    place.source.put("f.jpg", IMAGES[6])  # New.
    planned = plan(place, TWO)
    assert (planned.num_gone, planned.gone) == (1, ("d.jpg",))
    assert run(place, TWO, 1) == outputs_of("b", "f", "z", nodes=TWO_NODES)
    same_as_at_once(place, TWO, tmp_path / "second")

    place.source.put("a.jpg", IMAGES[7])  # Changed.
    place.source.put("f.jpg", IMAGES[6])  # As it was, under a recipe that adds.
    place.source.delete(["e.jpg"])  # Removed.
    place.source.put("g.jpg", IMAGES[4])  # New.
    missing = outputs_of("b", "c", "f", "z", nodes=NEW_NODES)
    missing |= outputs_of("a", "g", nodes=[*TWO_NODES, *NEW_NODES])
    assert run(place, THREE, 2) == missing
    assert run(place, THREE, 3) == set()
    same_as_at_once(place, THREE, tmp_path / "third")
    data_sets.check_whole(place)
    planned = plan(place, THREE)
    assert (planned.num_done, planned.num_gone, planned.gone) == (6, 2, ("d.jpg", "e.jpg"))
    assert set(place.rows()["source_key"]) == {f"{name}.jpg" for name in "abcdefgz"}


def test_what_is_written_again_as_it_was_is_read_once_and_not_made(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, {"a.jpg": IMAGES[0]})
    run(place, TWO, 0)
    for day in (1, 2):
        place.source.put("a.jpg", IMAGES[0])
        assert plan(place, TWO).num_sources == 1
        assert run(place, TWO, day) == set()
        assert plan(place, TWO).num_done == 1
    assert list(place.rows()["status"]) == ["ok"] * 4
    data_sets.check_whole(place)
    runs = [entry.run_id for entry in list_runs(place.destination)]
    assert [load_report(place.destination, run_id).num_outputs for run_id in runs] == [4, 0, 0]


def test_without_the_part_that_knows_the_content_all_is_made_again(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, {"a.jpg": IMAGES[0]})
    run_id = place.run(TWO).run_id
    place.destination.delete([RunKeys(run_id).part(0)])
    place.source.put("a.jpg", IMAGES[0])
    assert run(place, TWO, 1) == outputs_of("a", nodes=TWO_NODES)
    data_sets.check_whole(place)


@pytest.mark.parametrize(
    ("before", "after", "nodes"),
    [
        ({"max_depth": 1}, {"max_depth": 2}, ["ab", "ac", "bc"]),
        ({"max_depth": 2}, {}, ["abc"]),
        ({"include": ["a*"]}, {"include": ["a*", "b"]}, ["b"]),
        ({"exclude": ["*c"]}, {"exclude": ["ac"]}, ["c", "bc", "abc"]),
        ({"keep_original": False}, {}, ["root"]),
    ],
)
def test_a_wider_selection_makes_the_nodes_that_it_adds(
    tmp_path: Path, before: dict[str, Any], after: dict[str, Any], nodes: list[str]
) -> None:
    place = data_sets.local(tmp_path / "grown", {"a.jpg": IMAGES[0]})
    narrow, wide = (data_sets.recipe(side=16, select=select) for select in (before, after))
    run(place, narrow, 0)
    assert run(place, wide, 1) == outputs_of("a", nodes=nodes)
    same_as_at_once(place, wide, tmp_path / "at once")
    with pytest.raises(PlanError, match=r"select: leaves out \d+ nodes that were made"):
        place.run(narrow)


def test_more_copies_of_a_step_make_the_nodes_of_the_added_copies(tmp_path: Path) -> None:
    two, three = (
        Recipe.from_mapping(
            {"transforms": ["HorizontalFlip", {"name": "Noise", "copies": n}], "seed": 3}
        )
        for n in (2, 3)
    )
    place = data_sets.local(tmp_path / "grown", {"a.jpg": IMAGES[0]})
    run(place, two, 0)
    assert run(place, three, 1) == outputs_of("a", nodes=["b3", "ab3"])
    same_as_at_once(place, three, tmp_path / "at once")


def test_a_recipe_that_was_added_to_is_refused(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, {"a.jpg": IMAGES[0]})
    run(place, THREE, 0)
    with pytest.raises(PlanError, match=r"transforms: Noise at the end was taken away.*another de"):
        place.run(TWO)


def test_an_unfinished_run_of_a_smaller_recipe_is_made_up_for(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path / "grown", {"a.jpg": IMAGES[0], "b.jpg": IMAGES[1]})
    started = place.start(TWO)
    pipeline.run_shard(place.source, place.destination, started, 0, workers=1, now=NOW)
    assert run(place, THREE, 1) == outputs_of("a", "b", nodes=[*TWO_NODES, *NEW_NODES])
    same_as_at_once(place, THREE, tmp_path / "at once")
    data_sets.check_whole(place)


def test_an_interrupted_run_of_a_recipe_that_adds_goes_on(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path / "grown", {"a.jpg": IMAGES[0], "b.jpg": IMAGES[1]})
    run(place, TWO, 0)
    started = place.start(THREE, now=NOW + DAY)
    pipeline.run_shard(place.source, place.destination, started, 0, workers=1, now=NOW)
    assert run(place, THREE, 2) == outputs_of("b", nodes=NEW_NODES)
    same_as_at_once(place, THREE, tmp_path / "at once")


def test_a_source_that_is_replaced_before_it_is_read_is_made_whole(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path / "grown", {"a.jpg": IMAGES[0], "b.jpg": IMAGES[1]})
    run(place, TWO, 0)
    started = place.start(THREE, now=NOW + DAY)
    place.source.put("a.jpg", IMAGES[2])
    for shard in range(started.plan.num_shards):
        pipeline.run_shard(place.source, place.destination, started, shard, workers=1, now=NOW)
    pipeline.commit_run(place.destination, started, now=NOW)
    same_as_at_once(place, THREE, tmp_path / "at once")
    assert run(place, THREE, 2) == set()


def test_a_failed_source_is_left_alone_by_a_recipe_that_adds_until_it_is_asked_for(
    tmp_path: Path,
) -> None:
    images = {"a.jpg": IMAGES[0], "b.jpg": b"no image", "c.jpg": b""}
    place = data_sets.local(tmp_path / "grown", images)
    run(place, TWO, 0)
    assert run(place, THREE, 1) == outputs_of("a", nodes=NEW_NODES)
    place.source.put("b.jpg", IMAGES[1])
    assert run(place, THREE, 2) == outputs_of("b", nodes=[*TWO_NODES, *NEW_NODES])
    assert run(place, THREE, 3, RETRY) == set()
    same_as_at_once(place, THREE, tmp_path / "at once")


def test_what_failed_among_added_nodes_is_made_when_asked_and_the_others_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = data_sets.local(tmp_path / "grown", {"a.jpg": IMAGES[0]})
    one = data_sets.recipe(steps=1, side=16)
    run(place, one, 0)

    def fail(_: ContrastScaled, image: BgrImage) -> BgrImage:
        raise TransformError(f"no contrast for {image.shape}")

    with monkeypatch.context() as patch:
        patch.setattr(ContrastScaled, "apply", fail)
        assert run(place, TWO, 1) == set()
    assert list(place.rows()["node"]) == ["root", "a", "ab"]
    assert run(place, TWO, 2) == set()
    assert run(place, TWO, 3, RETRY) == outputs_of("a", nodes=["b", "ab"])
    assert list(place.rows()["status"]) == ["ok"] * 4
    same_as_at_once(place, TWO, tmp_path / "at once")


def test_a_source_that_could_not_be_read_for_added_nodes_is_made_whole_when_asked(
    tmp_path: Path,
) -> None:
    """Its rows of before went with the failure, so its images may have been pruned."""
    place = data_sets.local(tmp_path / "grown", {"a.jpg": IMAGES[0], "b.jpg": IMAGES[1]})
    run(place, TWO, 0)
    started = place.start(THREE, now=NOW + DAY)
    saved = tmp_path / "saved.jpg"
    (tmp_path / "grown" / "source" / "b.jpg").rename(saved)
    for shard in range(started.plan.num_shards):
        pipeline.run_shard(place.source, place.destination, started, shard, workers=1, now=NOW)
    pipeline.commit_run(place.destination, started, now=NOW + DAY)
    saved.rename(tmp_path / "grown" / "source" / "b.jpg")
    assert run(place, THREE, 2) == set()
    assert run(place, THREE, 3, RETRY) == outputs_of("b", nodes=[*TWO_NODES, *NEW_NODES])
    same_as_at_once(place, THREE, tmp_path / "at once")


def test_sources_that_are_gone_are_named_in_order(tmp_path: Path) -> None:
    names = [f"{n:02}.jpg" for n in range(15)]
    place = data_sets.local(tmp_path, dict.fromkeys(names, IMAGES[0]))
    run(place, TWO, 0)
    place.source.delete(names[2:])
    planned = plan(place, TWO)
    assert (planned.num_gone, planned.gone) == (13, tuple(names[2:12]))
    committed = [entry.run_id for entry in list_runs(place.destination)]
    listing = SourceListing(place.source, place.destination)
    gone = gone_sources(listing, place.destination, committed)
    assert [planned.info.key for planned in gone] == names[2:]


def test_a_source_of_which_a_later_run_left_nothing_is_neither_done_nor_gone(
    tmp_path: Path,
) -> None:
    place = data_sets.local(tmp_path, {"a.jpg": IMAGES[0], "b.jpg": IMAGES[1], "c.jpg": IMAGES[2]})
    run(place, TWO, 0)
    (first,) = list_runs(place.destination)
    planned = load_run(place.destination, first.run_id)
    place.source.delete(["c.jpg"])
    infos = [place.source.head("b.jpg"), ObjectInfo("c.jpg", 1, "e")]
    later = replace(planned, request=replace(planned.request, run_id="20261123T000000Z-later"))
    later = replace(later, plan=replace(later.plan, num_shards=1))
    put = place.destination.put
    put(later.keys.request, later.request.to_json())
    put(
        later.keys.shard(0),
        sources_to_parquet([PlannedSource(info, frozenset()) for info in infos]),
    )
    save_plan(place.destination, later)
    put(later.keys.success, b"")
    found = plan(place, TWO)
    assert (found.num_sources, found.num_done, found.num_gone) == (1, 1, 0)


def test_a_report_counts_the_sources_that_are_gone(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, {"a.jpg": IMAGES[0], "b.jpg": IMAGES[1]})
    assert place.run(TWO).num_gone == 0
    place.source.delete(["a.jpg"])
    place.source.put("c.jpg", IMAGES[2])
    report = place.run(TWO, now=NOW + DAY)
    assert (report.num_sources, report.num_done, report.num_gone) == (1, 1, 1)


def test_a_part_tells_the_content_of_sources_that_did_not_fail(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, {"a.jpg": IMAGES[0], "b.jpg": b"no image"})
    report = place.run(TWO, pipeline.StartOptions())
    hashes = source_hashes(place.destination.get(report.keys.part(0)).data)
    assert list(hashes) == ["a.jpg"]


def recipe(*steps: Any, **fields: Any) -> Recipe:
    return Recipe.from_mapping({"transforms": steps or ("Rotate", "Noise"), **fields})


def request(made: Recipe, versions: tuple[int, ...] | None = None) -> Request:
    versions = made.versions if versions is None else versions
    return Request("r", "s3://b/a", made, NOW, Versions.installed(), versions)


@pytest.mark.parametrize(
    ("before", "after", "conflict"),
    [
        (recipe(), recipe(seed=1), "seed: 1, and was 0"),
        (recipe(), recipe(output={"quality": 90}), "output: .*90.*, and was .*95"),
        (recipe(), recipe(normalize={"side": 8}), "normalize: .*8.*, and was .*400"),
        (recipe(), recipe(order="shuffled"), "order: shuffled, and was given"),
        (recipe(), recipe("Rotate"), "transforms: Noise at the end was taken away"),
        (recipe(), recipe("Noise", "Rotate"), r"transforms\[0\]: .*Noise.*, and was .*Rotate"),
        (
            recipe("Rotate"),
            recipe({"name": "Rotate", "params": {"limit": 5}}),
            r"transforms\[0\]: .*5.*, and was .*90",
        ),
        (recipe(), recipe("Rotate", {"name": "Noise", "copies": 2}), r"\[1\].copies: 2, and was 1"),
        (
            recipe({"name": "Rotate", "copies": 3}),
            recipe({"name": "Rotate", "copies": 2}),
            r"transforms\[0\].copies: 2, and was 3",
        ),
        (
            recipe("Rotate", order="shuffled"),
            recipe("Rotate", "Noise", order="shuffled"),
            "transforms: one more, while order: shuffled draws",
        ),
        (
            recipe(select={"max_outputs_per_source": 2}),
            recipe(select={"max_outputs_per_source": 3}),
            "select.max_outputs_per_source: 3, and was 2; another tree or number draws",
        ),
        (
            recipe("Rotate", select={"max_outputs_per_source": 1}),
            recipe("Rotate", "Noise", select={"max_outputs_per_source": 1}),
            "select.max_outputs_per_source: 1, and was 1; another tree or number draws",
        ),
        (recipe(), recipe(select={"exclude": ["b"]}), r"select: leaves out 1 nodes .*\(b\)"),
    ],
)
def test_a_recipe_that_does_more_than_add_is_told_in_which_field(
    before: Recipe, after: Recipe, conflict: str
) -> None:
    found = find_conflict(request(before), after)
    assert found is not None
    assert re.search(conflict, found), found


def test_a_transform_in_another_version_is_a_conflict() -> None:
    here = (Rotate.version, Noise.version)
    assert find_conflict(request(recipe(), here), recipe()) is None
    other = (Rotate.version, Noise.version + 1)
    found = find_conflict(request(recipe(), other), recipe("Rotate", "Noise", "Hue"))
    assert found == (
        f"transforms[1]: Noise is in version {Noise.version} here, and was in {Noise.version + 1}"
    )


def test_limits_are_no_conflict_and_a_shuffled_selection_may_grow() -> None:
    before = recipe(order="shuffled", select={"max_depth": 1})
    after = recipe(order="shuffled", limits={"max_error_rate": 0.5})
    assert find_conflict(request(before), after) is None
    assert selected_nodes(before) < selected_nodes(after)


def test_an_etag_of_another_store_is_no_content(tmp_path: Path) -> None:
    """A local store makes etags of times and sizes, so a copy of a data set has other ones."""
    place = data_sets.local(tmp_path, {"a.jpg": IMAGES[0]})
    first = next(place.source.list_objects()).etag
    place.source.put("a.jpg", IMAGES[0])
    assert next(LocalStore(tmp_path / "source").list_objects()).etag != first


def test_the_records_of_many_runs_are_read_side_by_side(tmp_path: Path) -> None:
    """A run every night makes hundreds in a year, and a request to S3 takes its time."""
    place = data_sets.local(tmp_path, {})
    for day in range(3):
        place.source.put(f"{day}.jpg", IMAGES[day])
        run(place, TWO, day)
    three_at_once = Barrier(3, timeout=30)

    def wait_for_the_others(method: str, key: str) -> None:
        if method == "get" and key.endswith(("recipe.json", "shard-00000.parquet")):
            three_at_once.wait()

    watching = Place(place.source, WatchedStore(place.destination, before=wait_for_the_others))
    assert plan(watching, TWO).num_done == 3
