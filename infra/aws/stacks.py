"""The stacks, in the order in which each finds what it needs in the ones before."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.aws.options import ClusterOptions

CLUSTER_NAME = "kaleidoscope"
"""One cluster for each account and region; the manifests in ``kubernetes/`` say it as well."""

TEMPLATES = Path(__file__).with_name("templates")

STACKS = ("data", "registry", "network", "permissions", "cluster")
"""In the order of deployment; removed in the opposite order."""

KEPT_STACK = "data"
"""Never removed here."""

_YES_NO = {True: "yes", False: "no"}


@dataclass(frozen=True, slots=True)
class Buckets:
    """Where the data lies, and which of the two buckets are ours to make."""

    source: str
    destination: str
    create_source: bool
    create_destination: bool

    @classmethod
    def from_options(cls, options: ClusterOptions, *, account: str, region: str) -> "Buckets":
        """Name the buckets; one that is not given is made, with a name of its own in the world."""
        own_source = f"{CLUSTER_NAME}-source-{account}-{region}"
        own_destination = f"{CLUSTER_NAME}-destination-{account}-{region}"
        return cls(
            source=options.source_bucket or own_source,
            destination=options.destination_bucket or own_destination,
            # An own bucket that is passed by its name is still an own one.
            create_source=options.source_bucket in {"", own_source},
            create_destination=options.destination_bucket in {"", own_destination},
        )


def stack_name(stack: str) -> str:
    """Return the name that a stack has in the account."""
    return f"{CLUSTER_NAME}-{stack}"


def read_template(stack: str) -> str:
    """Return the text of a stack's template."""
    return (TEMPLATES / f"{stack}.yaml").read_text()


def data_parameters(buckets: Buckets, remembered: Mapping[str, str]) -> dict[str, str] | None:
    """Return the parameters of the data stack, None if it has nothing to make.

    Args:
        buckets: As they are wanted now.
        remembered: Parameters that the stacks have; a bucket that was made once stays in its stack,
            though it is there or another is used, since it could not be taken in again.
    """
    parameters = {
        "CreateSource": _YES_NO[buckets.create_source or remembered.get("CreateSource") == "yes"],
        "CreateDestination": _YES_NO[
            buckets.create_destination or remembered.get("CreateDestination") == "yes"
        ],
    }
    return parameters if "yes" in parameters.values() else None


def permission_parameters(options: ClusterOptions, buckets: Buckets) -> dict[str, str]:
    """Return the parameters of the permissions stack."""
    return {
        "ClusterName": CLUSTER_NAME,
        "SourceBucket": buckets.source,
        "SourcePrefix": options.source_prefix,
        "DestinationBucket": buckets.destination,
        "DestinationPrefix": options.destination_prefix,
    }


def cluster_parameters(
    options: ClusterOptions, outputs: Mapping[str, str], *, shard_nodes: int
) -> dict[str, str]:
    """Return the parameters of the cluster stack.

    Args:
        options: What the user chose.
        outputs: Of the network and the permissions stack.
        shard_nodes: How many there are now.
    """
    subnets_and_roles = {
        name: value
        for name, value in outputs.items()
        if name.startswith("Subnet") or name.endswith("Role")
    }
    return {
        "ClusterName": CLUSTER_NAME,
        "SystemInstanceType": options.system_instance_type,
        "ShardInstanceTypes": ",".join(options.shard_types),
        "MaxShardNodes": options.max_shard_nodes,
        "CurrentShardNodes": str(min(shard_nodes, int(options.max_shard_nodes))),
        "ApiCidrs": options.api_cidrs.replace(" ", ""),
        **subnets_and_roles,
    }
