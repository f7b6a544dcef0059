"""A cluster, a Prefect server, an S3 server and workers, for all tests of this folder."""

import hashlib
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit
from uuid import UUID

import cv2
import numpy as np
import pytest
from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.deployments.runner import RunnerDeployment
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.types.entrypoint import EntrypointType

import kaleidoscope
from deployments.kubernetes.pool import (
    PARENT_QUEUE,
    POOL,
    SHARD_QUEUE,
    make_kubernetes_pool,
)
from flows.augment import augment
from flows.shard import augment_shard
from kaleidoscope.settings import Settings
from kaleidoscope.stores import S3Credentials, Store, open_store
from kaleidoscope.transfer import copy_objects
from tests.cluster.cluster import Cluster
from tests.cluster.proxy import Proxy
from tests.cluster.stand_in import StandIn
from tools.postgresql import PostgreSQL, find_programs
from tools.prefect_server import PrefectServer
from tools.seaweedfs import SeaweedFS

ROOT = Path(__file__).parents[2]

NUM_PHOTOS = 6

IMAGES_PER_PHOTO = 16

# Large outputs of small photographs: a shard takes a second, so that a kill can land in it.
RECIPE = """
normalize: {side: 1000}
transforms: [HorizontalFlip, Rotate, GaussNoise, Perspective]
"""

# Without a step, Prefect copies the folder that a run starts in for every run.
PULL_STEP = {"prefect.deployments.steps.set_working_directory": {"directory": "/tmp"}}  # noqa: S108

DEADLINE_S = 400.0

PENDING_LIMIT_S = 120.0
"""Long enough for a pod on a busy machine, or on a node that has to fetch the image first."""

KILL_TIMEOUT_S = 20.0

