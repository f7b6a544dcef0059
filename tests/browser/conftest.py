"""A Prefect server with this project's deployments, photographs in S3, and a browser to look."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.work_pools import PARENT_POOL, SHARD_POOL, make_process_pools
from kaleidoscope.settings import Settings
from kaleidoscope.stores import S3Credentials, open_store
from kaleidoscope.transfer import copy_objects
from tools.prefect_server import PrefectServer
from tools.seaweedfs import SeaweedFS

ROOT = Path(__file__).parents[2]
BUCKET = "pets"

# Of a sandbox, and so that the browser asks nobody but the server.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def prefect(
    tmp_path_factory: pytest.TempPathFactory,
    seaweedfs: SeaweedFS,
    s3_settings: Settings,
    s3_credentials: S3Credentials,
) -> Iterator[PrefectServer]:
    """A server whose runs find the photographs at ``s3://pets/photos``."""
    seaweedfs.create_bucket(BUCKET)
    photos = open_store(f"s3://{BUCKET}/photos", settings=s3_settings, credentials=s3_credentials)
    copy_objects(open_store(str(ROOT / "examples" / "photos")), photos)
    environment = {
        "KALEIDOSCOPE_S3_ENDPOINT_URL": seaweedfs.endpoint_url,
        "AWS_ACCESS_KEY_ID": seaweedfs.access_key,
        "AWS_SECRET_ACCESS_KEY": seaweedfs.secret_key,
        "AWS_REGION": "us-east-1",
    }
    with (
        PrefectServer(tmp_path_factory.mktemp("prefect"), environment=environment) as server,
        temporary_settings({PREFECT_API_URL: server.api_url}),
    ):
        with get_client(sync_client=True) as client:
            make_process_pools(client, shards_at_once=2)
        server.run("--no-prompt", "deploy", "--name", "process", cwd=ROOT)
        for pool in (PARENT_POOL, SHARD_POOL):
            server.start_worker(pool, cwd=ROOT)
        yield server


@pytest.fixture
def client(prefect: PrefectServer) -> Iterator[SyncPrefectClient]:  # noqa: ARG001 - it is there.
    with get_client(sync_client=True) as client:
        yield client


# While playwright is there, an event loop runs in this thread, in which Prefect would return
# coroutines to the tests of other folders.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, headless."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("there is no chromium; install it, for example by apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """An empty page of the width that the documentation shows."""
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    yield page
    page.close()


class Screenshots:
    """Keeps pictures of pages for the documentation, if it is asked to."""

    def __init__(self, folder: str | None) -> None:
        self._folder = folder

    def take(self, page: Page, name: str, *, most: int = 4000) -> None:
        """Write ``name.png`` of the whole page, up to so many pixels high."""
        if self._folder is None:
            return
        tallest = "Math.max(...[...document.querySelectorAll('*')].map(e => e.scrollHeight))"
        height = min(int(page.evaluate(tallest)), most)
        before = page.viewport_size
        page.set_viewport_size({"width": 1280, "height": height})
        Path(self._folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=f"{self._folder}/{name}.png")
        if before is not None:
            page.set_viewport_size(before)


@pytest.fixture
def screenshots() -> Screenshots:
    """Where ``SCREENSHOTS`` says; nowhere without it, so that a test leaves the tree clean."""
    return Screenshots(os.environ.get("SCREENSHOTS"))
