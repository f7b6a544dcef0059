"""The nodes that run now, as the node groups have them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from infra.aws.stacks import CLUSTER_NAME

ROLE_LABEL = "kaleidoscope/role"
"""What tells the node groups apart: CloudFormation names that of shards, so that it can put another
in its place."""

SYSTEM_NODES = "system"
"""Role of the nodes of Prefect and of parent runs."""

SHARD_NODES = "shards"
"""Role of the nodes that scale from zero."""


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


def find_node_group(eks: Any, role: str) -> NodeGroup | None:
    """Return the node group of a role, None if there is none; one that is leaving only if alone."""
    try:
        pages = eks.get_paginator("list_nodegroups").paginate(clusterName=CLUSTER_NAME)
        groups = [
            eks.describe_nodegroup(clusterName=CLUSTER_NAME, nodegroupName=name)["nodegroup"]
            for page in pages
            for name in page["nodegroups"]
        ]
    except ClientError as error:
        if error.response["Error"]["Code"] == "ResourceNotFoundException":
            return None
        raise
    found = [group for group in groups if group.get("labels", {}).get(ROLE_LABEL) == role]
    group = min(found, key=lambda each: bool(each["status"] == "DELETING"), default=None)
    return None if group is None else _read_node_group(group)


def _read_node_group(group: Mapping[str, Any]) -> NodeGroup:
    scaling = group["scalingConfig"]
    return NodeGroup(
        name=group["nodegroupName"],
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
