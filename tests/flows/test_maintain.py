"""Looking after a data set by its flow, against a real server."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State
from prefect.utilities.callables import parameter_schema
from prefect_aws.s3 import S3Bucket

import kaleidoscope
from flows.augment import augment
from flows.maintain import maintain
from kaleidoscope.errors import LeaseError, ManifestError, SettingsError
from kaleidoscope.lease import Holder, hold
from kaleidoscope.stores import open_store

RECIPE = "{normalize: {side: 32}, transforms: [HorizontalFlip, Rotate]}"

pytestmark = pytest.mark.usefixtures("server")


@pytest.fixture
def made(photos: Path, tmp_path: Path) -> Path:
    """A destination with 16 images of four photographs."""
    augment(source=str(photos), destination=str(tmp_path / "out"), custom_recipe=RECIPE)
    return tmp_path / "out"


def done(client: SyncPrefectClient, made: Path, **form: Any) -> tuple[State[Any], str]:
    """Run the flow, and return its state and its page."""
    state = cast(State[Any], maintain(destination=str(made), **form, return_state=True))
    flow_run_id = state.state_details.flow_run_id
    assert flow_run_id is not None
    left = client.read_artifacts(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
    )
    # Of a failed run Prefect keeps the error, too, without a key.
    (page,) = [str(artifact.data) for artifact in left if artifact.key == "maintain-report"]
    return state, page


def outputs(made: Path) -> list[Path]:
    return [file for file in made.rglob("*.jpg") if "_kaleidoscope" not in file.parts]


def test_the_form_begins_with_the_destination_the_one_field_that_must_be_filled_in() -> None:
    schema = parameter_schema(maintain)
    assert schema.required == ["destination"]
    assert next(iter(schema.properties)) == "destination"


def test_a_whole_data_set_is_verified_and_made_again(client: SyncPrefectClient, made: Path) -> None:
    state, page = done(client, made, replay=True)
    assert state.is_completed()
    assert "## Everything is in its place" in page
    assert "| made again: identical | 16 |" in page


def test_a_missing_image_fails_the_run_and_is_named(client: SyncPrefectClient, made: Path) -> None:
    gone = outputs(made)[0]
    gone.unlink()
    state, page = done(client, made)
    assert state.is_failed()
    with pytest.raises(ManifestError, match="1 missing"):
        state.result()
    assert f"| missing | `{gone.relative_to(made)}` |" in page
    state, page = done(client, made, repair=True)
    assert state.is_completed()
    assert "| repaired | 1 |" in page
    assert gone.exists()


def test_photographs_are_opened_by_the_block_that_is_named(
    client: SyncPrefectClient, made: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KALEIDOSCOPE_S3_ANONYMOUS", "true")
    S3Bucket(bucket_name="some-bucket").save("photographs-elsewhere", overwrite=True)
    with pytest.raises(SettingsError, match=r"made of .*photos, and source is s3://some-bucket/a"):
        maintain(destination=str(made), job="prune", source="block://photographs-elsewhere/a")
    state, _ = done(client, made, replay=True, source=photos.as_uri())
    assert state.is_completed()


def test_a_prune_deletes_nothing_unless_it_is_asked_to(
    client: SyncPrefectClient, made: Path, photos: Path
) -> None:
    (photos / "dogs" / "rex.jpg").unlink()
    state, page = done(client, made, job="prune")
    assert state.is_completed()
    assert "## 4 objects to remove" in page
    assert len(outputs(made)) == 16
    state, page = done(client, made, job="prune", delete=True)
    assert state.is_completed()
    assert "## 4 objects removed" in page
    assert len(outputs(made)) == 12
    assert len(kaleidoscope.read_manifest(str(made))) == 12


def test_without_patience_a_run_and_a_prune_are_refused_while_another_is_at_work(
    made: Path, photos: Path
) -> None:
    other = Holder("1", "flow run another", "there", datetime.now(UTC))
    with hold(open_store(str(made)), other):
        with pytest.raises(LeaseError, match="flow run another"):
            augment(source=str(photos), destination=str(made), custom_recipe=RECIPE, wait_minutes=0)
        with pytest.raises(LeaseError, match="flow run another"):
            maintain(destination=str(made), job="prune", delete=True, wait_minutes=0)
        with pytest.raises(LeaseError, match="flow run another"):
            maintain(destination=str(made), repair=True, wait_minutes=0)
