"""Takes the cluster away and leaves the data."""

from collections.abc import Callable
from typing import Any

from infra.aws.account import Account
from infra.aws.cloudformation import CloudFormation
from infra.aws.nodes import SHARD_NODES, find_node_group
from infra.aws.stacks import KEPT_STACK, STACKS, stack_name

Say = Callable[[str], None]

VOLUME_TAG = "kaleidoscope"
"""With the value ``volume``: what the storage class writes to the volumes that it makes."""


def announce_removal(account: Account, say: Say) -> None:
    """Say what would go and what would stay."""
    stacks = CloudFormation(account.connect("cloudformation"))
    say(f"account {account.number}, region {account.region}, as {account.caller}")
    for stack in STACKS:
        if stacks.find_stack(stack_name(stack)) is not None:
            fate = "stays, with its buckets" if stack == KEPT_STACK else "is removed"
            say(f"  {stack_name(stack)} {fate}")
    shards = find_node_group(account.connect("eks"), SHARD_NODES)
    if shards is not None and shards.nodes:
        say(f"  {shards.nodes} shard nodes are at work; what is not committed can be resumed later")
    say("  images in the registry, and Prefect's database with its history of runs, go too")
    say("No bucket is emptied or deleted, and no object in it.")


def take_down(account: Account, say: Say) -> None:
    """Delete all stacks but that of the data, and the volumes that no stack knows of.

    Raises:
        AwsError: If a stack cannot be deleted; doing it again goes on.
    """
    stacks = CloudFormation(account.connect("cloudformation"))
    for stack in reversed(STACKS):
        if stack == KEPT_STACK:
            continue
        name = stack_name(stack)
        say(f"{name}: deleting ...")
        say(f"{name}: {'gone' if stacks.delete(name) else 'was not there'}")
        if stack == "cluster":
            # Kubernetes made them, and nobody is left to delete them.
            _delete_volumes(account.connect("ec2"), say)
    say("The data stays; docs/aws.md says how to delete it.")


def _delete_volumes(ec2: Any, say: Say) -> None:
    pages = ec2.get_paginator("describe_volumes").paginate(
        Filters=[
            {"Name": f"tag:{VOLUME_TAG}", "Values": ["volume"]},
            {"Name": "status", "Values": ["available"]},
        ]
    )
    for volume in [each["VolumeId"] for page in pages for each in page["Volumes"]]:
        ec2.delete_volume(VolumeId=volume)
        say(f"volume {volume}: gone")
