"""The stand-in does what the tests of faults take for granted."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from kubernetes_asyncio import config
from kubernetes_asyncio.client import ApiClient, BatchV1Api, CoreV1Api, V1Job, V1Pod

from tests.cluster.conftest import wait_for
from tests.cluster.kubelet import find_processes
from tests.cluster.stand_in import StandIn

pytestmark = pytest.mark.cluster

NAMESPACE = "here"

T = TypeVar("T")


class Client:
    """What ``kubectl`` would see."""

    def __init__(self, stand_in: StandIn) -> None:
        self.stand_in = stand_in

    def ask(self, question: Callable[[ApiClient], Awaitable[T]]) -> T:
        async def ask() -> T:
            kubeconfig = str(self.stand_in.kubeconfig)
            async with await config.new_client_from_config(config_file=kubeconfig) as api:
                return await question(api)

        return asyncio.run(ask())

    def create(self, script: str, *, pod: dict[str, Any] | None = None, **spec: Any) -> str:
        """Make a Job of a shell script and return its name."""
        container = {"name": "only", "image": "any", "args": ["sh", "-c", script]}
        container |= (pod or {}).pop("container", {})
        template = {"spec": {"restartPolicy": "Never", "containers": [container], **(pod or {})}}
        body = {
            "metadata": {"generateName": "job-"},
            "spec": {"backoffLimit": 0, "template": template, **spec},
        }
        # A dict is as good as a V1Job for the client, though not for its types.
        create: Any = BatchV1Api.create_namespaced_job
        job: V1Job = self.ask(lambda api: create(BatchV1Api(api), NAMESPACE, body))
        name: str = job.metadata.name
        return name

    def job(self, name: str) -> V1Job:
        return self.ask(lambda api: BatchV1Api(api).read_namespaced_job(name, NAMESPACE))

    def jobs(self) -> list[str]:
        found = self.ask(lambda api: BatchV1Api(api).list_namespaced_job(NAMESPACE))
        return [job.metadata.name for job in found.items]

    def pods(self, job: str) -> list[V1Pod]:
        found = self.ask(
            lambda api: CoreV1Api(api).list_namespaced_pod(
                NAMESPACE, label_selector=f"job-name={job}"
            )
        )
        return list(found.items)

    def log(self, job: str) -> str:
        name = self.pods(job)[0].metadata.name
        text: str = self.ask(lambda api: CoreV1Api(api).read_namespaced_pod_log(name, NAMESPACE))
        return text

    def phases(self, job: str) -> list[str]:
        return [pod.status.phase for pod in self.pods(job)]


@pytest.fixture(scope="module")
def kubernetes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with StandIn(tmp_path_factory.mktemp("stand-in")) as stand_in:
        yield Client(stand_in)


def test_a_pod_runs_the_command_and_the_environment_of_its_manifest(kubernetes: Client) -> None:
    variables = [{"name": "GREETING", "value": "good morning"}]
    job = kubernetes.create("echo $GREETING", pod={"container": {"env": variables}})
    wait_for(lambda: kubernetes.phases(job) == ["Succeeded"])
    assert kubernetes.log(job) == "good morning\n"
    wait_for(lambda: kubernetes.job(job).status.succeeded == 1)


def test_a_failed_pod_is_tried_as_often_as_the_job_allows(kubernetes: Client) -> None:
    job = kubernetes.create("exit 3", backoffLimit=1)
    wait_for(lambda: kubernetes.job(job).status.conditions)
    assert kubernetes.phases(job) == ["Failed", "Failed"]
    assert kubernetes.job(job).status.failed == 2
    (status,) = kubernetes.pods(job)[0].status.container_statuses
    assert status.state.terminated.exit_code == 3


@pytest.mark.parametrize("reason", ["OOMKilled", "Evicted"])
def test_a_killed_pod_says_why_and_leaves_no_process(kubernetes: Client, reason: str) -> None:
    job = kubernetes.create("sleep 100 & sleep 100")
    wait_for(lambda: kubernetes.phases(job) == ["Running"])
    (pod,) = kubernetes.pods(job)
    kubernetes.stand_in.kill(NAMESPACE, pod.metadata.name, reason)
    wait_for(lambda: kubernetes.job(job).status.failed == 1)
    (status,) = kubernetes.pods(job)[0].status.container_statuses
    assert (status.state.terminated.exit_code, status.state.terminated.reason) == (137, reason)
    assert not list(find_processes(pod.metadata.uid))


def test_a_deleted_pod_may_clean_up_before_it_goes(kubernetes: Client, tmp_path: Path) -> None:
    job = kubernetes.create(f"trap 'touch {tmp_path}/clean; exit 0' TERM; sleep 100 & wait")
    wait_for(lambda: kubernetes.phases(job) == ["Running"])
    (pod,) = kubernetes.pods(job)
    kubernetes.ask(lambda api: CoreV1Api(api).delete_namespaced_pod(pod.metadata.name, NAMESPACE))
    wait_for(lambda: not kubernetes.pods(job))
    assert (tmp_path / "clean").exists()
    assert not list(find_processes(pod.metadata.uid))


def test_a_deleted_job_takes_a_pod_with_it_that_will_not_go(kubernetes: Client) -> None:
    job = kubernetes.create("trap '' TERM; while :; do sleep 1; done")
    wait_for(lambda: kubernetes.phases(job) == ["Running"])
    (pod,) = kubernetes.pods(job)
    kubernetes.ask(
        lambda api: BatchV1Api(api).delete_namespaced_job(
            job, NAMESPACE, grace_period_seconds=1, propagation_policy="Foreground"
        )
    )
    wait_for(lambda: job not in kubernetes.jobs())
    assert not kubernetes.pods(job)
    assert not list(find_processes(pod.metadata.uid))


@pytest.mark.parametrize(
    "pod",
    [{"container": {"image": "registry.invalid/none:1"}}, {"nodeSelector": {"nowhere": "true"}}],
)
def test_a_pod_without_an_image_or_a_node_waits_until_the_deadline(
    kubernetes: Client, pod: dict[str, Any]
) -> None:
    job = kubernetes.create("true", pod=pod, activeDeadlineSeconds=1)
    wait_for(lambda: kubernetes.phases(job) == ["Pending"])
    wait_for(lambda: kubernetes.job(job).status.conditions)
    assert kubernetes.job(job).status.conditions[0].reason == "DeadlineExceeded"


def test_a_job_that_is_done_is_removed_in_its_time(kubernetes: Client) -> None:
    job = kubernetes.create("true", ttlSecondsAfterFinished=0)
    wait_for(lambda: job not in kubernetes.jobs())
    wait_for(lambda: not kubernetes.pods(job))
