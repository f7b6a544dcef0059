"""Dispatch against a real server and a real worker."""

import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast
from uuid import UUID, uuid4

import httpx
import pytest
from prefect import flow, task
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentUpdate, LogCreate
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import TerminationSignal
from prefect.states import Cancelling, Completed, Paused, Pending, Running, Scheduled

from flows.dispatch import (
    REFUSED,
    RUNS_MADE_AT_ONCE,
    ChildRuns,
    Limits,
    ShardDeployment,
    ShardLostError,
    ShardStoppedError,
    cancel_children,
    cancelled_with_parent,
    error_of,
    reap_tasks,
)
from kaleidoscope.errors import RunError
from tests.flows import toy
from tests.flows.waiting import DEADLINE_S, children_of, wait_for

HOUR = timedelta(hours=1)
PATIENT = Limits(pending=HOUR, running=HOUR)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


# A run of a deployment takes 10 s on an idle machine and a minute on a busy one.
pytestmark = pytest.mark.timeout(600)


@flow(name="toy-parent")
def toy_parent() -> None:
    """Only its runs are used, as parents."""


@task(name="toy-task")
def toy_task() -> None:
    """Only its runs are used."""


@pytest.fixture
def parent_run_id(client: SyncPrefectClient) -> UUID:
    return client.create_flow_run(toy_parent).id


class Shards:
    """The toy shards of one parent."""

    def __init__(
        self, client: SyncPrefectClient, deployment: str, parent_run_id: UUID, folder: Path
    ) -> None:
        self.client = client
        self.deployment = deployment
        self.parent_run_id = parent_run_id
        self.folder = folder

    def is_done(self, shard: int) -> bool:
        return (self.folder / f"part-{shard}").exists()

    def tries(self, shard: int) -> int:
        file = self.folder / f"tries-{shard}"
        return len(file.read_text().splitlines()) if file.exists() else 0

    def run(self, *shards: int, run_id: str = "a-run") -> None:
        """Run shards at the same time and raise what the first that is not done says."""
        parameters = [{"folder": str(self.folder), "shard": shard} for shard in shards]
        with (
            ChildRuns(self.client, limits=PATIENT, poll_interval_s=0.1) as children,
            ThreadPoolExecutor(len(shards)) as threads,
        ):
            deployment = ShardDeployment(
                self.client,
                children,
                deployment=self.deployment,
                parent_run_id=self.parent_run_id,
                run_id=run_id,
            )
            done = [partial(self.is_done, shard) for shard in shards]
            states = list(threads.map(deployment.run, shards, parameters, done))
        for shard, state in zip(shards, states, strict=True):
            if not self.is_done(shard):
                raise error_of(shard, state)

    def children(self) -> list[FlowRun]:
        return children_of(self.client, self.parent_run_id)


@pytest.fixture
def shards(
    client: SyncPrefectClient, toy_deployment: str, parent_run_id: UUID, tmp_path: Path
) -> Shards:
    return Shards(client, toy_deployment, parent_run_id, tmp_path)


def test_shards_run_as_runs_of_the_deployment_below_their_parent(shards: Shards) -> None:
    shards.run(0, 1)
    assert shards.is_done(0)
    assert shards.is_done(1)
    assert sorted(child.name for child in shards.children()) == ["shard-00000", "shard-00001"]


def test_a_shard_that_failed_goes_again_as_the_same_run(shards: Shards) -> None:
    (shards.folder / "fail-3").touch()
    with pytest.raises(ShardLostError, match="as the test wanted"):
        shards.run(3)
    shards.run(3)
    assert shards.tries(3) == 2
    (child,) = shards.children()
    assert child.run_count == 2


def test_a_shard_that_was_killed_is_lost_and_can_be_run_again(shards: Shards) -> None:
    (shards.folder / "die-0").touch()
    with pytest.raises(ShardLostError, match="Crashed"):
        shards.run(0)
    # Worker and runner both report the death, and the second report may hit the next try.
    for _ in range(3):
        with suppress(ShardLostError):
            shards.run(0)
            break
    assert shards.is_done(0)
    assert len(shards.children()) == 1


def test_a_run_that_says_completed_goes_again_if_its_part_is_missing(shards: Shards) -> None:
    shards.run(0)
    (shards.folder / "part-0").unlink()
    shards.run(0)
    assert shards.tries(0) == 2
    assert shards.is_done(0)


