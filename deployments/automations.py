"""The automation by which Prefect's server notices runs whose process or pod is gone.

A pod that is killed with its node cannot say so, and the worker's observer misses it if the Job
goes too. Prefect's runs send a heartbeat, which no service of the server acts on by itself.
"""

from datetime import timedelta

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

TAG = "kaleidoscope"
"""Of all deployments in prefect.yaml, and so of their runs; runs of others are left alone."""

HEARTBEAT_S = 30
"""Seconds between two heartbeats, the least that Prefect takes."""

SILENCE_S = 600
"""Seconds without one after which a run counts as dead. Where the server was away for longer, or a
laptop asleep, it takes living runs for dead ones when it is back: nobody's heartbeats arrived. Most
deaths are told by the worker within seconds, and this is for the others."""

ZOMBIES = "kaleidoscope: crash runs without a heartbeat"

MESSAGE = "No heartbeat: its process, its pod or its node is gone."


def make_automations(client: SyncPrefectClient, *, silence_s: int = SILENCE_S) -> None:
    """Make the automation, or bring it up to date; one that was switched off stays so.

    Args:
        client: Of the server.
        silence_s: Seconds without a heartbeat after which a run is Crashed, at least 10.
    """
    there = client.read_automations_by_name(ZOMBIES)
    zombies = AutomationCore(
        name=ZOMBIES,
        description="Marks runs Crashed that sent heartbeats, have not ended, and fell silent.",
        enabled=all(one.enabled for one in there[:1]),
        trigger=EventTrigger(
            posture=Posture.Proactive,
            after={"prefect.flow-run.heartbeat"},
            # Not heartbeats alone: a run that is handed back, retried or ended is not missing.
            expect={"prefect.flow-run.*"},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related={
                "prefect.resource.role": "tag",
                "prefect.resource.id": f"prefect.tag.{TAG}",
            },
            for_each={"prefect.resource.id"},
            threshold=1,
            within=timedelta(seconds=silence_s),
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message=MESSAGE)],
    )
    for one in there[:1]:
        client.update_automation(one.id, zombies)
    if not there:
        client.create_automation(zombies)
