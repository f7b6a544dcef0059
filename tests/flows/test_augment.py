"""The flow in this process, against a real server."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import Artifact, State

import kaleidoscope
from flows import augment as augment_module
from flows import execution
from flows.augment import augment, refuse_existing
from kaleidoscope.errors import AccessError, PlanError, RunError, StoreError
from kaleidoscope.pipeline import run_shard
from kaleidoscope.stores import open_store

RECIPE = """
normalize: {side: 32}
transforms: [HorizontalFlip, Rotate]
"""

pytestmark = pytest.mark.usefixtures("server")


@pytest.fixture(autouse=True)
def _no_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    hasty = augment_module.do_shard.with_options(retry_delay_seconds=0)
    monkeypatch.setattr(augment_module, "do_shard", hasty)


def hashes(destination: Path) -> dict[str, str]:
    table = kaleidoscope.read_manifest(str(destination))
    return dict(zip(table["output_key"], table["sha256"], strict=True))


def fail_shard(monkeypatch: pytest.MonkeyPatch, shard: int, errors: list[Exception]) -> list[int]:
    """Let a shard fail with each error once; returns the list of calls."""
    calls: list[int] = []

    def failing(*args: Any, **kwargs: Any) -> Any:
        calls.append(args[3])
        if args[3] == shard and errors:
            raise errors.pop(0)
        return run_shard(*args, **kwargs)

    monkeypatch.setattr(execution, "run_shard", failing)
    return calls


def artifacts_of(client: SyncPrefectClient, state: State[Any]) -> dict[str, Artifact]:
    flow_run_id = state.state_details.flow_run_id
    assert flow_run_id is not None
    shown = client.read_artifacts(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
    )
    return {str(artifact.key): artifact for artifact in shown}


def test_the_flow_makes_what_the_library_makes(photos: Path, tmp_path: Path) -> None:
    by_flow, by_library = tmp_path / "flow", tmp_path / "library"
    report = augment(source=str(photos), destination=str(by_flow), custom_recipe=RECIPE, replicas=3)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    kaleidoscope.run(str(photos), str(by_library), str(tmp_path / "recipe.yaml"))
    assert report.num_shards == 3
    assert report.num_outputs == 16
    assert hashes(by_flow) == hashes(by_library)
    for name in ("README.md", "metadata.parquet"):
        assert (by_flow / name).exists()


def test_a_second_run_of_the_same_does_nothing_and_reports_the_first(
    photos: Path, tmp_path: Path
) -> None:
    first, second = (
        augment(source=str(photos), destination=str(tmp_path / "out"), custom_recipe=RECIPE)
        for _ in range(2)
    )
    assert first == second


def test_a_shard_that_a_store_failed_is_tried_again(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = fail_shard(monkeypatch, 1, [StoreError("down"), ConnectionError("also down")])
    augment(source=str(photos), destination=str(tmp_path / "out"), custom_recipe=RECIPE, replicas=3)
    assert sorted(calls) == [0, 1, 1, 1, 2]


def test_a_try_that_fails_half_way_is_counted_as_an_attempt_and_its_images_once(
    photos: Path, tmp_path: Path, client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = [StoreError("down")]

    def failing_late(*args: Any, **kwargs: Any) -> Any:
        stats = run_shard(*args, **kwargs)
        if errors:
            args[1].delete([args[2].keys.part(args[3])])
            raise errors.pop()
        return stats

    monkeypatch.setattr(execution, "run_shard", failing_late)
    form = {"source": str(photos), "destination": str(tmp_path / "out"), "custom_recipe": RECIPE}
    shown = artifacts_of(client, cast(State[Any], augment(**form, replicas=1, return_state=True)))
    assert shown["augment-progress"].data == 100
    assert "16 images from 4 of 4 sources" in str(shown["augment-progress"].description)
    assert "1 tries of a shard came to nothing" in str(shown["augment-report"].data)
    assert "shard 0 failed: StoreError: down" in str(shown["augment-report"].data)
    assert '"attempts": 2' in str(shown["augment-shards"].data)


def test_a_run_with_a_hopeless_shard_fails_and_the_next_one_does_only_that_shard(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = fail_shard(monkeypatch, 1, [AccessError("no entry")])
    out = tmp_path / "out"
    with pytest.raises(RunError, match=r"1 of 3 shards .*\n.*shard 1: AccessError: no entry\n"):
        augment(source=str(photos), destination=str(out), custom_recipe=RECIPE, replicas=3)
    assert sorted(calls) == [0, 1, 2]
    augment(source=str(photos), destination=str(out), custom_recipe=RECIPE, replicas=3)
    assert sorted(calls) == [0, 1, 1, 2]
    assert len(hashes(out)) == 16


def test_a_destination_that_is_to_be_new_may_hold_what_an_earlier_try_of_the_run_made(
    photos: Path, tmp_path: Path, client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = {"source": str(photos), "destination": str(tmp_path / "out"), "custom_recipe": RECIPE}
    tried = client.create_flow_run(augment, parameters=place)
    augment(**place, existing="refuse")
    later = client.create_flow_run(augment, parameters=place)
    with pytest.raises(PlanError, match=r"existing is refuse, and .*/out holds run 20"):
        augment(**place, existing="refuse")
    monkeypatch.setenv("PREFECT__RUNTIME__FLOW_RUN__RUN_COUNT", "2")
    destination = open_store(place["destination"])
    for flow_run, is_refused in ((tried, False), (later, True)):
        monkeypatch.setenv("PREFECT__RUNTIME__FLOW_RUN__ID", str(flow_run.id))
        with pytest.raises(PlanError) if is_refused else nullcontext():
            refuse_existing(destination)


def test_too_many_broken_sources_fail_the_run_after_its_commit(
    photos: Path, tmp_path: Path
) -> None:
    (photos / "dogs" / "broken.jpg").write_bytes(b"no image")
    out = tmp_path / "out"
    with pytest.raises(RunError, match="1 of 5 sources failed"):
        augment(
            source=str(photos),
            destination=str(out),
            custom_recipe=RECIPE,
            limits={"max_error_rate": 0.1},
        )
    assert len(hashes(out)) == 17


def test_a_wrong_recipe_fails_before_anything_is_written(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(kaleidoscope.errors.RecipeError, match="Rotat"):
        augment(
            source=str(photos),
            destination=str(tmp_path / "out"),
            custom_recipe="transforms:\n- Rotat",
        )
    assert not (tmp_path / "out").exists()


def test_a_run_is_named_after_its_data_set_and_its_recipe_and_shows_its_progress(
    photos: Path, tmp_path: Path, client: SyncPrefectClient
) -> None:
    form = {"source": str(photos), "destination": str(tmp_path / "out"), "custom_recipe": RECIPE}
    state = cast(State[Any], augment(**form, return_state=True))
    flow_run_id = state.state_details.flow_run_id
    assert flow_run_id is not None
    assert client.read_flow_run(flow_run_id).name == "photos-recipe"
    by_key = artifacts_of(client, state)
    assert by_key["augment-progress"].data == 100
    assert "16 images from 4 of 4 sources" in str(by_key["augment-progress"].description)
    page = str(by_key["augment-report"].data)
    assert "## 16 images of 4 photographs" in page
    assert "![Contact sheet of 4 images](data:image/webp;base64," in page