def test_a_parent_that_has_another_run_to_do_gets_shards_of_its_own(
    shards: Shards, tmp_path: Path
) -> None:
    shards.run(0)
    (tmp_path / "other").mkdir()
    other = Shards(shards.client, shards.deployment, shards.parent_run_id, tmp_path / "other")
    other.run(0, run_id="another-run")
    assert other.is_done(0)
    assert len(shards.children()) == 2


def test_the_toy_refuses_as_the_shard_does() -> None:
    assert toy.REFUSED == REFUSED


def test_a_refused_shard_is_not_worth_another_try(shards: Shards) -> None:
    (shards.folder / "refuse-0").touch()
    with pytest.raises(ShardStoppedError, match="no retry will help"):
        shards.run(0)


def test_cancelling_the_parent_cancels_running_and_waiting_shards(
    shards: Shards, client: SyncPrefectClient
) -> None:
    (shards.folder / "hold-0").touch()
    with ThreadPoolExecutor(1) as thread:
        # Prefect's settings live in the context, and this server's address among them.
        running = thread.submit(copy_context().run, shards.run, 0, 1)
        wait_for(lambda: shards.tries(0) == 1)
        cancel_children(toy_parent, client.read_flow_run(shards.parent_run_id), Cancelling())
        with pytest.raises(ShardStoppedError, match="Cancel"):
            running.result(DEADLINE_S)
    assert not shards.is_done(0)


@pytest.mark.parametrize(
    ("parent", "child"),
    [(Cancelling(), StateType.CANCELLING), (Running(), StateType.PENDING)],
)
def test_a_parent_that_has_to_go_cancels_its_shards_only_if_it_is_cancelled(
    shards: Shards, client: SyncPrefectClient, parent: State[Any], child: StateType
) -> None:
    # Of no deployment, since a pending run would hold a place in its queue for ever.
    stand_in = client.create_task_run(toy_task, shards.parent_run_id, dynamic_key="0")
    run = client.create_flow_run(toy_parent, parent_task_run_id=stand_in.id, state=Pending())
    client.set_flow_run_state(shards.parent_run_id, parent, force=True)
    with (
        pytest.raises(TerminationSignal),
        ChildRuns(client, limits=PATIENT) as children,
        cancelled_with_parent(client, children, shards.parent_run_id),
    ):
        raise TerminationSignal(signal.SIGTERM)
    assert client.read_flow_run(run.id).state_type == child


class _Away:
    """A client whose server is away."""

    def read_flow_run(self, run_id: UUID) -> FlowRun:
        raise httpx.ConnectError(f"no answer about {run_id}")


def test_a_parent_that_is_evicted_while_the_server_is_away_is_still_handed_back(
    client: SyncPrefectClient,
) -> None:
    away = cast("SyncPrefectClient", _Away())
    with (
        pytest.raises(TerminationSignal),
        ChildRuns(client, limits=PATIENT) as children,
        cancelled_with_parent(away, children, uuid4()),
    ):
        raise TerminationSignal(signal.SIGTERM)


@pytest.mark.parametrize(
    ("state", "minutes", "why"),
    [
        (Pending(), 6, "Pending for more than 0:05:00"),
        (Pending(), 5, None),
        (Running(), 6, None),
        (Running(), 61, "Running for more than 1:00:00"),
        (Scheduled(), 100, None),
        (Completed(), 100, None),
    ],
)
def test_runs_are_given_up_when_they_wait_or_run_too_long(
    state: State[Any], minutes: int, why: str | None
) -> None:
    limits = Limits(pending=timedelta(minutes=5), running=HOUR)
    state.timestamp = NOW - timedelta(minutes=minutes)
    assert limits.why_overdue(FlowRun(flow_id=uuid4(), state=state), now=NOW) == why


def test_a_shard_that_stands_still_is_cancelled_and_taken_for_dead(
    shards: Shards, client: SyncPrefectClient
) -> None:
    run = make_run(client, shards)
    client.set_flow_run_state(run.id, Running(), force=True)
    at_once = Limits(pending=HOUR, running=timedelta(0))
    with ChildRuns(client, limits=at_once, poll_interval_s=0.01) as runs:
        assert runs.wait(run.id, never).is_crashed()
    assert client.read_flow_run(run.id).state_type == StateType.CANCELLING


