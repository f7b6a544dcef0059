"""Makes the cluster, or brings it up to date; doing it again changes nothing."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from infra.aws.account import Account
from infra.aws.cloudformation import CloudFormation
from infra.aws.errors import AwsError
from infra.aws.nodes import SHARD_NODES, find_node_group
from infra.aws.options import ClusterOptions
from infra.aws.prices import (
    PRICES_OF,
    PRICES_REGION,
    estimate,
    spot_prices,
    to_table,
    usual_spot_prices,
)
from infra.aws.stacks import (
    CLUSTER_NAME,
    STACKS,
    Buckets,
    cluster_parameters,
    data_parameters,
    permission_parameters,
    read_template,
    stack_name,
)

Say = Callable[[str], None]


def recall_parameters(stacks: CloudFormation) -> dict[str, str]:
    """Return the parameters of all stacks that there are, by name.

    What people chose for a stack that never came to be counts, but it has no buckets.
    """
    states = [stacks.find_stack(stack_name(stack)) for stack in STACKS]
    return {
        key: value
        for state in states
        if state
        for key, value in state.parameters.items()
        if state.was_created or not key.startswith("Create")
    }


def refuse_what_cannot_change(stacks: CloudFormation, options: ClusterOptions) -> None:
    """See that an option which holds as long as the cluster is not another than before.

    Raises:
        AwsError: If the node that stays would have to be of another type.
    """
    cluster = stacks.find_stack(stack_name("cluster"))
    if cluster is None or not cluster.was_created:
        return
    there = cluster.parameters["SystemInstanceType"]
    if options.system_instance_type != there:
        raise AwsError(
            f"the node that stays is of type {there}, and --system-instance-type "
            f"{options.system_instance_type} is for a new cluster only: leave the option out, or "
            "say `make cluster-down CONFIRM=yes` first, which keeps the data and deletes Prefect's "
            "history"
        )


def announce(account: Account, options: ClusterOptions, say: Say) -> None:
    """Say what is going to be made, where, and what it costs for an hour."""
    buckets = _name_buckets(account, options)
    say(f"account {account.number}, region {account.region}, as {account.caller}")
    say(
        f"source       s3://{buckets.source}/{options.source_prefix}"
        f"{' (made if it is not there)' if buckets.create_source else ''}"
    )
    say(
        f"destination  s3://{buckets.destination}/{options.destination_prefix}"
        f"{' (made if it is not there)' if buckets.create_destination else ''}"
    )
    live = spot_prices(account.connect("ec2"), options.shard_types, datetime.now(UTC))
    spot = live or usual_spot_prices(options.shard_types)
    say(f"\nUSD per hour, list prices of {PRICES_REGION}, {PRICES_OF}; spot prices are")
    say(f"{'those of this moment' if live else 'the usual share of them'} in {account.region}:")
    for title, nodes in (("idle", 0), ("at most", int(options.max_shard_nodes))):
        say(f"\n{title}, with {nodes} shard nodes")
        lines = estimate(
            system_type=options.system_instance_type,
            system_nodes=1,
            spot=spot,
            shard_nodes=nodes,
        )
        say(to_table(lines))
    say("\nBeside it: S3 storage ($0.023 per GB and month) and requests ($0.005 per 1,000 PUTs).")


def bring_up(
    account: Account,
    options: ClusterOptions,
    remembered: Mapping[str, str],
    *,
    prepare: Callable[[], None],
    say: Say,
) -> None:
    """Deploy the stacks in their order.

    Args:
        account: Where.
        options: What the user chose.
        remembered: Parameters that the stacks have.
        prepare: Called when the cluster is there.
        say: Told of each step.

    Raises:
        AwsError: If one cannot be deployed; those before it stay, and doing it again goes on.
    """
    stacks = CloudFormation(account.connect("cloudformation"))

    def deploy(stack: str, parameters: Mapping[str, str]) -> Mapping[str, str]:
        name = stack_name(stack)
        say(f"{name}: deploying ...")
        changed = stacks.deploy(name, read_template(stack), parameters)
        say(f"{name}: {'done' if changed else 'is up to date'}")
        state = stacks.find_stack(name)
        return state.outputs if state else {}

    buckets = _find_buckets(account, options)
    data = data_parameters(buckets, remembered)
    if data is not None:
        deploy("data", data)
    registry = deploy("registry", {})
    network = deploy("network", {})
    permissions = deploy("permissions", permission_parameters(options, buckets))
    shards = find_node_group(account.connect("eks"), SHARD_NODES)
    say("The cluster takes about 15 minutes the first time.")
    deploy(
        "cluster",
        cluster_parameters(
            options, {**network, **permissions}, shard_nodes=shards.nodes if shards else 0
        ),
    )
    prepare()
    _say_next_steps(account, registry["RepositoryUri"], say)


def _name_buckets(account: Account, options: ClusterOptions) -> Buckets:
    return Buckets.from_options(options, account=account.number, region=account.region)


def _find_buckets(account: Account, options: ClusterOptions) -> Buckets:
    """Name the buckets, and see before anything that costs is made which of them are there.

    An own one that is there is not made: it may have outlived its stack. The parameters of the data
    stack keep it if it has not.
    """
    s3 = account.connect("s3")
    buckets = _name_buckets(account, options)
    return replace(
        buckets,
        create_source=_is_missing(s3, buckets.source, is_ours=buckets.create_source),
        create_destination=_is_missing(s3, buckets.destination, is_ours=buckets.create_destination),
    )


def _is_missing(s3: Any, bucket: str, *, is_ours: bool) -> bool:
    try:
        s3.head_bucket(Bucket=bucket)
    except ClientError as error:
        if is_ours and error.response["Error"]["Code"] == "404":
            return True
        raise AwsError(
            f"there is no bucket {bucket} that you may use ({error}); check its name, or leave "
            "the option out to have one made"
        ) from error
    return False


def _say_next_steps(account: Account, repository: str, say: Say) -> None:
    registry = repository.partition("/")[0]
    say(
        f"""
The cluster is up and costs money until `make cluster-down CONFIRM=yes`. kubectl's context for it
is {CLUSTER_NAME}. Next, the image, then its name and the region in infra/kubernetes/overlays/aws
(newName: {repository}, newTag: TAG, AWS_REGION: {account.region}), and Kaleidoscope itself:

  aws ecr get-login-password --region {account.region} | \\
    docker login --username AWS --password-stdin {registry}
  make image IMAGE={repository}:TAG PLATFORM=linux/amd64
  docker push {repository}:TAG
  kubectl apply -k infra/kubernetes/overlays/aws
  make kubernetes SHARDS=30 PARENT_NODES=kaleidoscope/role=system \\
    SHARD_NODES=kaleidoscope/role=shards

docs/aws.md has the rest."""
    )
