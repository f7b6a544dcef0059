from collections.abc import Iterator
from typing import Any

import botocore.session
import pytest
from botocore.stub import ANY, Stubber

from infra.aws import cloudformation
from infra.aws.cloudformation import CloudFormation, StackState
from infra.aws.errors import AwsError
from infra.aws.stacks import read_template, stack_name

NAME = "kaleidoscope-data"
PARAMETERS = {"CreateSource": "yes", "CreateDestination": "no"}


@pytest.fixture
def client() -> Any:
    return botocore.session.Session().create_client("cloudformation", region_name="eu-central-1")


@pytest.fixture
def stubber(client: Any) -> Iterator[Stubber]:
    with Stubber(client) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


def stack(status: str) -> dict[str, Any]:
    return {"Stacks": [{"StackName": NAME, "StackStatus": status, "CreationTime": "2026-11-22"}]}


def add_stack(stubber: Stubber, status: str) -> None:
    stubber.add_response("describe_stacks", stack(status), {"StackName": NAME})


def test_a_stack_is_made_and_found_again(stacks: CloudFormation) -> None:
    assert stacks.find_stack(NAME) is None
    assert stacks.deploy(NAME, read_template("data"), PARAMETERS)
    assert stacks.find_stack(NAME) == StackState("CREATE_COMPLETE", PARAMETERS, {})


def test_deploying_the_same_again_changes_nothing(stacks: CloudFormation) -> None:
    stacks.deploy(NAME, read_template("data"), PARAMETERS)
    assert not stacks.deploy(NAME, read_template("data"), PARAMETERS)


def test_other_parameters_update_the_stack(stacks: CloudFormation) -> None:
    stacks.deploy(NAME, read_template("data"), PARAMETERS)
    assert stacks.deploy(NAME, read_template("data"), {**PARAMETERS, "CreateDestination": "yes"})
    state = stacks.find_stack(NAME)
    assert state is not None
    assert state.status == "UPDATE_COMPLETE"
    assert state.parameters == {"CreateSource": "yes", "CreateDestination": "yes"}


def test_a_stack_is_deleted_once(stacks: CloudFormation) -> None:
    stacks.deploy(stack_name("registry"), read_template("registry"), {})
    assert stacks.delete(stack_name("registry"))
    assert not stacks.delete(stack_name("registry"))


def test_a_stack_that_never_came_to_be_is_deleted_first(client: Any, stubber: Stubber) -> None:
    add_stack(stubber, "ROLLBACK_COMPLETE")
    add_stack(stubber, "ROLLBACK_COMPLETE")
    stubber.add_response("delete_stack", {}, {"StackName": NAME})
    add_stack(stubber, "DELETE_COMPLETE")
    stubber.add_response(
        "create_stack",
        {},
        {
            "StackName": NAME,
            "TemplateBody": "template",
            "Parameters": [{"ParameterKey": "CreateSource", "ParameterValue": "yes"}],
            "Capabilities": ["CAPABILITY_IAM"],
            "Tags": ANY,
        },
    )
    add_stack(stubber, "CREATE_COMPLETE")
    assert CloudFormation(client).deploy(NAME, "template", {"CreateSource": "yes"})


