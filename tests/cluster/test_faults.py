"""Runs of a whole cluster, disturbed: the outputs must be those of an undisturbed run."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import AwaitingRetry, Cancelling

from tests.cluster.cluster import Cluster
from tests.cluster.conftest import Augmentation, Worker, is_final, wait_for
from tests.cluster.proxy import Proxy

# Each condition has a deadline of its own; nodes may have to fetch the image first.
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

SLOW_S = 0.3
"""For each piece of data between shards and S3, while a shard has to be caught in the middle."""

STALLED_S = 5.0
"""The same, until the last of many pods is there; less than what clients wait for an answer."""

NUM_PODS = 20
"""Of shards, in the run that is cancelled."""

CANCELLED_S = 30.0
"""Seconds after which a run that is cancelled has no pod, if each has a core."""

BUSY_S = 60.0
"""What it may take longer where 21 pods, Prefect's server and S3 have two cores between them."""

OUTAGE_S = 30.0
"""How long Prefect's server is away; a child that ends meanwhile cannot say so."""


@pytest.fixture(autouse=True)
def undisturbed(worker: Worker, augmentation: Augmentation, storage: Proxy) -> Iterator[Worker]:
    """A worker that runs; what a test that failed has left disturbed is mended."""
    yield worker
    storage.delay_s = 0
    augmentation.hold_shards(hold=False)


def test_six_shards_run_as_six_pods_three_at_a_time(
    augmentation: Augmentation, cluster: Cluster, expected: dict[str, str]
) -> None:
    run_id = augmentation.start(shard_minutes=0.0001, replicas=3)
    most = 0

    def is_done() -> bool:
        nonlocal most
        most = max(most, len(augmentation.children(run_id, StateType.RUNNING, StateType.PENDING)))
        return is_final(augmentation.run(run_id))

    wait_for(is_done)
    assert augmentation.outputs() == expected
    children = augmentation.children(run_id, StateType.COMPLETED)
    assert len(children) == 6
    assert 1 < most <= 3
    pods = [pod for child in children for pod in cluster.pods(of=str(child.id))]
    shards = sorted(pod.labels["kaleidoscope/shard"] for pod in pods)
    assert shards == [f"{shard:05d}" for shard in range(6)]
    assert len({pod.labels["kaleidoscope/run"] for pod in pods}) == 1


def test_shards_whose_pods_are_deleted_or_run_out_of_memory_are_done_by_other_pods(
    augmentation: Augmentation, cluster: Cluster, storage: Proxy, expected: dict[str, str]
) -> None:
    run_id = augmentation.start(replicas=3)
    with shards_in_the_middle(augmentation, storage, run_id, number=2) as (deleted, greedy):
        for pod in cluster.pods(of=str(deleted.id)):
            cluster.delete_pod(pod.name)
        for pod in cluster.pods(of=str(greedy.id)):
            cluster.use_up_memory(pod.name)
    assert augmentation.finish(run_id) == "Completed"
    assert augmentation.outputs() == expected
    assert augmentation.run(greedy.id).run_count == 2
    # Before 1.22, a Job replaces a pod that was deleted, beside the run that Prefect starts again.
    run_count = augmentation.run(deleted.id).run_count
    assert run_count == 2 or (cluster.is_real and run_count > 2)


def test_a_shard_whose_image_cannot_be_pulled_is_given_up_and_done_by_another_run(
    augmentation: Augmentation, cluster: Cluster, expected: dict[str, str]
) -> None:
    augmentation.hold_shards(hold=True)
    run_id = augmentation.start(pending_limit_s=10.0)
    wait_for(lambda: len(augmentation.children(run_id)) == 2)
    stuck = augmentation.children(run_id)[0]
    set_job_variables(augmentation, stuck, image="registry.invalid/kaleidoscope:none")
    augmentation.hold_shards(hold=False)
    assert augmentation.finish(run_id) == "Completed"
    assert augmentation.outputs() == expected
    assert len(augmentation.children(run_id)) > 2
    report = augmentation.report(run_id)
    assert "### Made good" in report
    assert "\n- shard" in report
    assert "Pending for more than 0:00:10, given up: Image pull failed" in report
    wait_for(lambda: not any(pod.is_active for pod in cluster.pods(of=str(stuck.id))))


def test_a_pod_that_vanishes_while_the_worker_is_down_is_missed(
    *,
    augmentation: Augmentation,
    cluster: Cluster,
    storage: Proxy,
    worker: Worker,
    expected: dict[str, str],
) -> None:
    run_id = augmentation.start(shard_minutes=0.1, shard_time_limit_s=12.0)
    with shards_in_the_middle(augmentation, storage, run_id) as (child,):
        worker.kill()
        cluster.vanish(str(child.id))
    worker.start()
    assert augmentation.finish(run_id) == "Completed"
    assert augmentation.outputs() == expected