def test_a_shard_whose_run_was_deleted_is_lost(shards: Shards, client: SyncPrefectClient) -> None:
    deleted, there = make_run(client, shards), make_run(client, shards)
    client.delete_flow_run(deleted.id)
    often = Limits(pending=HOUR, running=timedelta(milliseconds=1))
    with (
        ChildRuns(client, limits=often, poll_interval_s=0.01) as runs,
        ThreadPoolExecutor(1) as thread,
    ):
        other = thread.submit(runs.wait, there.id, never)
        state = runs.wait(deleted.id, never)
        assert state.is_crashed()
        assert state.message == "its flow run was deleted"
        assert not other.done()
        client.set_flow_run_state(there.id, Completed(), force=True)
        assert other.result(DEADLINE_S).is_completed()


def test_a_shard_that_never_starts_is_given_up_with_what_the_worker_said_of_its_pod(
    shards: Shards, client: SyncPrefectClient
) -> None:
    run = make_run(client, shards)
    client.set_flow_run_state(run.id, Pending(), force=True)
    said = [
        ("worker", 20, "Creating Kubernetes job"),
        ("observer", 30, "Pod is unschedulable: 1 Insufficient cpu"),
        ("an earlier try", 40, "Boom"),
    ]
    client.create_logs(
        LogCreate(
            name=f"prefect.flow_runs.{name}",
            level=level,
            message=text,
            timestamp=datetime.now(UTC),
            flow_run_id=run.id,
        )
        for name, level, text in said
    )
    at_once = Limits(pending=timedelta(0), running=HOUR)
    with ChildRuns(client, limits=at_once, poll_interval_s=0.01) as runs:
        state = runs.wait(run.id, never)
    assert state.message == (
        "Pending for more than 0:00:00, given up: Pod is unschedulable: 1 Insufficient cpu"
    )


def test_a_shard_that_is_done_is_not_waited_for_though_its_run_says_running(
    shards: Shards, client: SyncPrefectClient
) -> None:
    run = make_run(client, shards)
    client.set_flow_run_state(run.id, Running(), force=True)
    answers = iter([False, False, True])
    # The shorter limit says how often it is looked.
    limits = Limits(pending=timedelta(milliseconds=40), running=HOUR)
    with ChildRuns(client, limits=limits, poll_interval_s=0.01) as runs:
        assert runs.wait(run.id, lambda: next(answers)).is_completed()
    assert client.read_flow_run(run.id).state_type == StateType.RUNNING


def test_a_shard_whose_run_was_cancelled_gets_another_run(
    shards: Shards, client: SyncPrefectClient
) -> None:
    (shards.folder / "fail-0").touch()
    with pytest.raises(ShardLostError):
        shards.run(0)
    (failed,) = shards.children()
    client.set_flow_run_state(failed.id, Cancelling(), force=True)
    shards.run(0)
    assert shards.is_done(0)
    assert len(shards.children()) == 2


def test_leaving_wakes_who_still_waits(shards: Shards, client: SyncPrefectClient) -> None:
    run = make_run(client, shards)
    with ThreadPoolExecutor(1) as thread:
        with ChildRuns(client, limits=PATIENT, poll_interval_s=0.01) as runs:
            waiting = thread.submit(runs.wait, run.id, never)
            wait_for(waiting.running)
        with pytest.raises(ShardStoppedError, match="ending"):
            waiting.result(DEADLINE_S)
        with pytest.raises(ShardStoppedError, match="ending"):
            runs.wait(run.id, never)


def test_a_parent_that_is_ending_makes_no_more_runs(
    shards: Shards, client: SyncPrefectClient
) -> None:
    with ChildRuns(client, limits=PATIENT) as runs:
        deployment = ShardDeployment(
            client,
            runs,
            deployment=shards.deployment,
            parent_run_id=shards.parent_run_id,
            run_id="a-run",
        )
    with pytest.raises(ShardStoppedError, match="ending"):
        deployment.run(0, {"folder": str(shards.folder), "shard": 0}, never)
    assert not shards.children()


