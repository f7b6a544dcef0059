"""A Prefect server with process workers and this project's deployments, for all tests of flows."""

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import pytest
from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.work_pools import PARENT_POOL, SHARD_POOL, make_process_pools
from tests.flows import toy
from tools.prefect_server import PrefectServer

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """A server that clients in this process talk to."""
    with (
        PrefectServer(tmp_path_factory.mktemp("prefect")) as server,
        temporary_settings({PREFECT_API_URL: server.api_url}),
    ):
        yield server


@pytest.fixture(scope="session")
def client(server: PrefectServer) -> Iterator[SyncPrefectClient]:  # noqa: ARG001 - it is there.
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture(scope="session")
def toy_deployment(server: PrefectServer, client: SyncPrefectClient) -> str:
    """The toy shard, deployed, with a worker that runs it."""
    make_process_pools(client, shards_at_once=None)
    server.start_worker(SHARD_POOL, cwd=ROOT)
    # A coroutine only where an event loop runs.
    source = cast(
        "Flow[..., object]",
        toy.toy_shard.from_source(str(ROOT), "tests/flows/toy.py:toy_shard"),
    )
    source.deploy("process", SHARD_POOL, print_next_steps=False, ignore_warnings=True)
    return "toy-shard/process"


@pytest.fixture(scope="session")
def deployment(server: PrefectServer, toy_deployment: str) -> str:  # noqa: ARG001 - brings pools.
    """What prefect.yaml has for process workers, deployed, with workers that run it."""
    server.run("--no-prompt", "deploy", "--name", "process", cwd=ROOT)
    server.start_worker(PARENT_POOL, cwd=ROOT)
    return "augment/process"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Four small images in two folders of a class each."""
    rng = np.random.default_rng(0)
    for index, name in enumerate(("cats/tom", "cats/tim", "dogs/rex", "dogs/max")):
        pixels = rng.integers(0, 256, (6, 8 + index, 3), np.uint8)
        file = tmp_path / "photos" / f"{name}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), cv2.resize(pixels, (80, 60), interpolation=cv2.INTER_CUBIC))
    return tmp_path / "photos"
