"""Deploys what prefect.yaml has, and leaves schedules and pauses as people have set them.

Prefect makes the schedules of a deployment anew each time that it is deployed, and starts it again
if it was paused, so that a new image would switch off what was switched on in the UI, or on.
"""

# ruff: noqa: S603 -- it starts the Prefect of this environment.

import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound

ROOT = Path(__file__).parents[1]

FLOWS = ("augment", "augment-shard", "preview", "maintain")
"""Each has a deployment for each kind of work pool."""


def deploy(
    client: SyncPrefectClient, name: str, *, environment: Mapping[str, str] | None = None
) -> None:
    """Deploy all flows under one name.

    Args:
        client: Of the server.
        name: ``process`` or ``kubernetes``, as prefect.yaml has it.
        environment: Variables for Prefect beside those of this process.

    Raises:
        subprocess.CalledProcessError: If Prefect fails; it has said why.
    """
    with ExitStack() as stack:
        # Also if Prefect fails or is interrupted: it may have deployed some, and the next command
        # would take their new schedules for those that people have set.
        for flow in FLOWS:
            if (before := _find(client, f"{flow}/{name}")) is not None:
                stack.callback(_put_back, client, f"{flow}/{name}", before)
        subprocess.run(
            [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--name", name],
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            check=True,
        )


def _find(client: SyncPrefectClient, name: str) -> DeploymentResponse | None:
    """Return a deployment, None if there is no such deployment yet."""
    try:
        return client.read_deployment_by_name(name)
    except ObjectNotFound:
        return None


def _put_back(client: SyncPrefectClient, name: str, before: DeploymentResponse) -> None:
    deployment = client.read_deployment_by_name(name)
    # First, so that no schedule of a paused one makes a run.
    if before.paused and not deployment.paused:
        client.pause_deployment(deployment.id)
    wanted = [_without_id(one) for one in before.schedules]
    there = {one.id: _without_id(one) for one in deployment.schedules}
    # No two schedules of a deployment have the same slug, and nothing is deleted before what people
    # have set is there.
    slugs = {one.slug: one.id for one in deployment.schedules if one.slug is not None}
    for one in wanted:
        if one in there.values():
            continue
        if one.slug in slugs:
            _change(client, deployment.id, slugs[one.slug], one)
        else:
            client.create_deployment_schedules(deployment.id, [one])
    changed = {slugs[one.slug] for one in wanted if one.slug in slugs}
    for made, schedule in there.items():
        if made not in changed and schedule not in wanted:
            client.delete_deployment_schedule(deployment.id, made)


def _change(
    client: SyncPrefectClient, deployment: UUID, schedule: UUID, wanted: DeploymentScheduleCreate
) -> None:
    client.update_deployment_schedule(
        deployment,
        schedule,
        active=wanted.active,
        schedule=wanted.schedule,
        max_scheduled_runs=wanted.max_scheduled_runs,
        parameters=wanted.parameters,
    )


def _without_id(schedule: DeploymentSchedule) -> DeploymentScheduleCreate:
    return DeploymentScheduleCreate(
        schedule=schedule.schedule,
        active=schedule.active,
        max_scheduled_runs=schedule.max_scheduled_runs,
        parameters=schedule.parameters,
        slug=schedule.slug,
    )
