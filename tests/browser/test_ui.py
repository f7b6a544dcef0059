"""The Prefect UI, as a person finds it who opens it for the first time."""

import base64
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar
from uuid import UUID

import cv2
import numpy as np
import pytest
from playwright.sync_api import Locator, Page, expect
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
    DeploymentFilter,
    DeploymentFilterId,
)
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import DeploymentResponse

from kaleidoscope.preview import SMALL_SHEET
from tests.browser.conftest import Screenshots
from tools.prefect_server import PrefectServer

T = TypeVar("T")

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

DEADLINE_S = 240.0
RECIPE = '{"transforms": ["Rotate", "Saturation", "HorizontalFlip", "Perspective"]}'

TRIES = 8

SLOW_MS = 60_000
"""A page on a machine that starts servers besides."""


@pytest.fixture
def augment(client: SyncPrefectClient) -> DeploymentResponse:
    return client.read_deployment_by_name("augment/process")


def open_form(page: Page, prefect: PrefectServer, deployment: DeploymentResponse) -> None:
    page.goto(f"{prefect.url}/deployments/deployment/{deployment.id}/run")
    page.get_by_role("button", name="Submit").wait_for(timeout=SLOW_MS)
    page.locator(".schema-form-property__label").first.wait_for(timeout=SLOW_MS)


def fields_of(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Yield every field, those of groups included: its title, itself, whether it is a group."""
    for field in schema["properties"].values():
        group = schema["definitions"].get(field.get("$ref", "").rpartition("/")[2])
        if group is None:
            yield field["title"], field, False
        else:
            yield group["title"], group | field, True
            yield from ((f["title"], f, False) for f in group["properties"].values())


def field(page: Page, title: str) -> Locator:
    """The innermost element that holds a field's label and its control."""
    label = page.locator(f'.schema-form-property__label:text-is("{title}")')
    optional = page.locator(f'.schema-form-property__label:text-is("{title} (Optional)")')
    return page.locator(".p-label").filter(has=label.or_(optional)).last


def control(page: Page, title: str) -> Locator:
    return field(page, title).locator(".p-base-input__control").first


def test_the_form_shows_title_help_and_default_of_every_field(
    page: Page,
    prefect: PrefectServer,
    augment: DeploymentResponse,
    screenshots: Screenshots,
) -> None:
    open_form(page, prefect, augment)
    schema = augment.parameter_openapi_schema or {}
    found = list(fields_of(schema))
    assert len(found) > 20
    for title, drawn, is_group in found:
        shown = field(page, title)
        expect(shown).to_be_visible()
        expect(shown).to_contain_text(" ".join(drawn["description"].split())[:60])
        default = augment.parameters.get(title, drawn.get("default"))
        if not is_group and drawn.get("type") in {"string", "number", "integer"} and default:
            text = control(page, title).evaluate("e => e.value || e.innerText")
            expected = {str(default), f"{default:g}" if isinstance(default, float) else ""}
            # The deployment may set another default than the flow has.
            assert text in expected | {str(value) for value in augment.parameters.values()}, title
    screenshots.take(page, "form")


def test_a_wrong_value_is_refused_by_name_and_nothing_runs(
    page: Page,
    prefect: PrefectServer,
    client: SyncPrefectClient,
    augment: DeploymentResponse,
    screenshots: Screenshots,
) -> None:
    num_before = len(client.read_flow_runs())
    open_form(page, prefect, augment)
    control(page, "Source").fill("s3://pets/photos")
    control(page, "Destination").fill("s3://pets/refused")
    control(page, "Replicas").fill("0")
    page.get_by_role("button", name="Submit").click()
    # Beside the field, or, where others had to be checked by the server, in a notice.
    refusal = page.get_by_text("minimum of 1").first
    expect(refusal).to_be_visible(timeout=SLOW_MS)
    expect(refusal).to_contain_text("replicas")
    screenshots.take(page, "refused", most=1000)
    assert "/run" in page.url
    assert len(client.read_flow_runs()) == num_before


def test_a_right_form_leads_to_images_and_a_report_with_a_contact_sheet(
    page: Page,
    prefect: PrefectServer,
    client: SyncPrefectClient,
    augment: DeploymentResponse,
    screenshots: Screenshots,
) -> None:
    open_form(page, prefect, augment)
    control(page, "Source").fill("s3://pets/photos")
    control(page, "Destination").fill("s3://pets/augmented")
    control(page, "Recipe of your own").fill(RECIPE)
    control(page, "Size in pixels").fill("200")
    run_id = submit(page, client, augment).id
    page.goto(f"{prefect.url}/runs/flow-run/{run_id}")
    state = wait_for(lambda: final_state(client, run_id))
    assert state.is_completed(), state
    assert client.read_flow_run(run_id).name == "photos-recipe"
    expect(page.get_by_text("Completed").first).to_be_visible(timeout=SLOW_MS)
    screenshots.take(page, "run", most=1400)
    [artifact] = client.read_artifacts(
        artifact_filter=ArtifactFilter(
            key=ArtifactFilterKey(any_=["augment-report"]),
            flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]),
        )
    )
    page.goto(f"{prefect.url}/artifacts/artifact/{artifact.id}")
    sheet = page.locator('img[alt*="contact sheet" i]').first
    expect(sheet).to_be_visible(timeout=SLOW_MS)
    assert sheet.evaluate("image => image.complete && image.naturalWidth > 100")
    assert num_tiles(str(sheet.get_attribute("src"))) == 16
    screenshots.take(page, "report", most=3000)


def submit(page: Page, client: SyncPrefectClient, deployment: DeploymentResponse) -> FlowRun:
    """Submit the form, and again where a server on SQLite was too busy to make the run."""
    for attempts_left in reversed(range(TRIES)):
        page.get_by_role("button", name="Submit").click()
        try:
            return wait_for(lambda: newest_run(client, deployment), deadline_s=DEADLINE_S / TRIES)
        except TimeoutError:
            if not attempts_left:
                raise
    raise AssertionError


def wait_for(look: Callable[[], T | None], *, deadline_s: float = DEADLINE_S) -> T:
    deadline = time.monotonic() + deadline_s
    while (found := look()) is None:
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.2)
    return found


def newest_run(client: SyncPrefectClient, deployment: DeploymentResponse) -> FlowRun | None:
    deployments = DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id]))
    return next(iter(client.read_flow_runs(deployment_filter=deployments)), None)


def final_state(client: SyncPrefectClient, run_id: UUID) -> State[Any] | None:
    state = client.read_flow_run(run_id).state
    return state if state is not None and state.is_final() else None


def num_tiles(data_uri: str) -> int:
    """Count the pictures on a contact sheet by what stands out from its background."""
    data = base64.b64decode(data_uri.partition(",")[2])
    sheet = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert sheet is not None
    stands_out = (sheet.min(axis=2) < 225).astype(np.uint8)
    closed = cv2.morphologyEx(stands_out, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    _, _, stats, _ = cv2.connectedComponentsWithStats(closed)
    shortest = stats[1:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]].min(axis=1)
    return int((shortest >= SMALL_SHEET.tile_px // 2).sum())
