"""The command line: ``python -m infra.aws up | check | down``."""

# ruff: noqa: T201 -- it talks to a person.

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import fields

import botocore.session
from botocore.exceptions import BotoCoreError, ClientError

from infra.aws.account import Account
from infra.aws.check import current_cost, inspect
from infra.aws.cloudformation import CloudFormation
from infra.aws.down import announce_removal, take_down
from infra.aws.errors import AwsError
from infra.aws.kubectl import check_programs, prepare_cluster, run_command
from infra.aws.options import ClusterOptions
from infra.aws.prices import to_table
from infra.aws.up import announce, bring_up, recall_parameters, refuse_what_cannot_change

NOT_CONFIRMED = 2
"""Exit code: nothing was done, since CONFIRM=yes was missing."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says, and return the exit code."""
    options = _parse(arguments)
    try:
        # botocore reads AWS_DEFAULT_REGION only, the AWS CLI and Kaleidoscope this one first.
        region = options.region or os.environ.get("AWS_REGION")
        account = Account.from_session(botocore.session.Session(), region)
        if options.command == "up":
            return _up(account, options)
        if options.command == "down":
            return _down(account, options)
        return _check(account)
    except (AwsError, BotoCoreError, ClientError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _up(account: Account, options: argparse.Namespace) -> int:
    stacks = CloudFormation(account.connect("cloudformation"))
    remembered = recall_parameters(stacks)
    choice = ClusterOptions.from_choices(vars(options), remembered)
    refuse_what_cannot_change(stacks, choice)
    announce(account, choice, print)
    if not _is_confirmed(options.confirm):
        return NOT_CONFIRMED
    check_programs()
    bring_up(
        account,
        choice,
        remembered,
        prepare=lambda: prepare_cluster(account.region, run_command),
        say=print,
    )
    return 0


def _down(account: Account, options: argparse.Namespace) -> int:
    announce_removal(account, print)
    if not _is_confirmed(options.confirm):
        return NOT_CONFIRMED
    take_down(account, print)
    return 0


def _check(account: Account) -> int:
    print(f"account {account.number}, region {account.region}")
    all_good = True
    for finding in inspect(account):
        print(f"  {'ok  ' if finding.is_good else 'DOWN'}  {finding.what}: {finding.detail}")
        all_good = all_good and finding.is_good
    cost = current_cost(account)
    print(
        f"\nUSD per hour now\n{to_table(cost)}" if cost else "\nNo cluster, nothing to pay by hour."
    )
    return 0 if all_good else 1


def _is_confirmed(answer: str) -> bool:
    if answer == "yes":
        return True
    print("\nNothing was done. To go ahead, say the same with CONFIRM=yes.", file=sys.stderr)
    return False


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m infra.aws", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, description in (
        ("up", "make the cluster or bring it up to date"),
        ("check", "say what is up, and what it costs"),
        ("down", "remove all but the data"),
    ):
        command = commands.add_parser(name, help=description, description=description)
        command.add_argument("--region", help="default: that of the environment or the profile")
        if name != "check":
            command.add_argument(
                "--confirm", default="", metavar="yes", help="without it, only say"
            )
        if name == "up":
            for field in fields(ClusterOptions):
                command.add_argument(f"--{field.name.replace('_', '-')}")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