@pytest.mark.parametrize(
    ("status", "end"),
    [
        ("CREATE_IN_PROGRESS", "CREATE_COMPLETE"),
        ("UPDATE_IN_PROGRESS", "UPDATE_COMPLETE"),
        ("UPDATE_IN_PROGRESS", "UPDATE_ROLLBACK_COMPLETE"),
        ("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "UPDATE_COMPLETE"),
        ("UPDATE_ROLLBACK_IN_PROGRESS", "UPDATE_ROLLBACK_COMPLETE"),
    ],
)
def test_what_is_under_way_is_waited_for_and_then_updated(
    client: Any, stubber: Stubber, status: str, end: str
) -> None:
    add_stack(stubber, status)
    add_stack(stubber, end)  # The waiter asks.
    add_stack(stubber, end)
    stubber.add_response("update_stack", {}, None)
    add_stack(stubber, "UPDATE_COMPLETE")
    assert CloudFormation(client).deploy(NAME, "template", {})


def test_a_stack_that_is_on_its_way_out_is_made_when_it_is_gone(
    client: Any, stubber: Stubber
) -> None:
    add_stack(stubber, "DELETE_IN_PROGRESS")
    for _ in range(2):
        stubber.add_client_error("describe_stacks", "ValidationError", f"{NAME} does not exist")
    stubber.add_response("create_stack", {}, None)
    add_stack(stubber, "CREATE_COMPLETE")
    assert CloudFormation(client).deploy(NAME, "template", {})


def test_a_creation_that_is_being_rolled_back_is_begun_again(client: Any, stubber: Stubber) -> None:
    add_stack(stubber, "ROLLBACK_IN_PROGRESS")
    for _ in range(3):
        add_stack(stubber, "ROLLBACK_COMPLETE")
    stubber.add_response("delete_stack", {}, {"StackName": NAME})
    add_stack(stubber, "DELETE_COMPLETE")
    stubber.add_response("create_stack", {}, None)
    add_stack(stubber, "CREATE_COMPLETE")
    assert CloudFormation(client).deploy(NAME, "template", {})


def test_a_stack_that_stays_under_way_is_named(
    client: Any, stubber: Stubber, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloudformation, "_PATIENCE", {"Delay": 0, "MaxAttempts": 2})
    for _ in range(4):
        add_stack(stubber, "CREATE_IN_PROGRESS")
    with pytest.raises(AwsError, match=f"{NAME} is still CREATE_IN_PROGRESS"):
        CloudFormation(client).deploy(NAME, "template", {})


def event(resource: str, status: str, reason: str = "") -> dict[str, str]:
    ids = {"StackId": NAME, "EventId": "1", "StackName": NAME, "Timestamp": "2026-11-22"}
    said = {"ResourceStatusReason": reason} if reason else {}
    return {**ids, "LogicalResourceId": resource, "ResourceStatus": status, **said}


def test_the_first_reasons_of_a_failure_are_told(client: Any, stubber: Stubber) -> None:
    stubber.add_client_error("describe_stacks", "ValidationError", f"{NAME} does not exist")
    stubber.add_response("create_stack", {}, None)
    add_stack(stubber, "ROLLBACK_COMPLETE")
    events = [  # The newest comes first.
        event(NAME, "ROLLBACK_COMPLETE"),
        event("SourcePolicy", "CREATE_FAILED", "cancelled"),
        event("Source", "CREATE_FAILED", "that bucket is somebody else's"),
    ]
    stubber.add_response("describe_stack_events", {"StackEvents": events}, {"StackName": NAME})
    with pytest.raises(AwsError) as failure:
        CloudFormation(client).deploy(NAME, "template", {})
    text = str(failure.value)
    assert text.index("that bucket is somebody else's") < text.index("cancelled")


def test_the_reasons_of_earlier_failures_are_not_told(client: Any, stubber: Stubber) -> None:
    add_stack(stubber, "UPDATE_ROLLBACK_COMPLETE")
    stubber.add_response("update_stack", {}, None)
    add_stack(stubber, "UPDATE_ROLLBACK_COMPLETE")
    newest = [
        event(NAME, "UPDATE_ROLLBACK_COMPLETE"),
        event(NAME, "UPDATE_ROLLBACK_IN_PROGRESS", "The following resource(s) failed"),
    ]
    older = [
        event("ShardNodes", "UPDATE_FAILED", "today"),
        event("ShardNodes", "UPDATE_IN_PROGRESS", "User Initiated"),
        event("VpcCni", "UPDATE_FAILED", "earlier today"),
        event(NAME, "UPDATE_IN_PROGRESS", "User Initiated"),
        *[event("ShardNodes", "UPDATE_FAILED", "last week")] * 5,
        event(NAME, "UPDATE_IN_PROGRESS", "User Initiated"),
    ]
    first = {"StackEvents": newest, "NextToken": "more"}
    stubber.add_response("describe_stack_events", first, {"StackName": NAME})
    # There are more pages, which nobody asks for.
    second = {"StackEvents": older, "NextToken": "still more"}
    asked = {"StackName": NAME, "NextToken": "more"}
    stubber.add_response("describe_stack_events", second, asked)
    with pytest.raises(AwsError) as failure:
        CloudFormation(client).deploy(NAME, "template", {})
    assert str(failure.value).splitlines()[1:] == [
        "  VpcCni: earlier today",
        "  ShardNodes: today",
    ]


def test_a_refusal_is_told_with_the_stacks_name(client: Any, stubber: Stubber) -> None:
    add_stack(stubber, "CREATE_COMPLETE")
    stubber.add_client_error("update_stack", "AccessDenied", "you may not")
    with pytest.raises(AwsError, match=f"{NAME} cannot be deployed: .*you may not"):
        CloudFormation(client).deploy(NAME, "template", {})
