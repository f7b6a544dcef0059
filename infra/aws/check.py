"""Says what is up, whether pods can reach the data, and what an hour costs now."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from infra.aws.account import Account
from infra.aws.cloudformation import CloudFormation, StackState
from infra.aws.nodes import SHARD_NODES, SYSTEM_NODES, NodeGroup, find_node_group
from infra.aws.prices import CostLine, estimate, spot_prices, usual_spot_prices
from infra.aws.stacks import CLUSTER_NAME, KEPT_STACK, STACKS, stack_name

ADDONS = ("vpc-cni", "eks-pod-identity-agent", "kube-proxy", "coredns", "aws-ebs-csi-driver")

DATA_ACTIONS = {
    "source": ("s3:GetObject",),
    "destination": ("s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"),
}
"""What shard pods have to be allowed."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    is_good: bool
    detail: str


def inspect(account: Account) -> Iterator[Finding]:
    """Yield a finding for each part of the cluster, as it is looked at."""
    cloudformation = CloudFormation(account.connect("cloudformation"))
    states = {stack: cloudformation.find_stack(stack_name(stack)) for stack in STACKS}
    yield from (_judge_stack(stack, state) for stack, state in states.items())
    if states["cluster"] is None:
        return
    eks = account.connect("eks")
    yield _judge_cluster(eks)
    for role in (SYSTEM_NODES, SHARD_NODES):
        yield _judge_node_group(role, find_node_group(eks, role))
    yield from (_judge_addon(eks, addon) for addon in ADDONS)
    yield from _inspect_data_path(account, eks, states)


def current_cost(account: Account) -> tuple[CostLine, ...]:
    """Return what an hour costs with the nodes that there are now; nothing without a cluster."""
    eks = account.connect("eks")
    system, shards = find_node_group(eks, SYSTEM_NODES), find_node_group(eks, SHARD_NODES)
    if system is None and not _cluster_status(eks):
        return ()
    types = shards.instance_types if shards else ()
    spot = None
    if types:
        live = spot_prices(account.connect("ec2"), types, datetime.now(UTC))
        spot = live or usual_spot_prices(types)
    return estimate(
        system_type=system.instance_types[0] if system else "node",
        system_nodes=system.nodes if system else 0,
        spot=spot,
        shard_nodes=shards.nodes if shards else 0,
    )


def _judge_stack(stack: str, state: StackState | None) -> Finding:
    what = f"stack {stack_name(stack)}"
    if state is None:
        # There is none where both buckets were there before.
        return Finding(what, stack == KEPT_STACK, "not there")
    good = state.status in {"CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"}
    return Finding(what, good, state.status)


def _cluster_status(eks: Any) -> str:
    try:
        cluster = eks.describe_cluster(name=CLUSTER_NAME)["cluster"]
    except ClientError as error:
        if error.response["Error"]["Code"] == "ResourceNotFoundException":
            return ""
        raise
    return f"{cluster['status']}, Kubernetes {cluster['version']}"


def _judge_cluster(eks: Any) -> Finding:
    status = _cluster_status(eks)
    return Finding("control plane", status.startswith("ACTIVE"), status or "not there")


def _judge_node_group(role: str, group: NodeGroup | None) -> Finding:
    if group is None:
        return Finding(f"nodes {role}", is_good=False, detail="not there")
    detail = f"{group.status}, {group.nodes} nodes of {group.min_nodes} to {group.max_nodes}"
    issues = "".join(f"; {issue}" for issue in group.issues)
    good = group.status in {"ACTIVE", "UPDATING"} and not group.issues
    return Finding(f"nodes {role}", good, detail + issues)


def _judge_addon(eks: Any, addon: str) -> Finding:
    try:
        status = eks.describe_addon(clusterName=CLUSTER_NAME, addonName=addon)["addon"]["status"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceNotFoundException":
            raise
        status = "not there"
    return Finding(f"add-on {addon}", status == "ACTIVE", status)


def _inspect_data_path(
    account: Account, eks: Any, states: dict[str, StackState | None]
) -> Iterator[Finding]:
    """Follow the way of a shard pod to S3: its identity, its rights, the buckets, the endpoint."""
    permissions, cluster = states["permissions"], states["cluster"]
    if permissions is None or cluster is None:
        return
    yield _judge_identity(eks, cluster)
    role = permissions.outputs.get("ShardRole", "")
    for end, actions in DATA_ACTIONS.items():
        bucket = permissions.parameters[f"{end.title()}Bucket"]
        prefix = permissions.parameters.get(f"{end.title()}Prefix", "")
        yield _judge_bucket(account.connect("s3"), end, bucket)
        yield _judge_rights(
            account.connect("iam"), role, actions, f"arn:aws:s3:::{bucket}/{prefix}image.jpg"
        )
    network = states["network"]
    if network is not None:
        yield _judge_endpoint(account.connect("ec2"), network.outputs["VpcId"])


def _judge_identity(eks: Any, cluster: StackState) -> Finding:
    namespace = cluster.parameters["Namespace"]
    service_account = cluster.parameters["ShardServiceAccount"]
    found = eks.list_pod_identity_associations(
        clusterName=CLUSTER_NAME, namespace=namespace, serviceAccount=service_account
    )["associations"]
    what = f"role of service account {namespace}/{service_account}"
    return Finding(what, bool(found), "given" if found else "not there")


def _judge_bucket(s3: Any, end: str, bucket: str) -> Finding:
    what = f"{end} bucket {bucket}"
    try:
        s3.head_bucket(Bucket=bucket)
    except ClientError as error:
        return Finding(what, is_good=False, detail=str(error))
    return Finding(what, is_good=True, detail="there")


def _judge_rights(iam: Any, role: str, actions: tuple[str, ...], resource: str) -> Finding:
    what = f"shard pods may {', '.join(action.partition(':')[2] for action in actions)}"
    try:
        results = iam.simulate_principal_policy(
            PolicySourceArn=role, ActionNames=list(actions), ResourceArns=[resource]
        )["EvaluationResults"]
    except ClientError as error:
        return Finding(what, is_good=False, detail=f"cannot be asked: {error}")
    refused = [each["EvalActionName"] for each in results if each["EvalDecision"] != "allowed"]
    return Finding(what, not refused, f"not {', '.join(refused)}" if refused else resource)


def _judge_endpoint(ec2: Any, vpc: str) -> Finding:
    endpoints = ec2.describe_vpc_endpoints(Filters=[{"Name": "vpc-id", "Values": [vpc]}])
    states = [
        each["State"].lower()
        for each in endpoints["VpcEndpoints"]
        if each["ServiceName"].endswith(".s3") and each["RouteTableIds"]
    ]
    return Finding("free way to S3", "available" in states, ", ".join(states) or "not there")
