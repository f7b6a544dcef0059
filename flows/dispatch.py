"""Runs of the shard deployment: made or found again, waited for, cancelled.

A shard is done when its part is in the store, whatever the state of its run says: a run may be
reported wrongly, start twice or outlive its parent, and nothing is lost or doubled.
"""

import itertools
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Self, cast
from uuid import UUID

import httpx
from prefect import Flow, Task
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.orchestration.routes import ServerRoutes
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterParentFlowRunId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    LogFilter,
    LogFilterFlowRunId,
    LogFilterLevel,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
    TaskRunFilterSubFlowRuns,
)
from prefect.client.schemas.objects import TERMINAL_STATES, FlowRun, State, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import LogSort
from prefect.exceptions import PrefectException, TerminationSignal
from prefect.logging import get_logger
from prefect.states import (
    AwaitingRetry,
    Cancelled,
    Cancelling,
    Completed,
    Crashed,
    Pending,
    to_state_create,
)

from kaleidoscope.errors import KaleidoscopeError, RunError

POLL_INTERVAL_S = 2.0
"""Time between two questions for all children: 400 waiters cost 4.6 requests a second."""

CHILDREN_PER_QUESTION = 200
"""Prefect's server answers with at most 200 flow runs at a time."""

RUNS_MADE_AT_ONCE = 2
"""On SQLite, Prefect's server refuses many of more that come together. Each is tried again after
seconds, so 20 took a minute, and a refusal too many is an error. On PostgreSQL more of them at
once are not made faster."""

INSPECTION_INTERVAL_S = 30.0
"""Most time between two searches for children that have stood too long in a state."""

REFUSED = "Refused"
"""Name of the failed state of a child that says that a retry cannot help."""

WORKER_LOGGERS = ("prefect.flow_runs.observer", "prefect.flow_runs.worker")
"""Of what Prefect's worker, and its observer of pods, say of a run in the run's own log."""

ACTIVE_STATES = (StateType.PENDING, StateType.RUNNING, StateType.PAUSED)
"""In which a run has a process or a pod, or may have."""

CANCELLED_STATES = (StateType.CANCELLING, StateType.CANCELLED)

logger = get_logger("kaleidoscope.dispatch")


class ShardLostError(RunError):
    """A run of a shard ended without its part; another try can help."""

    retryable = True


class ShardStoppedError(RunError):
    """A run of a shard was refused or cancelled; trying again on its own would be wrong."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a child may stand in a state.

    Prefect's worker notices pods that die, but not those that never start, nor those that went
    while it was down.
    """

    pending: timedelta
    """Until it runs: an image cannot be pulled, no node has room, a pod ended before Prefect."""
    running: timedelta
    """Until it ends: a whole machine is gone."""

    @property
    def shortest(self) -> timedelta:
        """The shorter of the two."""
        return min(self.pending, self.running)

    def why_overdue(self, run: FlowRun, *, now: datetime) -> str | None:
        """Return in words why a run is given up, None if it is not."""
        state = run.state
        if state is None or not (state.is_pending() or state.is_running()):
            return None
        limit = self.pending if state.is_pending() else self.running
        if now - state.timestamp <= limit:
            return None
        return f"{state.name} for more than {limit}"


@dataclass(frozen=True, slots=True)
class Waiter:
    """Someone who waits for a run."""

    is_done: Callable[[], bool]
    """Says whether what the run is for is there, whatever its state says."""
    state: Future[State[Any]] = field(default_factory=Future)


