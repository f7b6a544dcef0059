"""Make the process work pools, the deployments and the automation; may be repeated.

``python -m deployments.work_pools --shards 4`` works on the server that ``PREFECT_API_URL`` or the
Prefect profile names.
"""

# ruff: noqa: T201 -- it talks to a person.

import argparse
import subprocess
import sys
from typing import Any

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.workers.process import ProcessWorker

from deployments.automations import HEARTBEAT_S, make_automations
from deployments.deploying import deploy
from deployments.pools import PoolError, make_pool, make_queue

PARENT_POOL = "augment"
SHARD_POOL = "augment-shard"

DEPLOYMENT = "process"
"""Name of the deployments in prefect.yaml that these pools run."""


def make_process_pools(client: SyncPrefectClient, *, shards_at_once: int | None) -> None:
    """Make one pool for parent runs and one for shards, or bring them up to date.

    Args:
        client: Of the server.
        shards_at_once: Shards that run at a time, of all parents together; 0 is no limit, None
            leaves the limit as it is.

    Raises:
        PoolError: If there is a pool of the same name and of another type.
    """
    for name, description in (
        (PARENT_POOL, "Parent runs: they plan, wait for their shards and commit."),
        (SHARD_POOL, "Shards: they make the images."),
    ):
        pool = WorkPoolCreate(
            name=name,
            type=ProcessWorker.type,
            description=description,
            base_job_template=process_template(),
        )
        make_pool(client, pool)
    make_queue(client, "default", pool=SHARD_POOL, runs_at_once=shards_at_once)


def process_template() -> dict[str, Any]:
    """Return Prefect's own template, by which runs send heartbeats as well."""
    template = ProcessWorker.get_default_base_job_template()
    environment = template["variables"]["properties"]["env"]
    environment["default"] = {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_S)}
    return template


def main() -> int:
    """Read the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--shards",
        type=int,
        metavar="N",
        help="shards that run at a time; 0 is no limit, without it the limit stays as it is",
    )
    arguments = parser.parse_args()
    try:
        with get_client(sync_client=True) as client:
            make_process_pools(client, shards_at_once=arguments.shards)
            make_automations(client)
            deploy(client, DEPLOYMENT)
    except (PoolError, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
