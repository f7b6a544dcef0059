"""Deploys what prefect.yaml has, and leaves the schedules that people have set as they are.

Prefect makes the schedules of a deployment anew each time that it is deployed, so that a new image
would switch off what was switched on in the UI.
"""

# ruff: noqa: S603 -- it starts the Prefect of this environment.

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.objects import DeploymentSchedule
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
    before = {flow: _schedules_of(client, f"{flow}/{name}") for flow in FLOWS}
    subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--name", name],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        check=True,
    )
    for flow, schedules in before.items():
        if schedules is not None:
            _put_back(client, f"{flow}/{name}", schedules)


def _schedules_of(client: SyncPrefectClient, name: str) -> Sequence[DeploymentSchedule] | None:
    """Return the schedules of a deployment, None if there is no such deployment yet."""
    try:
        return client.read_deployment_by_name(name).schedules
    except ObjectNotFound:
        return None


def _put_back(
    client: SyncPrefectClient, name: str, schedules: Sequence[DeploymentSchedule]
) -> None:
    deployment = client.read_deployment_by_name(name)
    for made in deployment.schedules:
        client.delete_deployment_schedule(deployment.id, made.id)
    kept = [
        DeploymentScheduleCreate(
            schedule=one.schedule,
            active=one.active,
            max_scheduled_runs=one.max_scheduled_runs,
            parameters=one.parameters,
            slug=one.slug,
        )
        for one in schedules
    ]
    if kept:
        client.create_deployment_schedules(deployment.id, kept)