class ChildRuns:
    """Waits for many flow runs at once with one question to the server.

    Used as a context manager: a thread asks as long as the block runs. Leaving the block wakes
    everyone who still waits with a :class:`ShardStoppedError`.
    """

    def __init__(
        self,
        client: SyncPrefectClient,
        *,
        limits: Limits,
        poll_interval_s: float = POLL_INTERVAL_S,
    ) -> None:
        """Prepare to wait.

        Args:
            client: May be shared by threads.
            limits: A child that stands longer than this in a state is given up.
            poll_interval_s: Seconds between two questions.
        """
        self._client = client
        self._limits = limits
        self._poll_interval_s = poll_interval_s
        inspection_s = min(INSPECTION_INTERVAL_S, limits.shortest.total_seconds() / 4)
        self._polls_per_inspection = max(1, round(inspection_s / poll_interval_s))
        self._waiters: dict[UUID, Waiter] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="child-runs", daemon=True)

    def __enter__(self) -> Self:
        """Start asking."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop asking and wake who still waits."""
        self.stop()
        self._thread.join()

    def stop(self) -> None:
        """Let no run be made from now on; what goes on in the thread is not waited for."""
        self._stop.set()

    def wait(self, run_id: UUID, is_done: Callable[[], bool]) -> State[Any]:
        """Return the final state of a flow run, or Completed once ``is_done`` says so.

        A run that could not report its end, since the server was away, stands in Running for ever.

        Raises:
            ShardStoppedError: If the block is left before.
        """
        with self._lock:
            self.check()
            waiter = self._waiters.setdefault(run_id, Waiter(is_done))
        return waiter.state.result()

    def check(self) -> None:
        """Return if runs may be made.

        Raises:
            ShardStoppedError: If the block is left, or about to be.
        """
        if self._stop.is_set():
            raise ShardStoppedError("the parent flow run is ending")

    def _poll(self) -> None:
        polls = 0
        try:
            while not self._stop.wait(self._poll_interval_s):
                polls += 1
                self._ask(inspect=polls % self._polls_per_inspection == 0)
        finally:
            # Nobody may wait for a thread that has ended, whatever ended it.
            self._stop.set()
            with self._lock:
                for waiter in self._waiters.values():
                    waiter.state.set_exception(ShardStoppedError("the parent flow run is ending"))
                self._waiters.clear()

    def _ask(self, *, inspect: bool) -> None:
        try:
            self._settle()
            if inspect:
                self._settle_deleted()
                self._settle_done()
                self._give_up_overdue()
        except (httpx.HTTPError, PrefectException, KaleidoscopeError) as error:
            # The children go on without the servers' answers, so the wait does too.
            logger.warning("A server did not answer and is asked again: %s", error)

    def _settle(self) -> None:
        for run in self._read(TERMINAL_STATES):
            if run.state is not None:
                self._wake(run.id, run.state)

    def _settle_deleted(self) -> None:
        with self._lock:
            waiting = list(self._waiters)
        there = {run.id for run in self._read(list(StateType))}
        for run_id in waiting:
            if run_id not in there:
                self._wake(run_id, Crashed(message="its flow run was deleted"))

    def _settle_done(self) -> None:
        with self._lock:
            waiters = list(self._waiters.items())
        for run_id, waiter in waiters:
            # A store that is slow must not hold up the end.
            if self._stop.is_set():
                return
            if waiter.is_done():
                self._wake(run_id, Completed(message="It is done, though it has not said so."))

    def _give_up_overdue(self) -> None:
        now = datetime.now(UTC)
        for run in self._read((StateType.PENDING, StateType.RUNNING)):
            if (why := self._limits.why_overdue(run, now=now)) is None:
                continue
            message = f"{why}, given up{self._trouble_of(run)}"
            logger.warning("%s: %s", run.name, message)
            # So that its pod, if there is one, is taken away. Should it come back to life before,
            # it writes the same bytes under the same names.
            self._client.set_flow_run_state(run.id, Cancelling(message=message))
            self._wake(run.id, Crashed(message=message))

    def _trouble_of(self, run: FlowRun) -> str:
        """Return, behind a colon, what the worker last said keeps a pod from its start.

        Kubernetes alone knows, and the parent has no rights there.
        """
        if run.state is None or not run.state.is_pending():
            return ""
        logs = self._client.read_logs(
            log_filter=LogFilter(
                flow_run_id=LogFilterFlowRunId(any_=[run.id]),
                level=LogFilterLevel(ge_=logging.WARNING),
            ),
            sort=LogSort.TIMESTAMP_DESC,
        )
        return next((f": {log.message}" for log in logs if log.name in WORKER_LOGGERS), "")

    def _wake(self, run_id: UUID, state: State[Any]) -> None:
        with self._lock:
            waiter = self._waiters.pop(run_id, None)
        if waiter is not None:
            waiter.state.set_result(state)

    def _read(self, states: Sequence[StateType] | set[StateType]) -> Iterator[FlowRun]:
        with self._lock:
            waiting = list(self._waiters)
        for start in range(0, len(waiting), CHILDREN_PER_QUESTION):
            ids = waiting[start : start + CHILDREN_PER_QUESTION]
            yield from self._client.read_flow_runs(
                flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=ids), state=_in(states)),
                limit=CHILDREN_PER_QUESTION,
            )


