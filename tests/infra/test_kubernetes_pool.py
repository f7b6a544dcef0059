"""What `make deploy` and `make kubernetes` make on a server that has nothing."""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import (
    DeploymentScheduleCreate,
    WorkPoolCreate,
    WorkPoolUpdate,
)
from prefect.client.schemas.schedules import CronSchedule
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments import deploying
from deployments.automations import ZOMBIES
from deployments.deploying import deploy
from deployments.kubernetes.nodes import PARENTS, SHARD, read_label
from deployments.kubernetes.pool import (
    PARENT_QUEUE,
    POOL,
    SHARD_QUEUE,
    TEMPLATE,
    make_kubernetes_pool,
)
from deployments.kubernetes.secrets import SYSTEM
from deployments.pools import PoolError, make_pool
from deployments.work_pools import PARENT_POOL, SHARD_POOL, make_process_pools
from tests.infra.scripted_cluster import Cluster
from tools.prefect_server import PrefectServer

ROOT = Path(__file__).parents[2]
OLD_TEMPLATE = {"job_configuration": {"name": "old"}, "variables": {"type": "object"}}
IMAGE = "registry.example.com/kaleidoscope:1"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    with (
        PrefectServer(tmp_path_factory.mktemp("prefect")) as server,
        temporary_settings({PREFECT_API_URL: server.api_url}),
    ):
        yield server


@pytest.fixture(scope="module")
def client(server: PrefectServer) -> Iterator[SyncPrefectClient]:  # noqa: ARG001 - it is there.
    with get_client(sync_client=True) as client:
        yield client


def deploy_all(server: PrefectServer, image: str | None) -> subprocess.CompletedProcess[str]:
    environment = {**server.environment, "KALEIDOSCOPE_IMAGE": image or ""}
    if image is None:
        del environment["KALEIDOSCOPE_IMAGE"]
    return subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def test_the_pool_is_made_and_made_again(client: SyncPrefectClient) -> None:
    assert ROOT / "deployments/kubernetes/base-job-template.json" == TEMPLATE
    make_kubernetes_pool(client, shards_at_once=8)
    make_kubernetes_pool(client, shards_at_once=4)
    pool = client.read_work_pool(POOL)
    assert pool.type == "kubernetes"
    assert pool.base_job_template["variables"]["required"] == ["image"]
    assert pool.concurrency_limit is None
    queues = {queue.name: queue for queue in client.read_work_queues(work_pool_name=POOL)}
    assert queues[PARENT_QUEUE].concurrency_limit is None
    assert queues[SHARD_QUEUE].concurrency_limit == 4


@pytest.mark.parametrize(
    ("make", "name", "queue_name"),
    [(make_kubernetes_pool, POOL, SHARD_QUEUE), (make_process_pools, SHARD_POOL, "default")],
)
def test_a_pool_made_again_stays_paused_and_limited_as_people_have_set_it(
    client: SyncPrefectClient, make: Callable[..., None], name: str, queue_name: str
) -> None:
    make(client, shards_at_once=3)
    made = client.read_work_pool(name)
    queue = client.read_work_queue_by_name(queue_name, work_pool_name=name)
    old = {"description": "old", "base_job_template": OLD_TEMPLATE}
    theirs = WorkPoolUpdate(is_paused=True, concurrency_limit=5, **old)
    client.update_work_pool(name, theirs)
    make(client, shards_at_once=None)
    again = client.read_work_pool(name)
    client.update_work_pool(name, WorkPoolUpdate(is_paused=False, concurrency_limit=None))
    assert (again.is_paused, again.concurrency_limit) == (True, 5)
    assert again.description == made.description
    assert again.base_job_template == made.base_job_template
    assert client.read_work_queue(queue.id).concurrency_limit == 3
    make(client, shards_at_once=0)
    assert client.read_work_queue(queue.id).concurrency_limit is None


def test_a_pool_of_another_type_is_named_with_what_to_do(client: SyncPrefectClient) -> None:
    client.create_work_pool(WorkPoolCreate(name="taken", type="docker"))
    with pytest.raises(PoolError, match="taken is of the type docker, and process is wanted"):
        make_pool(client, WorkPoolCreate(name="taken", type="process"))


def test_all_is_deployed_with_an_image_and_may_be_deployed_again(
    server: PrefectServer, client: SyncPrefectClient
) -> None:
    make_process_pools(client, shards_at_once=None)
    make_kubernetes_pool(client, shards_at_once=None)
    for _ in range(2):
        result = deploy_all(server, IMAGE)
        assert result.returncode == 0, result.stdout
    for flow_name in ("augment", "augment-shard", "preview", "maintain"):
        deployment = client.read_deployment_by_name(f"{flow_name}/kubernetes")
        assert deployment.job_variables["image"] == IMAGE
        assert not deployment.pull_steps
        assert client.read_deployment_by_name(f"{flow_name}/process").pull_steps
    for kind in ("process", "kubernetes"):
        (schedule,) = client.read_deployment_by_name(f"augment/{kind}").schedules
        assert (schedule.slug, schedule.active) == ("nightly", False)