def test_a_killed_parent_takes_up_its_shards_when_it_is_run_again(
    augmentation: Augmentation, cluster: Cluster, expected: dict[str, str]
) -> None:
    run_id = augmentation.start(shard_minutes=0.0001, replicas=3)
    wait_for(lambda: augmentation.num_parts() > 0)
    cluster.vanish(str(run_id))
    ended = augmentation.finish(run_id)
    # A real node ends the processes of a pod that is gone with a signal, so it hands itself back.
    assert ended == "Crashed" or (cluster.is_real and ended == "Completed")
    if ended == "Crashed":
        augmentation.client.set_flow_run_state(run_id, AwaitingRetry())
    assert augmentation.finish(run_id) == "Completed"
    assert augmentation.run(run_id).run_count == 2
    assert augmentation.outputs() == expected
    assert len(augmentation.children(run_id)) == 6


def test_a_run_outlasts_prefects_server(
    augmentation: Augmentation, api: Proxy, storage: Proxy, expected: dict[str, str]
) -> None:
    run_id = augmentation.start()
    with shards_in_the_middle(augmentation, storage, run_id):
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
    runs = [str(run_id), *(str(child.id) for child in augmentation.children(run_id))]
    wait_for_no_pods(cluster, runs)
    assert augmentation.finish(run_id) == "Cancelled"
    wait_for(lambda: all(is_final(child) for child in augmentation.children(run_id)))
    again = augmentation.start(shard_minutes=0.0001)
    assert augmentation.finish(again) == "Completed"
    assert augmentation.outputs() == expected
    assert len(augmentation.children(again)) < 6


def test_cancelling_a_run_of_twenty_pods_leaves_none(
    augmentation: Augmentation, cluster: Cluster, storage: Proxy
) -> None:
    # Processes of this machine are too heavy for twenty; there, most wait for a node in vain.
    num_waiting = 0 if cluster.is_real else NUM_PODS - 4
    augmentation.add_photos(NUM_PODS)
    augmentation.hold_shards(hold=True)
    run_id = augmentation.start(replicas=NUM_PODS, shard_minutes=0.0001)
    wait_for(lambda: len(augmentation.children(run_id)) == NUM_PODS)
    children = augmentation.children(run_id)
    for child in children[:num_waiting]:
        set_job_variables(augmentation, child, node_selector={"kaleidoscope/nowhere": "true"})
    storage.delay_s = STALLED_S
    augmentation.hold_shards(hold=False)
    wait_for(
        lambda: len(augmentation.children(run_id, StateType.RUNNING)) == NUM_PODS - num_waiting
    )
    runs = [str(run_id), *(str(child.id) for child in children)]
    wait_for(lambda: len(cluster.active_pods(of=runs)) == NUM_PODS + 1)
    augmentation.client.set_flow_run_state(run_id, Cancelling())
    # Shards are far from their end all the same, and the parent can give up its lease in time.
    storage.delay_s = SLOW_S
    wait_for_no_pods(cluster, runs)
    storage.delay_s = 0
    wait_for(lambda: all(is_final(child) for child in augmentation.children(run_id)))
    assert augmentation.finish(run_id) == "Cancelled"


def test_two_runs_at_once_on_one_destination_make_what_one_makes(
    augmentation: Augmentation, expected: dict[str, str]
) -> None:
    runs = [augmentation.start(), augmentation.start()]
    assert [augmentation.finish(run_id) for run_id in runs] == ["Completed", "Completed"]
    assert augmentation.outputs() == expected


@contextmanager
def shards_in_the_middle(
    augmentation: Augmentation, storage: Proxy, run_id: UUID, *, number: int = 1
) -> Iterator[list[FlowRun]]:
    """Yield runs of shards that are at work, and will be for as long as the block takes."""
    found: list[FlowRun] = []

    def find() -> bool:
        found[:] = augmentation.children(run_id, StateType.RUNNING)
        return len(found) >= number

    wait_for(lambda: augmentation.children(run_id))
    storage.delay_s = SLOW_S
    try:
        wait_for(find)
        yield found[:number]
    finally:
        storage.delay_s = 0


def wait_for_no_pods(cluster: Cluster, runs: list[str]) -> None:
    took_s = wait_for(lambda: not cluster.active_pods(of=runs), deadline_s=CANCELLED_S + BUSY_S)
    print(f"no pod was left after {took_s:.1f} s")  # noqa: T201 - shown by pytest -rP.


def set_job_variables(augmentation: Augmentation, run: FlowRun, **variables: Any) -> None:
    """Change the pod of a run that no worker has taken up."""
    augmentation.client.request(
        "PATCH",
        "/flow_runs/{id}",
        path_params={"id": run.id},
        json={"job_variables": {**(run.job_variables or {}), **variables}},
    )
