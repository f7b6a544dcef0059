"""A work pool and its queues: made once, then left paused and limited as people have set them.

Prefect's own ``create_work_pool(overwrite=True)`` starts a paused pool again and lifts its limit.
"""

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.exceptions import ObjectNotFound

NO_LIMIT = 0
"""Asks that a limit be lifted; Prefect itself would run nothing."""


class PoolError(Exception):
    """A work pool is not as it has to be; the message says what to do."""


def make_pool(client: SyncPrefectClient, pool: WorkPoolCreate) -> None:
    """Make a pool, or bring its description and its job template up to date.

    Args:
        client: Of the server.
        pool: As it has to be.

    Raises:
        PoolError: If there is a pool of that name and of another type.
    """
    try:
        there = client.read_work_pool(pool.name)
    except ObjectNotFound:
        client.create_work_pool(pool)
        return
    if there.type != pool.type:
        raise PoolError(
            f"the work pool {pool.name} is of the type {there.type}, and {pool.type} is wanted, to "
            "which Prefect cannot change it: if nobody else needs it, delete it with "
            f"`prefect work-pool delete {pool.name}` and run this again"
        )
    update = WorkPoolUpdate(description=pool.description, base_job_template=pool.base_job_template)
    client.update_work_pool(pool.name, update)


def make_queue(
    client: SyncPrefectClient, name: str, *, pool: str, runs_at_once: int | None = None
) -> None:
    """Make a queue of a pool that is there, or change its limit.

    Args:
        client: Of the server.
        name: Of the queue.
        pool: Its pool.
        runs_at_once: Its limit; 0 lifts it, None leaves that of a queue which is there.
    """
    queues = {queue.name: queue for queue in client.read_work_queues(work_pool_name=pool)}
    queue = queues.get(name) or client.create_work_queue(name, work_pool_name=pool)
    # On the queue, since a pool's own limit is not kept when many runs start at the same time.
    if runs_at_once is not None:
        limit = None if runs_at_once == NO_LIMIT else runs_at_once
        client.update_work_queue(queue.id, concurrency_limit=limit)
