"""The work pool that runs flows as Jobs of Kubernetes."""

import json
from pathlib import Path
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate

from deployments.pools import make_pool, make_queue

POOL = "kubernetes"
PARENT_QUEUE = "augment"
SHARD_QUEUE = "augment-shard"

TEMPLATE = Path(__file__).with_name("base-job-template.json")


def make_kubernetes_pool(client: SyncPrefectClient, *, shards_at_once: int | None) -> None:
    """Make the pool with its queues, or bring them up to date.

    One worker serves both queues. Parents and shards share no limit, since shards that wait for a
    place which their parents hold would wait for ever.

    Args:
        client: Of the server.
        shards_at_once: Pods of shards at a time, of all parents together; 0 is no limit, None
            leaves the limit as it is.

    Raises:
        PoolError: If there is a pool of the same name and of another type.
    """
    template: dict[str, Any] = json.loads(TEMPLATE.read_text())
    pool = WorkPoolCreate(
        name=POOL,
        type="kubernetes",
        description="Parents and shards, each a Job in the namespace kaleidoscope-runs.",
        base_job_template=template,
    )
    make_pool(client, pool)
    make_queue(client, PARENT_QUEUE, pool=POOL)
    make_queue(client, SHARD_QUEUE, pool=POOL, runs_at_once=shards_at_once)
