import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaleidoscope import runs
from kaleidoscope.balance import ClassShare
from kaleidoscope.errors import ManifestError, RecipeError
from kaleidoscope.pipeline import StartOptions
from kaleidoscope.planning import Plan, estimate
from kaleidoscope.recipe import Recipe, preset_names
from kaleidoscope.runs import Report, Request, Run, RunKeys, Versions
from kaleidoscope.stores import LocalStore
from tests import data_sets

RECIPE = data_sets.recipe()

texts = st.text(st.characters(codec="utf-8"), max_size=20)
counts = st.integers(min_value=0, max_value=2**50)
seconds = st.floats(min_value=0, max_value=1e9)
recipes = st.sampled_from([RECIPE, *map(Recipe.preset, preset_names())])
requests = st.builds(
    Request,
    run_id=texts,
    source=texts,
    recipe=recipes,
    created_at=st.datetimes(timezones=st.just(UTC)),
    versions=st.builds(Versions, texts, texts, texts),
    transform_versions=st.lists(st.integers(1, 9)).map(tuple),
)
plans = st.builds(
    Plan,
    num_sources=counts,
    num_done=counts,
    num_shards=counts,
    source_bytes=counts,
    num_outputs=counts,
    cpu_s=seconds,
    left_out=st.dictionaries(texts, counts),
    per_source=recipes.map(estimate),
    num_gone=counts,
    gone=st.lists(texts).map(tuple),
    classes=st.lists(st.builds(ClassShare, st.none() | texts, counts, counts, counts, counts)).map(
        tuple
    ),
)
reports = st.builds(
    Report,
    run_id=texts,
    source=texts,
    destination=texts,
    num_sources=counts,
    num_done=counts,
    num_failed=counts,
    num_outputs=counts,
    source_bytes=counts,
    output_bytes=counts,
    num_shards=counts,
    shard_s=seconds,
    elapsed_s=seconds,
    failures=st.dictionaries(texts, counts),
    max_error_rate=st.floats(0, 1),
    num_gone=counts,
    num_pruned=counts,
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> LocalStore:
    return LocalStore(tmp_path_factory.mktemp("destination"))


@given(requests)
def test_a_request_is_read_as_it_was_written(request: Request) -> None:
    again = Request.from_json(request.to_json())
    assert again == request
    assert again.matches(request.source, request.recipe)


@given(reports)
def test_a_report_is_read_as_it_was_written(report: Report) -> None:
    assert Report.from_json(report.to_json()) == report


@given(requests, plans)
def test_a_planned_run_is_read_as_it_was_saved(
    store: LocalStore, request: Request, plan: Plan
) -> None:
    run = Run(replace(request, run_id="run"), plan)
    store.put(run.keys.request, run.request.to_json())
    runs.save_plan(store, run)
    assert runs.load_run(store, "run") == run


def test_a_request_matches_only_its_source_and_what_its_recipe_makes() -> None:
    request = Request("r", "s3://b/a", RECIPE, datetime.now(UTC), Versions.installed(), ())
    patient = data_sets.recipe(limits={"max_error_rate": 0.5})
    assert request.matches("s3://b/a", patient)
    assert not request.matches("s3://b/a/", patient)
    assert not request.matches("s3://b/a", data_sets.recipe(seed=8))


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> tuple[LocalStore, str]:
    place = data_sets.local(tmp_path_factory.mktemp("run"), data_sets.plain_images(1))
    report = place.run(RECIPE, StartOptions())
    assert isinstance(place.destination, LocalStore)
    return place.destination, report.run_id


LOADERS: dict[str, Any] = {
    "recipe.json": runs.load_request,
    "plan/plan.json": runs.load_run,
    "report.json": runs.load_report,
}


CAME_LATER = {
    "lacking",
    "num_gone",
    "num_pruned",
    "num_unneeded",
    "gone",
    "classes",
    "upon",
    "largest_source_bytes",
}
"""Fields that earlier releases did not write."""


@pytest.mark.parametrize("name", ["plan/plan.json", "report.json"])
def test_a_record_of_an_earlier_release_is_read(
    committed: tuple[LocalStore, str], name: str
) -> None:
    store, run_id = committed
    key = f"{RunKeys(run_id).folder}{name}"
    whole = store.get(key).data
    now = LOADERS[name](store, run_id)
    if isinstance(now, Run):  # The one that no default is right for.
        now = replace(now, plan=replace(now.plan, largest_source_bytes=0))
    document = json.loads(whole)
    earlier = {field: value for field, value in document.items() if field not in CAME_LATER}
    try:
        store.put(key, json.dumps(earlier).encode())
        assert earlier != document
        assert LOADERS[name](store, run_id) == now
    finally:
        store.put(key, whole)


@pytest.mark.parametrize("name", LOADERS)
def test_a_cut_or_foreign_record_is_an_error_that_names_it(
    committed: tuple[LocalStore, str], name: str
) -> None:
    store, run_id = committed
    key = f"{RunKeys(run_id).folder}{name}"
    whole = store.get(key).data
    document = json.loads(whole)
    damaged = [whole[:end] for end in range(0, len(whole), 97)]
    damaged += [b"[]", b"null", b'"x"', b"\xff\xfe", b"{}"]
    damaged += [
        json.dumps({**document, field: None}).encode()
        for field in ("versions", "per_source")
        if field in document
    ]
    damaged += [
        json.dumps({k: v for k, v in document.items() if k != field}).encode()
        for field in document
        if field not in {"recipe_digest", *CAME_LATER}
    ]
    try:
        for data in damaged:
            store.put(key, data)
            with pytest.raises(ManifestError, match="damaged, or was written by another") as caught:
                LOADERS[name](store, run_id)
            assert key in str(caught.value)
    finally:
        store.put(key, whole)
    LOADERS[name](store, run_id)


@pytest.mark.parametrize("name", LOADERS)
def test_a_missing_record_is_an_error_that_names_it(
    committed: tuple[LocalStore, str], name: str
) -> None:
    store, _ = committed
    with pytest.raises(ManifestError, match="has no run 'other'"):
        LOADERS[name](store, "other")


def test_a_recipe_of_another_release_is_named_with_its_run(
    committed: tuple[LocalStore, str],
) -> None:
    store, run_id = committed
    document = json.loads(store.get(RunKeys(run_id).request).data)
    document["recipe"]["transforms"][0]["name"] = "Fog"
    with pytest.raises(RecipeError, match=f"(?s)run {run_id}.*Fog"):
        Request.from_json(json.dumps(document).encode())


def test_runs_are_listed_oldest_first_with_how_far_they_came(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    assert runs.list_runs(store) == ()
    for run_id, names in {
        "20260103T000000Z-a": ["recipe.json"],
        "20260102T000000Z-b": ["recipe.json", "plan/plan.json", "parts/part-00000.parquet"],
        "20260101T000000Z-c": ["recipe.json", "plan/plan.json", "_SUCCESS"],
        "notes": ["readme.txt"],
    }.items():
        for name in names:
            store.put(f"{RunKeys(run_id).folder}{name}", b"")
    found = [
        (entry.run_id[-1], entry.is_planned, entry.is_committed) for entry in runs.list_runs(store)
    ]
    assert found == [("c", True, True), ("b", True, False), ("a", False, False)]


def test_finished_shards_are_those_whose_part_is_there(tmp_path: Path) -> None:
    store, keys = LocalStore(tmp_path), RunKeys("run")
    for index in (0, 7, 123_456):
        store.put(keys.part(index), b"")
    store.put(keys.parts + "part-00001.parquet.bak", b"")
    store.put(RunKeys("run2").part(3), b"")
    assert runs.finished_shards(store, "run") == {0, 7, 123_456}


@pytest.mark.parametrize(
    ("num_sources", "num_done", "num_failed", "error_rate"),
    [(0, 0, 0, 0.0), (0, 9, 0, 0.0), (10, 0, 1, 0.1), (5, 15, 5, 0.25), (10, 0, 10, 1.0)],
)
def test_a_report_says_which_share_of_all_sources_failed(
    num_sources: int, num_done: int, num_failed: int, error_rate: float
) -> None:
    report = Report("r", "s", "d", num_sources, num_done, num_failed, 0, 0, 0, 0, 0, 0, {}, 0.1)
    assert report.error_rate == error_rate
