"""A run whose process is killed without a warning is noticed by the server."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.events.filters import EventFilter, EventNameFilter, EventResourceFilter
from prefect.events.schemas.automations import EventTrigger

from deployments.automations import MESSAGE, SILENCE_S, TAG, ZOMBIES, make_automations
from deployments.work_pools import process_template
from tests.flows.waiting import wait_for
from tools.prefect_server import PrefectServer

ROOT = Path(__file__).parents[2]

SCRIPT = """
import sys
from prefect import tags
from tests.flows.toy import toy_shard
folder, name, *wanted = sys.argv[1:]
with tags(*wanted):
    for shard in (1, 0):
        toy_shard.with_options(flow_run_name=f"{name}-{shard}")(folder, shard)
"""


@contextmanager
def one_done_and_one_held(server: PrefectServer, folder: Path, *words: str) -> Iterator[None]:
    """Do a run, begin another in the same process, and kill that in the end."""
    (folder / "hold-0").touch()
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, folder, *words],
        cwd=ROOT,
        env={**server.environment, "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"},
        stdin=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()


def test_a_run_without_a_heartbeat_is_crashed_and_others_are_left_alone(
    server: PrefectServer, client: SyncPrefectClient, tmp_path: Path
) -> None:
    make_automations(client, silence_s=10)
    ours, foreign = tmp_path / "ours", tmp_path / "foreign"
    ours.mkdir()
    foreign.mkdir()
    with (
        one_done_and_one_held(server, ours, "ours", TAG),
        one_done_and_one_held(server, foreign, "foreign", "somebody"),
    ):
        wait_for(lambda: has_heartbeat(client, "ours-0") and has_heartbeat(client, "foreign-0"))
    wait_for(lambda: state_type(client, "ours-0") is StateType.CRASHED)
    state = run_called(client, "ours-0").state
    assert state is not None
    assert state.message == MESSAGE
    assert state_type(client, "ours-1") is StateType.COMPLETED
    assert state_type(client, "foreign-0") is StateType.RUNNING


def test_the_automation_is_made_and_made_again(client: SyncPrefectClient) -> None:
    make_automations(client, silence_s=10)
    make_automations(client)
    make_automations(client)
    (one,) = client.read_automations_by_name(ZOMBIES)
    assert one.enabled
    assert isinstance(one.trigger, EventTrigger)
    assert one.trigger.within == timedelta(seconds=SILENCE_S)


def test_the_automation_stays_switched_off_when_it_is_made_again(
    client: SyncPrefectClient,
) -> None:
    make_automations(client)
    (one,) = client.read_automations_by_name(ZOMBIES)
    client.pause_automation(one.id)
    make_automations(client)
    (again,) = client.read_automations_by_name(ZOMBIES)
    client.resume_automation(one.id)
    assert not again.enabled


def test_runs_of_process_pools_send_heartbeats() -> None:
    environment = process_template()["variables"]["properties"]["env"]
    assert environment["default"] == {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}


def runs_called(client: SyncPrefectClient, name: str) -> list[FlowRun]:
    wanted = FlowRunFilter(name=FlowRunFilterName(any_=[name]))
    return client.read_flow_runs(flow_run_filter=wanted)


def run_called(client: SyncPrefectClient, name: str) -> FlowRun:
    (run,) = runs_called(client, name)
    return run


def state_type(client: SyncPrefectClient, name: str) -> StateType | None:
    return run_called(client, name).state_type


def has_heartbeat(client: SyncPrefectClient, name: str) -> bool:
    if not (runs := runs_called(client, name)):
        return False
    page = client.read_events(
        filter=EventFilter(
            event=EventNameFilter(name=["prefect.flow-run.heartbeat"]),
            resource=EventResourceFilter(id=[f"prefect.flow-run.{runs[0].id}"]),
        ),
        limit=1,
    )
    return bool(page.events)
