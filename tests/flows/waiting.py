"""What tests of flows wait for, and whose runs they look at."""

import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId
from prefect.client.schemas.objects import FlowRun

DEADLINE_S = 240.0


def wait_for(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        time.sleep(0.1)


def children_of(client: SyncPrefectClient, parent_run_id: UUID) -> list[FlowRun]:
    parents = FlowRunFilterParentFlowRunId(any_=[parent_run_id])
    return client.read_flow_runs(flow_run_filter=FlowRunFilter(parent_flow_run_id=parents))
