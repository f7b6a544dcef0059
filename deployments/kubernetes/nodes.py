"""On which nodes the pods of parents and of shards may run."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentUpdate

PARENTS = ("augment/kubernetes", "preview/kubernetes", "maintain/kubernetes")
"""Deployments whose runs are one pod each, which starts all over when it is interrupted."""

SHARD = "augment-shard/kubernetes"


@dataclass(frozen=True, slots=True)
class Nodes:
    """Labels that a node must have; none are any node."""

    parents: Mapping[str, str]
    """For parents, previews and maintenance."""
    shards: Mapping[str, str]


def place(client: SyncPrefectClient, nodes: Nodes) -> None:
    """Give deployments their node selectors, in place of those that they have.

    Args:
        client: Of the server, which has the deployments.
        nodes: Where pods may run; without labels a deployment stays as prefect.yaml has it.
    """
    wanted = {**dict.fromkeys(PARENTS, nodes.parents), SHARD: nodes.shards}
    for name, labels in wanted.items():
        if labels:
            deployment = client.read_deployment_by_name(name)
            variables = {**deployment.job_variables, "node_selector": dict(labels)}
            client.update_deployment(deployment.id, DeploymentUpdate(job_variables=variables))


def read_label(text: str) -> tuple[str, str]:
    """Return the name and the value of ``name=value``, for the command line.

    Raises:
        argparse.ArgumentTypeError: If it is not of this form.
    """
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(
            f"a node label is name=value, such as kaleidoscope/role=shards, not {text!r}"
        )
    return name, value