FIRST_INTERVAL_S, LAST_INTERVAL_S = 0.05, 0.5
"""Between two looks at whether something has come true."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """How pods reach what runs on this machine; see README.md."""

    image: str
    namespace: str
    host: str
    """This machine, as pods see it."""

    @property
    def bind(self) -> str:
        """The address that proxies listen at."""
        return "127.0.0.1" if self.host == "127.0.0.1" else "0.0.0.0"  # noqa: S104 - for pods.


@pytest.fixture(scope="session")
def addresses() -> Addresses:
    real = "KUBECONFIG" in os.environ
    names = {"KALEIDOSCOPE_TEST_IMAGE", "KALEIDOSCOPE_TEST_HOST"}
    if real and (missing := sorted(names - os.environ.keys())):
        pytest.fail(
            f"KUBECONFIG names a cluster, so {missing} must be set: tests/cluster/README.md"
        )
    return Addresses(
        image=os.environ["KALEIDOSCOPE_TEST_IMAGE"] if real else "stand-in/kaleidoscope:test",
        namespace=os.environ.get("KALEIDOSCOPE_TEST_NAMESPACE", "kaleidoscope-runs"),
        host=os.environ["KALEIDOSCOPE_TEST_HOST"] if real else "127.0.0.1",
    )


@pytest.fixture(scope="session")
def cluster(addresses: Addresses, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster that KUBECONFIG names, else the stand-in."""
    session = secrets.token_hex(4)
    with ExitStack() as stack:
        if path := os.environ.get("KUBECONFIG"):
            cluster = Cluster(Path(path), addresses.namespace, session, None)
        else:
            stand_in = stack.enter_context(StandIn(tmp_path_factory.mktemp("cluster")))
            cluster = Cluster(stand_in.kubeconfig, addresses.namespace, session, stand_in)
        yield cluster
        cluster.clean_up()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """A server that clients in this process talk to."""
    # As infra/kubernetes has it, its database too where PostgreSQL is installed.
    environment: dict[str, str] = {}
    with ExitStack() as stack:
        if find_programs() is not None:
            database = stack.enter_context(PostgreSQL())
            environment["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = database.url
        home = tmp_path_factory.mktemp("prefect")
        server = stack.enter_context(PrefectServer(home, environment=environment))
        stack.enter_context(temporary_settings({PREFECT_API_URL: server.api_url}))
        yield server


@pytest.fixture(scope="session")
def client(server: PrefectServer) -> Iterator[SyncPrefectClient]:  # noqa: ARG001 - it is there.
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture(scope="session")
def api(server: PrefectServer, addresses: Addresses) -> Iterator[Proxy]:
    """Prefect's API as workers and pods see it."""
    port = urlsplit(server.url).port
    assert port is not None
    with Proxy(port, bind=addresses.bind) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def storage(seaweedfs: SeaweedFS, addresses: Addresses) -> Iterator[Proxy]:
    """The S3 server as pods see it."""
    port = urlsplit(seaweedfs.endpoint_url).port
    assert port is not None
    with Proxy(port, bind=addresses.bind) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def settings_names(
    cluster: Cluster, addresses: Addresses, seaweedfs: SeaweedFS, storage: Proxy
) -> dict[str, str]:
    """Job variables that name the ConfigMap and the Secret which lead pods to the S3 server."""
    (session,) = cluster.labels.values()
    name = f"kaleidoscope-test-{session}"
    url = f"http://{addresses.host}:{storage.port}"
    cluster.let_pods_out(name)
    cluster.make_settings(
        name, {"KALEIDOSCOPE_S3_ENDPOINT_URL": url, "KALEIDOSCOPE_S3_REGION": "us-east-1"}
    )
    keys = {
        "AWS_ACCESS_KEY_ID": seaweedfs.access_key,
        "AWS_SECRET_ACCESS_KEY": seaweedfs.secret_key,
    }
    cluster.make_secret(name, keys)
    return {"settings_name": name, "s3_secret_name": name}


class Worker:
    """The worker, as a process that can be killed and started again."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        self._environment = environment
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, if it does not run."""
        if self._process is not None:
            return
        command = ("prefect", "worker", "start", "--type", "kubernetes", "--pool", POOL)
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *command],
                env=self._environment,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def kill(self) -> None:
        """End it without a warning, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(KILL_TIMEOUT_S)
            self._process = None


@pytest.fixture(scope="session")
def one_worker(server: PrefectServer, api: Proxy, cluster: Cluster) -> Iterator[Worker]:
    # What is the server's alone would be copied into pods.
    common = {k: v for k, v in server.environment.items() if not k.startswith("PREFECT_SERVER_")}
    # What infra/kubernetes gives its worker, but for the time between two looks for runs.
    environment = {
        **common,
        "KUBECONFIG": str(cluster.kubeconfig),
        "PREFECT_API_URL": f"http://127.0.0.1:{api.port}/api",
        "PREFECT_INTEGRATIONS_KUBERNETES_OBSERVER_NAMESPACES": cluster.namespace,
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "PREFECT_WORKER_ENABLE_CANCELLATION": "true",
        "PREFECT_WORKER_CANCELLATION_POLL_SECONDS": "10",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    }
    worker = Worker(environment, server.home / "worker.log")
    yield worker
    worker.kill()


@pytest.fixture
def worker(deployments: str, one_worker: Worker) -> Worker:  # noqa: ARG001 - brings the pool.
    """The worker, running."""
    one_worker.start()
    return one_worker


@pytest.fixture(scope="session")
def deployments(
    client: SyncPrefectClient,
    cluster: Cluster,
    addresses: Addresses,
    api: Proxy,
    settings_names: dict[str, str],
) -> str:
    """The name of the parent's deployment, with the shard's beside it."""
    job_variables = {
        **settings_names,
        "image": addresses.image,
        "namespace": cluster.namespace,
        "labels": cluster.labels,
        # For 21 pods on a laptop's cluster.
        "cpu_request": "50m",
        "memory_request": "256Mi",
        # The worker's own are copied, and lead nowhere in a pod: it can write to /tmp alone.
        "env": {
            "PREFECT_HOME": "/tmp/prefect",  # noqa: S108 - in the pod.
            "PREFECT_API_URL": f"http://{addresses.host}:{api.port}/api",
        },
    }
    make_kubernetes_pool(client, shards_at_once=None)
    flows: tuple[Flow[..., Any], ...] = (augment, augment_shard)
    for flow, queue in zip(flows, (PARENT_QUEUE, SHARD_QUEUE), strict=True):
        # A coroutine only where an event loop runs.
        deployment = cast(
            "RunnerDeployment",
            flow.to_deployment(
                "cluster",
                work_pool_name=POOL,
                work_queue_name=queue,
                job_variables=job_variables,
                entrypoint_type=EntrypointType.MODULE_PATH,
            ),
        )
        deployment_id = cast("UUID", deployment.apply())
        client.update_deployment(deployment_id, DeploymentUpdate(pull_steps=[PULL_STEP]))
    return "augment/cluster"


class Augmentation:
    """The deployment of the parent flow, on photographs in S3 of one test."""

    def __init__(
        self,
        client: SyncPrefectClient,
        deployment: str,
        uri: str,
        *,
        open_at: Callable[[str], Store],
    ) -> None:
        self.client = client
        self.deployment = deployment
        self.uri = uri
        self.photos = open_at(f"{uri}/photos")
        self.output = open_at(f"{uri}/out")

    def start(self, **parameters: Any) -> UUID:
        return self.client.create_flow_run_from_deployment(
            self.client.read_deployment_by_name(self.deployment).id,
            parameters={
                "source": f"{self.uri}/photos",
                "destination": f"{self.uri}/out",
                "custom_recipe": RECIPE,
                # One shard to disturb and one beside it; each pod costs five seconds of a CPU.
                "replicas": 2,
                "pending_limit_s": PENDING_LIMIT_S,
                "execution": "work-pool",
                "shard_deployment": "augment-shard/cluster",
                **parameters,
            },
        ).id

    def add_photos(self, number: int) -> None:
        """Add a copy of a photograph under other names, until there are so many."""
        data = self.photos.get(next(self.photos.list_objects()).key).data
        for index in range(NUM_PHOTOS, number):
            self.photos.put(f"photo-{index:02d}.jpg", data)

    def run(self, run_id: UUID) -> FlowRun:
        return self.client.read_flow_run(run_id)

    def finish(self, run_id: UUID) -> str | None:
        """Wait for the run and return what its last state is called."""
        wait_for(lambda: is_final(self.run(run_id)))
        return self.run(run_id).state_name

    def hold_shards(self, *, hold: bool) -> None:
        """Keep workers from shards that are not begun, or no longer."""
        queue = self.client.read_work_queue_by_name(SHARD_QUEUE, work_pool_name=POOL)
        self.client.update_work_queue(queue.id, is_paused=hold)

    def report(self, run_id: UUID) -> str:
        """Return what the run shows in Prefect at its end."""
        artifacts = self.client.read_artifacts(
            artifact_filter=ArtifactFilter(
                flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]),
                key=ArtifactFilterKey(any_=["augment-report"]),
            )
        )
        return "\n".join(str(artifact.data) for artifact in artifacts)

    def children(self, run_id: UUID, *types: StateType) -> list[FlowRun]:
        parents = FlowRunFilterParentFlowRunId(any_=[run_id])
        runs = self.client.read_flow_runs(flow_run_filter=FlowRunFilter(parent_flow_run_id=parents))
        return [run for run in runs if not types or run.state_type in types]

    def num_parts(self) -> int:
        return sum("/parts/" in info.key for info in self.output.list_objects())

    def outputs(self) -> dict[str, str]:
        return hash_images(self.output)


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few small photographs."""
    folder = tmp_path_factory.mktemp("data") / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(NUM_PHOTOS):
        pixels = rng.integers(0, 256, (6, 8, 3), np.uint8)
        image = cv2.resize(pixels, (80, 60 + index), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f"photo-{index:02d}.jpg"), image)
    return folder


