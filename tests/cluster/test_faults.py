"""Runs of a whole cluster, disturbed: the outputs must be those of an undisturbed run."""

import time
from uuid import UUID

import pytest
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import AwaitingRetry, Cancelling

from tests.cluster.cluster import Cluster
from tests.cluster.conftest import Augmentation, Worker, is_final, wait_for
from tests.cluster.proxy import Proxy

pytestmark = pytest.mark.cluster

OUTAGE_S = 20.0
"""How long Prefect's server is away; a child that ends meanwhile cannot say so."""


@pytest.fixture(autouse=True)
def running_worker(worker: Worker) -> Worker:
    return worker


def test_six_shards_run_as_six_pods_three_at_a_time(
    augmentation: Augmentation, expected: dict[str, str]
) -> None:
    run_id = augmentation.start(shard_minutes=0.0001, replicas=3)
    most = 0

    def is_done() -> bool:
        nonlocal most
        most = max(most, len(augmentation.children(run_id, StateType.RUNNING, StateType.PENDING)))
        return is_final(augmentation.run(run_id))

    wait_for(is_done)
    assert augmentation.outputs() == expected
    assert len(augmentation.children(run_id, StateType.COMPLETED)) == 6
    assert 1 < most <= 3


def test_a_deleted_pod_hands_its_shard_to_another(
    augmentation: Augmentation, cluster: Cluster, expected: dict[str, str]
) -> None:
    run_id = augmentation.start()
    child = wait_for_shard_in_the_middle(augmentation, run_id)
    delete_pods(cluster, child)
    assert augmentation.finish(run_id) == "Completed"
    assert augmentation.outputs() == expected
    assert augmentation.run(child.id).run_count == 2


def test_a_shard_that_ran_out_of_memory_is_tried_again(
    augmentation: Augmentation, cluster: Cluster, expected: dict[str, str]
) -> None:
    run_id = augmentation.start()
    child = wait_for_shard_in_the_middle(augmentation, run_id)
    for pod in cluster.pods(of=str(child.id)):
        cluster.use_up_memory(pod.name)
    assert augmentation.finish(run_id) == "Completed"
    assert augmentation.outputs() == expected
    assert augmentation.run(child.id).run_count == 2


def test_a_shard_whose_image_cannot_be_pulled_is_given_up_and_done_by_another_run(
    augmentation: Augmentation, cluster: Cluster, expected: dict[str, str]
) -> None:
    augmentation.hold_shards(hold=True)
    run_id = augmentation.start(pending_limit_s=10.0)
    wait_for(lambda: len(augmentation.children(run_id)) == 3)
    stuck = augmentation.children(run_id)[0]
    set_job_variables(augmentation, stuck, image="registry.invalid/kaleidoscope:none")
    augmentation.hold_shards(hold=False)
    assert augmentation.finish(run_id) == "Completed"
    assert augmentation.outputs() == expected
    assert len(augmentation.children(run_id)) > 3
    assert "made good: shard" in augmentation.report(run_id)
    assert "Pending for more than 0:00:10" in augmentation.report(run_id)
    wait_for(lambda: not any(pod.is_active for pod in cluster.pods(of=str(stuck.id))))


def test_a_pod_that_vanishes_while_the_worker_is_down_is_missed(
    augmentation: Augmentation, cluster: Cluster, worker: Worker, expected: dict[str, str]
) -> None:
    run_id = augmentation.start(shard_time_limit_s=20.0)
    child = wait_for_shard_in_the_middle(augmentation, run_id)
    worker.kill()
    cluster.vanish(str(child.id))
    worker.start()
    assert augmentation.finish(run_id) == "Completed"
    assert augmentation.outputs() == expected


def test_a_killed_parent_takes_up_its_shards_when_it_is_run_again(
    augmentation: Augmentation, cluster: Cluster, expected: dict[str, str]
) -> None:
    run_id = augmentation.start(shard_minutes=0.0001)
    wait_for(lambda: augmentation.num_parts() > 0)
    cluster.vanish(str(run_id))
    assert augmentation.finish(run_id) == "Crashed"
    augmentation.client.set_flow_run_state(run_id, AwaitingRetry())
    assert augmentation.finish(run_id) == "Completed"
    assert augmentation.outputs() == expected
    assert len(augmentation.children(run_id)) == 6


def test_a_run_outlasts_prefects_server(
    augmentation: Augmentation, api: Proxy, expected: dict[str, str]
) -> None:
    run_id = augmentation.start()
    wait_for_shard_in_the_middle(augmentation, run_id)
    api.cut()
    time.sleep(OUTAGE_S)
    api.mend()
    assert augmentation.finish(run_id) == "Completed"
    assert augmentation.outputs() == expected


def test_cancelling_a_run_ends_all_pods_and_a_new_run_does_the_rest(
    augmentation: Augmentation, cluster: Cluster, expected: dict[str, str]
) -> None:
    run_id = augmentation.start(shard_minutes=0.0001)
    wait_for(lambda: augmentation.num_parts() > 0)
    augmentation.client.set_flow_run_state(run_id, Cancelling())
    runs = [run_id, *(child.id for child in augmentation.children(run_id))]
    wait_for(
        lambda: not any(pod.is_active for run in runs for pod in cluster.pods(of=str(run))),
        deadline_s=30,
    )
    assert augmentation.finish(run_id) == "Cancelled"
    wait_for(lambda: all(is_final(child) for child in augmentation.children(run_id)))
    again = augmentation.start(shard_minutes=0.0001)
    assert augmentation.finish(again) == "Completed"
    assert augmentation.outputs() == expected
    assert len(augmentation.children(again)) < 6


def test_two_runs_at_once_on_one_destination_make_what_one_makes(
    augmentation: Augmentation, expected: dict[str, str]
) -> None:
    runs = [augmentation.start(), augmentation.start()]
    assert [augmentation.finish(run_id) for run_id in runs] == ["Completed", "Completed"]
    assert augmentation.outputs() == expected


def wait_for_shard_in_the_middle(augmentation: Augmentation, run_id: UUID) -> FlowRun:
    """Return the run of a shard that makes images and has not made its part."""
    found: list[FlowRun] = []

    def find() -> bool:
        found[:] = augmentation.children(run_id, StateType.RUNNING)
        return bool(found)

    wait_for(find)
    return found[0]


def delete_pods(cluster: Cluster, run: FlowRun) -> None:
    for pod in cluster.pods(of=str(run.id)):
        cluster.delete_pod(pod.name)


def set_job_variables(augmentation: Augmentation, run: FlowRun, **variables: str) -> None:
    """Change the pod of a run that no worker has taken up."""
    augmentation.client.request(
        "PATCH",
        "/flow_runs/{id}",
        path_params={"id": run.id},
        json={"job_variables": {**(run.job_variables or {}), **variables}},
    )