class ShardDeployment:
    """Runs shards as runs of a deployment.

    A shard that failed goes again as the same run. One that was cancelled or given up gets
    another, since a run that is being cancelled cannot be had back at once.
    """

    def __init__(
        self,
        client: SyncPrefectClient,
        children: ChildRuns,
        *,
        deployment: str,
        parent_run_id: UUID,
        run_id: str,
    ) -> None:
        """Find the deployment.

        Args:
            client: May be shared by threads.
            children: Entered already.
            deployment: ``flow/deployment``.
            parent_run_id: The flow run that the shards belong to.
            run_id: Of the data set's run; a label of the shards' pods, with the shard's number.

        Raises:
            RunError: If there is no such deployment.
        """
        self._client = client
        self._children = children
        self._parent_run_id = parent_run_id
        self._run_id = run_id
        self._deployment = _find_deployment(client, deployment)
        self._placeholder: Task[[], None] = Task(fn=_placeholder, name=deployment)
        self._making = threading.BoundedSemaphore(RUNS_MADE_AT_ONCE)

    def run(
        self, shard: int, parameters: Mapping[str, Any], is_done: Callable[[], bool]
    ) -> State[Any]:
        """Return the final state of the shard's run, which is made if there is none.

        A run that is given up ends as Crashed for whoever waits here, whatever comes of it.

        Raises:
            ShardStoppedError: If the parent is ending; then no run is made.
        """
        for replaced in itertools.count():
            with self._making:
                self._children.check()
                child = self._attach(shard, parameters, replaced)
            if child.state is None or child.state.type not in CANCELLED_STATES:
                break
        if child.state is not None and child.state.is_final():
            # Whoever asks has seen that the part is missing, even if the run says Completed.
            self._client.set_flow_run_state(child.id, AwaitingRetry())
        return self._children.wait(child.id, is_done)

    def _attach(self, shard: int, parameters: Mapping[str, Any], replaced: int) -> FlowRun:
        """Return the shard's run after ``replaced`` others; made by whoever asks first."""
        name = f"shard-{shard:05d}"
        # With the data set's run, since a flow run that goes again may have another one to do.
        key = f"{self._run_id}:{shard}" + (f":{replaced}" if replaced else "")
        # The id of the mapped task will not do as the parent, since task runs are recorded later
        # than they start; run_deployment's own placeholder counts calls in the order of threads.
        parent = self._client.create_task_run(
            self._placeholder,
            flow_run_id=self._parent_run_id,
            dynamic_key=key,
            name=name,
            state=Pending(),
        )
        labels = {
            **self._deployment.job_variables.get("labels", {}),
            "kaleidoscope/run": self._run_id,
            "kaleidoscope/shard": f"{shard:05d}",
        }
        return self._client.create_flow_run_from_deployment(
            self._deployment.id,
            parameters=dict(parameters),
            job_variables={"labels": labels},
            name=name,
            idempotency_key=f"{self._parent_run_id}:{key}",
            parent_task_run_id=parent.id,
        )


def error_of(shard: int, state: State[Any]) -> RunError:
    """Return what to raise for a shard whose run ended in ``state`` and left no part.

    Returns:
        A :class:`ShardStoppedError` if the run was refused or cancelled, and a
        :class:`ShardLostError`, which can be retried, in every other case.
    """
    message = f"shard {shard} ended {state.name} without its part: {state.message or 'no message'}"
    if state.is_cancelled() or state.name == REFUSED:
        return ShardStoppedError(message)
    return ShardLostError(message)


