"""The preview in this process, against a real server."""

from pathlib import Path
from typing import Any, cast

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State
from prefect.exceptions import ParameterTypeError
from prefect.utilities.callables import parameter_schema

from flows.augment import augment
from flows.preview import preview
from kaleidoscope.errors import CodecError, ObjectMissingError, PlanError

RECIPE = "{normalize: {side: 32}, transforms: [HorizontalFlip, Rotate]}"

pytestmark = pytest.mark.usefixtures("server")


def shown(client: SyncPrefectClient, **form: Any) -> tuple[str, str]:
    """Run the preview, and return its name and its page."""
    state = cast(State[Any], preview(custom_recipe=RECIPE, **form, return_state=True))
    state.result()
    flow_run_id = state.state_details.flow_run_id
    assert flow_run_id is not None
    (artifact,) = client.read_artifacts(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
    )
    assert artifact.key == "preview"
    return client.read_flow_run(flow_run_id).name, str(artifact.data)


def test_the_form_needs_no_more_than_a_source() -> None:
    assert parameter_schema(preview).required == ["source"]


def test_the_page_shows_all_images_of_a_photograph_and_the_plan(
    photos: Path, client: SyncPrefectClient
) -> None:
    before = sorted(photos.rglob("*"))
    name, page = shown(client, source=str(photos), image="dogs/rex.jpg")
    assert name == "preview of rex.jpg with recipe"
    assert "## 4 images of dogs/rex.jpg" in page
    assert "![4 images](data:image/webp;base64," in page
    assert "| images | 16, 4 of each source by 3 transform calls |" in page
    assert "| a | HorizontalFlip |" in page
    assert len(page) < 600_000
    assert sorted(photos.rglob("*")) == before


def test_what_is_not_for_the_label_of_the_photograph_is_not_shown(
    photos: Path, client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    flips = "{normalize: {side: 32}, transforms: [{name: HorizontalFlip, not_for: [dogs]}, Rotate]"
    monkeypatch.setattr(f"{__name__}.RECIPE", f"{flips}}}")
    _, page = shown(client, source=str(photos), image="dogs/rex.jpg")
    assert "## 2 images of dogs/rex.jpg" in page
    assert "The recipe's other images are `not for dogs: a HorizontalFlip`." in page
    assert "| images | 12, " in page
    assert "other images" not in shown(client, source=str(photos), image="cats/tom.jpg")[1]
    elsewhere = f"{photos.as_uri()}/dogs/rex.jpg"
    assert "## 2 images of " in shown(client, source=str(photos), image=elsewhere)[1]
    (photos / "labels.csv").write_text("file_name,label\ncats/tim.jpg,dogs\n")
    monkeypatch.setattr(f"{__name__}.RECIPE", f"{flips}, targets: {{labels: labels.csv}}}}")
    assert "## 2 images of cats/tim.jpg" in shown(client, source=str(photos))[1]


def test_what_is_done_in_the_destination_is_left_out_of_the_plan(
    photos: Path, tmp_path: Path, client: SyncPrefectClient
) -> None:
    place = {"source": str(photos), "destination": str(tmp_path / "out")}
    augment(**place, custom_recipe=RECIPE)
    assert "Nothing to do: nothing is missing of 4 sources;" in shown(client, **place)[1]


def test_a_destination_that_is_not_there_yet_is_not_made(
    photos: Path, tmp_path: Path, client: SyncPrefectClient
) -> None:
    shown(client, source=str(photos), destination=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_without_a_name_the_first_photograph_that_decodes_is_shown(
    photos: Path, client: SyncPrefectClient
) -> None:
    (photos / "aardvark.jpg").write_bytes(b"no image")
    assert "images of cats/tim.jpg" in shown(client, source=str(photos))[1]


def test_a_named_photograph_that_is_broken_or_missing_is_an_error(photos: Path) -> None:
    (photos / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(CodecError):
        preview(source=str(photos), custom_recipe=RECIPE, image="broken.jpg")
    with pytest.raises(ObjectMissingError, match=r"nowhere\.jpg"):
        preview(source=str(photos), custom_recipe=RECIPE, image="nowhere.jpg")


def test_a_source_without_a_photograph_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="no image under"):
        preview(source=str(tmp_path), custom_recipe=RECIPE)


def test_a_wrong_value_is_refused_by_the_name_of_its_field(photos: Path) -> None:
    with pytest.raises(ParameterTypeError, match="replicas"):
        preview(source=str(photos), replicas=0)


def test_the_plan_is_cut_as_a_run_of_the_same_form(photos: Path, client: SyncPrefectClient) -> None:
    assert "| shards | 4 |" in shown(client, source=str(photos), shard_minutes=0.0001)[1]
    assert "| shards | 2 |" in shown(client, source=str(photos))[1]
