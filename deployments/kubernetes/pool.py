"""The work pool that runs flows as Jobs of Kubernetes."""

import json
from pathlib import Path
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate

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
        shards_at_once: Pods of shards at a time, of all parents together; None is no limit.
    """
    template: dict[str, Any] = json.loads(TEMPLATE.read_text())
    pool = WorkPoolCreate(
        name=POOL,
        type="kubernetes",
        description="Parents and shards, each a Job in the namespace kaleidoscope-runs.",
        base_job_template=template,
    )
    client.create_work_pool(pool, overwrite=True)
    there = {queue.name: queue for queue in client.read_work_queues(work_pool_name=POOL)}
    # On the queue, since a pool's own limit is not kept when many runs start at the same time.
    for name, limit in ((PARENT_QUEUE, None), (SHARD_QUEUE, shards_at_once)):
        queue = there.get(name) or client.create_work_queue(name, work_pool_name=POOL)
        client.update_work_queue(queue.id, concurrency_limit=limit)