@pytest.fixture(scope="session")
def expected(photos: Path) -> dict[str, str]:
    """What an undisturbed run makes of the photographs, by key.

    A node with another kind of processor than this machine's may make other pixels: nodes of a
    real cluster have to be of its kind.
    """
    recipe, out = photos.parent / "recipe.yaml", photos.parent / "out"
    recipe.write_text(RECIPE)
    kaleidoscope.run(str(photos), str(out), str(recipe))
    hashes = hash_images(open_store(str(out)))
    assert len(hashes) == NUM_PHOTOS * IMAGES_PER_PHOTO
    return hashes


@pytest.fixture
def augmentation(  # noqa: PLR0913 - a server, a store, and what lies in it.
    *,
    client: SyncPrefectClient,
    deployments: str,
    photos: Path,
    s3_uri: str,
    s3_settings: Settings,
    s3_credentials: S3Credentials,
) -> Augmentation:
    def at(uri: str) -> Store:
        return open_store(uri, settings=s3_settings, credentials=s3_credentials)

    augmentation = Augmentation(client, deployments, s3_uri, open_at=at)
    copy_objects(open_store(str(photos)), augmentation.photos)
    return augmentation


def hash_images(store: Store) -> dict[str, str]:
    """Return the sha256 of every image, by key; card and tables name the run that made them."""
    images = (info.key for info in store.list_objects() if info.key.endswith(".jpg"))
    keys = [key for key in images if not key.startswith("_kaleidoscope/")]
    return {key: hashlib.sha256(store.get(key).data).hexdigest() for key in keys}


def wait_for(condition: Callable[[], Any], *, deadline_s: float = DEADLINE_S) -> float:
    """Return how many seconds it took until the condition came true.

    It is tried less and less often, since servers share two cores with the pods of the stand-in.
    """
    start, interval_s = time.monotonic(), FIRST_INTERVAL_S
    while not condition():
        assert time.monotonic() - start < deadline_s, "the condition never came true"
        time.sleep(interval_s)
        interval_s = min(1.5 * interval_s, LAST_INTERVAL_S)
    return time.monotonic() - start


def is_final(run: FlowRun) -> bool:
    return run.state is not None and run.state.is_final()