def reap_tasks(client: SyncPrefectClient, parent_run_id: UUID) -> None:
    """Set the tasks that an earlier, dead try of a flow run left Running to Crashed.

    Args:
        client: The client.
        parent_run_id: The flow run, before it starts a task of its own.
    """
    left = client.read_task_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[parent_run_id])),
        task_run_filter=TaskRunFilter(
            state=TaskRunFilterState(
                type=TaskRunFilterStateType(any_=[StateType.PENDING, StateType.RUNNING])
            ),
            # Placeholders of shards follow the runs that they stand for, which may be alive.
            subflow_runs=TaskRunFilterSubFlowRuns(exists_=False),
        ),
    )
    for task_run in left:
        state: State[Any] = Crashed(message="The flow run ended before this task did.")
        client.set_task_run_state(task_run.id, state, force=True)


@contextmanager
def cancelled_with_parent(
    client: SyncPrefectClient, children: ChildRuns, parent_run_id: UUID
) -> Iterator[None]:
    """Cancel the shards of a flow run at once, when it is cancelled while the block runs.

    The hook comes ten seconds later and more: Prefect waits until the flow's process has ended,
    and loads the flow in another one. A pod that is only evicted gets the same signal, and its
    shards go on.

    Args:
        client: The client.
        children: Entered already.
        parent_run_id: The flow run, of this process.
    """
    try:
        yield
    except TerminationSignal:
        children.stop()
        try:
            parent = client.read_flow_run(parent_run_id)
            if parent.state is not None and parent.state.type in CANCELLED_STATES:
                _cancel(client, parent_run_id)
        except (httpx.HTTPError, PrefectException) as error:
            # Another error than the signal would make an evicted run a failed one.
            logger.warning("The shards could not be cancelled, which the hook does: %s", error)
        raise


def cancel_children(
    flow: Flow[..., Any],  # noqa: ARG001 -- what Prefect calls a hook with.
    flow_run: FlowRun,
    state: State[Any],  # noqa: ARG001
) -> None:
    """Cancel the runs of the shards of a flow run; a hook for the cancellation of their parent.

    It finds something to do where the parent's process was gone before, or was just making a run.
    Prefect passes a cancellation on by itself, but takes a minute on PostgreSQL and does not come
    to an end on SQLite.
    """
    with get_client(sync_client=True) as client:
        _cancel(client, flow_run.id)


def _cancel(client: SyncPrefectClient, parent_run_id: UUID) -> None:
    # Nothing would answer Cancelling for a run that only waits for its next try.
    _set_children(client, parent_run_id, [StateType.SCHEDULED], Cancelled())
    _set_children(client, parent_run_id, ACTIVE_STATES, Cancelling())


def _set_children(
    client: SyncPrefectClient, parent_id: UUID, states: Sequence[StateType], state: State[Any]
) -> None:
    """Set all children that are in some states to another, many with one request."""
    body = {
        "flow_runs": FlowRunFilter(
            parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[parent_id]),
            state=_in(states),
        ).model_dump(mode="json"),
        "state": to_state_create(state).model_dump(mode="json"),
    }
    # A route of the server that the client's list of routes lacks.
    route = cast(ServerRoutes, "/flow_runs/bulk_set_state")
    while results := client.request("POST", route, json=body).json()["results"]:
        if all(result["status"] == "ABORT" for result in results):
            return


def _in(states: Sequence[StateType] | set[StateType]) -> FlowRunFilterState:
    return FlowRunFilterState(type=FlowRunFilterStateType(any_=list(states)))


def _find_deployment(client: SyncPrefectClient, name: str) -> DeploymentResponse:
    try:
        return client.read_deployment_by_name(name)
    except (PrefectException, ValueError) as error:
        raise RunError(
            f"no deployment is called {name!r}: {error}; make it with `make deploy`, "
            "or run the shards here with execution 'local'"
        ) from error


def _placeholder() -> None:
    """Stand for a shard's run in the graph of its parent; nothing ever calls this."""
