"""Brings stacks into being, up to date, and away."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError, WaiterError

from infra.aws.errors import AwsError

_PATIENCE = {"Delay": 10, "MaxAttempts": 360}
"""Seconds between looks, and looks: an hour. A cluster takes about 15 minutes."""

_NEVER_CREATED = {"CREATE_FAILED", "REVIEW_IN_PROGRESS", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED"}
"""A stack in these states can only be deleted."""

_GOALS = {
    "CREATE_IN_PROGRESS": "stack_create_complete",
    "ROLLBACK_IN_PROGRESS": "stack_create_complete",
    "UPDATE_IN_PROGRESS": "stack_update_complete",
    "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS": "stack_update_complete",
    "UPDATE_ROLLBACK_IN_PROGRESS": "stack_update_complete",
    "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS": "stack_update_complete",
    "DELETE_IN_PROGRESS": "stack_delete_complete",
}
"""In these states CloudFormation is at work on a stack, by itself or for a command that was
interrupted, and refuses another update; and the waiter that returns or fails when it has ended."""

_MAX_REASONS = 5


@dataclass(frozen=True, slots=True)
class StackState:
    """A stack as CloudFormation has it."""

    status: str
    """Such as ``UPDATE_COMPLETE``."""

    parameters: Mapping[str, str]
    outputs: Mapping[str, str]

    @property
    def was_created(self) -> bool:
        """Whether it ever came to be, so that there is what its parameters say."""
        return self.status not in _NEVER_CREATED


class CloudFormation:
    """Stacks of one account and region."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def find_stack(self, name: str) -> StackState | None:
        """Return a stack's state, None if there is none."""
        try:
            stack = self._client.describe_stacks(StackName=name)["Stacks"][0]
        except ClientError as error:
            if "does not exist" in str(error):
                return None
            raise
        return StackState(
            stack["StackStatus"],
            {each["ParameterKey"]: each["ParameterValue"] for each in stack.get("Parameters", ())},
            {each["OutputKey"]: each["OutputValue"] for each in stack.get("Outputs", ())},
        )

    def deploy(self, name: str, template: str, parameters: Mapping[str, str]) -> bool:
        """Make a stack or bring it up to date, and wait; what is under way is waited for first.

        Returns:
            Whether there was anything to do.

        Raises:
            AwsError: If it failed, with the first reasons that CloudFormation gives.
        """
        state = self._settle(name)
        if state is not None and not state.was_created:
            self.delete(name)
            state = None
        request = {
            "StackName": name,
            "TemplateBody": template,
            "Parameters": [
                {"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()
            ],
            "Capabilities": ["CAPABILITY_IAM"],
            "Tags": [{"Key": "kaleidoscope", "Value": name}],
        }
        try:
            if state is None:
                self._client.create_stack(**request)
            else:
                self._client.update_stack(**request)
        except ClientError as error:
            # The API has no other sign for this.
            if "No updates are to be performed" in str(error):
                return False
            raise AwsError(f"{name} cannot be deployed: {error}") from error
        self._wait(name, "stack_create_complete" if state is None else "stack_update_complete")
        return True

    def delete(self, name: str) -> bool:
        """Delete a stack and wait.

        Returns:
            Whether there was one.

        Raises:
            AwsError: If something of it could not be deleted.
        """
        if self.find_stack(name) is None:
            return False
        self._client.delete_stack(StackName=name)
        self._wait(name, "stack_delete_complete")
        return True

    def _settle(self, name: str) -> StackState | None:
        """Return a stack's state when nobody is at work on it any more, None if there is none."""
        state = self.find_stack(name)
        if state is None or state.status not in _GOALS:
            return state
        # It says no more than that the end is another than the goal, or far off.
        with suppress(WaiterError):
            waiter = self._client.get_waiter(_GOALS[state.status])
            waiter.wait(StackName=name, WaiterConfig=_PATIENCE)
        state = self.find_stack(name)
        if state is not None and state.status in _GOALS:
            raise AwsError(f"{name} is still {state.status}; say the same again when it has ended")
        return state

    def _wait(self, name: str, goal: str) -> None:
        try:
            self._client.get_waiter(goal).wait(StackName=name, WaiterConfig=_PATIENCE)
        except WaiterError as error:
            reasons = "\n  ".join(self._read_reasons(name)) or str(error)
            raise AwsError(f"{name} failed:\n  {reasons}") from error

    def _read_reasons(self, name: str) -> list[str]:
        pages = self._client.get_paginator("describe_stack_events").paginate(StackName=name)
        failed = []
        try:
            # The newest come first, and behind those of this operation those of all before it.
            for event in (event for page in pages for event in page["StackEvents"]):
                if event["ResourceStatus"].endswith("_FAILED"):
                    reason = event.get("ResourceStatusReason", "no reason given")
                    failed.append(f"{event['LogicalResourceId']}: {reason}")
                if _is_start(event, name):
                    break
        except ClientError as error:
            return [str(error)]
        # The first are causes, those after them are consequences.
        return failed[::-1][:_MAX_REASONS]


def _is_start(event: Mapping[str, Any], stack: str) -> bool:
    """Say whether with this event somebody began to create, update or delete the stack."""
    return (
        event["LogicalResourceId"] == stack
        and event["ResourceStatus"].endswith("_IN_PROGRESS")
        and event.get("ResourceStatusReason") == "User Initiated"
    )