@pytest.fixture
def mine(
    server: PrefectServer, client: SyncPrefectClient, request: pytest.FixtureRequest
) -> DeploymentScheduleCreate:
    """The only schedule of ``augment/process``, made by a person."""
    make_process_pools(client, shards_at_once=None)
    deploy(client, "process", environment=server.environment)
    deployment = client.read_deployment_by_name("augment/process")
    for schedule in deployment.schedules:
        client.delete_deployment_schedule(deployment.id, schedule.id)
    mine = DeploymentScheduleCreate(
        schedule=CronSchedule(cron="0 5 * * 1"),
        # As in prefect.yaml: Prefect changes a schedule whose slug it knows in its place.
        slug=getattr(request, "param", "nightly"),
        parameters={"source": "s3://mine/in", "destination": "s3://mine/out"},
    )
    client.create_deployment_schedules(deployment.id, [mine])
    return mine


def is_kept(client: SyncPrefectClient, mine: DeploymentScheduleCreate) -> bool:
    (kept,) = client.read_deployment_by_name("augment/process").schedules
    return kept.model_dump(include=set(type(mine).model_fields)) == mine.model_dump(
        exclude={"replaces"}
    )


@pytest.mark.parametrize("mine", ["weekly"], indirect=True)
def test_deploying_again_leaves_schedules_and_pauses_as_people_have_set_them(
    server: PrefectServer, client: SyncPrefectClient, mine: DeploymentScheduleCreate
) -> None:
    client.pause_deployment(client.read_deployment_by_name("augment/process").id)
    deploy(client, "process", environment=server.environment)
    assert is_kept(client, mine)
    assert client.read_deployment_by_name("augment/process").paused
    assert not client.read_deployment_by_name("preview/process").paused


def test_a_deploy_that_fails_half_way_loses_no_schedule(
    server: PrefectServer,
    client: SyncPrefectClient,
    mine: DeploymentScheduleCreate,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "flows").symlink_to(ROOT / "flows")
    broken = (ROOT / "prefect.yaml").read_text().replace("flows/preview.py", "flows/absent.py")
    (tmp_path / "prefect.yaml").write_text(broken)
    monkeypatch.setattr(deploying, "ROOT", tmp_path)
    with pytest.raises(subprocess.CalledProcessError):
        deploy(client, "process", environment=server.environment)
    assert is_kept(client, mine)


def test_a_deploy_that_is_interrupted_loses_no_schedule_and_touches_none_that_is_as_it_was(
    client: SyncPrefectClient,
    mine: DeploymentScheduleCreate,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (before,) = client.read_deployment_by_name("augment/process").schedules

    def interrupt(*_: object, deployed: bool, **__: object) -> None:
        if deployed:
            client.update_deployment_schedule(
                before.deployment_id or pytest.fail("it has one"), before.id, active=False
            )
        raise KeyboardInterrupt

    for deployed in (False, True):
        monkeypatch.setattr(subprocess, "run", partial(interrupt, deployed=deployed))
        with pytest.raises(KeyboardInterrupt):
            deploy(client, "process")
        assert is_kept(client, mine)
    (after,) = client.read_deployment_by_name("augment/process").schedules
    assert after.id == before.id


def test_one_command_makes_all_that_a_cluster_needs(
    server: PrefectServer, client: SyncPrefectClient, cluster: Cluster
) -> None:
    worker = {"spec": {"template": {"spec": {"containers": [{"image": IMAGE}]}}}}
    cluster.add("deployment", SYSTEM, "prefect-worker", json.dumps(worker))
    command = ["-m", "deployments.kubernetes", "up", "--parent-nodes", "role=system"]
    environment = {
        **server.environment,
        "PATH": os.environ["PATH"],
        "PREFECT_API_AUTH_STRING": "me:secret",
    }
    subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, check=True
    )
    assert client.read_work_pool(POOL).type == "kubernetes"
    (automation,) = client.read_automations_by_name(ZOMBIES)
    assert automation.enabled
    deployments = client.read_deployments()
    of_cluster = {one.id: one.job_variables for one in deployments if one.name == "kubernetes"}
    shard = of_cluster.pop(client.read_deployment_by_name(SHARD).id)
    assert "node_selector" not in shard
    assert len(of_cluster) == len(PARENTS)
    for variables in of_cluster.values():
        assert variables["node_selector"] == {"role": "system"}
        assert variables["image"] == IMAGE


def test_one_command_makes_pools_and_automation_for_processes(
    server: PrefectServer, client: SyncPrefectClient
) -> None:
    for automation in client.read_automations_by_name(ZOMBIES):
        client.delete_automation(automation.id)
    command = [sys.executable, "-m", "deployments.work_pools"]
    subprocess.run(command, cwd=ROOT, env=server.environment, check=True)
    assert client.read_automations_by_name(ZOMBIES)
    assert client.read_work_pool(PARENT_POOL).type == "process"


def test_a_node_label_has_a_name_and_a_value() -> None:
    assert read_label("kaleidoscope/role=shards") == ("kaleidoscope/role", "shards")
    with pytest.raises(argparse.ArgumentTypeError, match="name=value"):
        read_label("shards")


@pytest.mark.parametrize("image", [None, ""])
def test_without_an_image_the_error_says_what_to_set(
    server: PrefectServer, image: str | None
) -> None:
    result = deploy_all(server, image)
    assert result.returncode != 0
    assert "set KALEIDOSCOPE_IMAGE" in result.stdout