def test_a_pod_is_labelled_with_its_run_and_its_shard(
    shards: Shards, client: SyncPrefectClient
) -> None:
    own = DeploymentUpdate(job_variables={"labels": {"team": "vision"}})
    client.update_deployment(client.read_deployment_by_name(shards.deployment).id, own)
    shards.run(7)
    (child,) = shards.children()
    assert child.job_variables == {
        "labels": {"team": "vision", "kaleidoscope/run": "a-run", "kaleidoscope/shard": "00007"}
    }


def test_few_runs_are_made_at_once(
    shards: Shards, client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    places, made = threading.Semaphore(RUNS_MADE_AT_ONCE), list[FlowRun]()
    all_in = threading.Barrier(RUNS_MADE_AT_ONCE)

    def make(*_: object, **__: object) -> FlowRun:
        assert places.acquire(blocking=False), "too many at once"
        all_in.wait(DEADLINE_S)
        made.append(make_run(client, shards))
        places.release()
        return made[-1]

    monkeypatch.setattr(client, "create_flow_run_from_deployment", make)
    shards_at_once = 3 * RUNS_MADE_AT_ONCE
    with ThreadPoolExecutor(shards_at_once) as threads, ChildRuns(client, limits=PATIENT) as runs:
        deployment = ShardDeployment(
            client,
            runs,
            deployment=shards.deployment,
            parent_run_id=shards.parent_run_id,
            run_id="a-run",
        )
        waiting = [threads.submit(deployment.run, n, {}, never) for n in range(shards_at_once)]
        wait_for(lambda: len(made) == shards_at_once or any(one.done() for one in waiting))
    for one in waiting:
        with pytest.raises(ShardStoppedError, match="ending"):
            one.result(DEADLINE_S)


def test_waiting_outlasts_a_server_that_does_not_answer(
    shards: Shards, client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(client, shards)
    client.set_flow_run_state(run.id, Completed(), force=True)
    ask, failures = client.read_flow_runs, [httpx.ConnectError("down"), httpx.ReadTimeout("busy")]

    def answer_at_last(*args: Any, **kwargs: Any) -> list[FlowRun]:
        if failures:
            raise failures.pop()
        return ask(*args, **kwargs)

    monkeypatch.setattr(client, "read_flow_runs", answer_at_last)
    with ChildRuns(client, limits=PATIENT, poll_interval_s=0.01) as runs:
        assert runs.wait(run.id, never).is_completed()
    assert not failures


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_nobody_waits_for_a_poller_that_has_died(
    shards: Shards, client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(client, shards)

    def fall_over(**_: object) -> list[FlowRun]:
        raise ZeroDivisionError

    monkeypatch.setattr(client, "read_flow_runs", fall_over)
    with (
        ChildRuns(client, limits=PATIENT, poll_interval_s=0.01) as runs,
        pytest.raises(ShardStoppedError),
    ):
        runs.wait(run.id, never)


def test_a_deployment_that_is_not_there_is_named(
    client: SyncPrefectClient, parent_run_id: UUID
) -> None:
    with (
        ChildRuns(client, limits=PATIENT) as children,
        pytest.raises(RunError, match=r"'augment-shard/nowhere'.*make deploy"),
    ):
        ShardDeployment(
            client,
            children,
            deployment="augment-shard/nowhere",
            parent_run_id=parent_run_id,
            run_id="a-run",
        )


def test_tasks_that_a_dead_parent_left_running_are_reaped_and_placeholders_are_not(
    shards: Shards, client: SyncPrefectClient
) -> None:
    parent = shards.parent_run_id
    left = client.create_task_run(toy_task, parent, dynamic_key="0", state=Running())
    follower = client.create_task_run(toy_task, parent, dynamic_key="1", state=Running())
    client.create_flow_run_from_deployment(
        client.read_deployment_by_name(shards.deployment).id,
        parameters={"folder": str(shards.folder), "shard": 0},
        parent_task_run_id=follower.id,
        state=Paused(),
    )
    reap_tasks(client, parent)
    assert client.read_task_run(left.id).state_type == StateType.CRASHED
    assert client.read_task_run(follower.id).state_type != StateType.CRASHED


def never() -> bool:
    return False


def make_run(client: SyncPrefectClient, shards: Shards) -> FlowRun:
    """Make a run that no worker ever sees."""
    return client.create_flow_run(toy_parent, name=str(shards.folder))
