"""The nodes that run now, as the node groups have them."""

from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from infra.aws.stacks import CLUSTER_NAME

SYSTEM_NODES = "system"
"""The node group of Prefect and of parent runs."""

SHARD_NODES = "shards"
"""The node group that scales from zero."""


@dataclass(frozen=True, slots=True)
class NodeGroup:
    """A managed node group."""

    name: str
    status: str
    """Such as ``ACTIVE``."""

    instance_types: tuple[str, ...]
    min_nodes: int
    nodes: int
    """How many it wants to have now."""

    max_nodes: int
    issues: tuple[str, ...]
    """What EKS finds wrong with it."""


def find_node_group(eks: Any, name: str) -> NodeGroup | None:
    """Return a node group of the cluster, None if there is none."""
    try:
        group = eks.describe_nodegroup(clusterName=CLUSTER_NAME, nodegroupName=name)["nodegroup"]
    except ClientError as error:
        if error.response["Error"]["Code"] == "ResourceNotFoundException":
            return None
        raise
    scaling = group["scalingConfig"]
    return NodeGroup(
        name=name,
        status=group["status"],
        instance_types=tuple(group.get("instanceTypes", ())),
        min_nodes=scaling["minSize"],
        nodes=scaling["desiredSize"],
        max_nodes=scaling["maxSize"],
        issues=tuple(
            f"{issue['code']}: {issue['message']}"
            for issue in group.get("health", {}).get("issues", ())
        ),
    )
