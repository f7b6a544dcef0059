"""The commands as a person has them: what they say, what they refuse, what they leave."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.stub import Stubber

from infra.aws import __main__ as commands
from infra.aws.account import Account
from infra.aws.check import ADDONS, Finding, current_cost, inspect
from infra.aws.cloudformation import CloudFormation
from infra.aws.down import take_down
from infra.aws.errors import AwsError
from infra.aws.kubectl import MANIFESTS, check_programs, prepare_cluster, run_command
from infra.aws.nodes import SHARD_NODES, find_node_group
from infra.aws.options import ClusterOptions
from infra.aws.prices import total
from infra.aws.stacks import (
    STACKS,
    Buckets,
    cluster_parameters,
    data_parameters,
    permission_parameters,
    read_template,
    stack_name,
)
from infra.aws.up import bring_up, recall_parameters
from tests.infra.aws.conftest import REGION, AnsweringAccount

SHARD_GROUP = "shards-1kx7"
"""As if CloudFormation had named it."""

pytestmark = pytest.mark.usefixtures("account", "commands_run")


@pytest.fixture
def commands_run(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """Collects the programs that would be run."""
    run: list[Sequence[str]] = []
    monkeypatch.setattr(commands, "run_command", run.append)
    monkeypatch.setattr(commands, "check_programs", lambda: None)
    return run


def stack_states(account: Account) -> dict[str, str]:
    stacks = CloudFormation(account.connect("cloudformation"))
    states = {stack: stacks.find_stack(stack_name(stack)) for stack in STACKS}
    return {stack: state.status for stack, state in states.items() if state}


def bucket_names(account: Account) -> list[str]:
    return sorted(each["Name"] for each in account.connect("s3").list_buckets()["Buckets"])


def deploy_what_moto_can_delete(account: Account) -> None:
    """Deploy all but the network: moto deletes a VPC before its subnets and fails."""
    stacks = CloudFormation(account.connect("cloudformation"))
    buckets = Buckets.from_options(ClusterOptions(), account=account.number, region=REGION)
    permissions = permission_parameters(ClusterOptions(), buckets)
    stacks.deploy(stack_name("data"), read_template("data"), data_parameters(buckets, {}) or {})
    stacks.deploy(stack_name("registry"), read_template("registry"), {})
    stacks.deploy(stack_name("permissions"), read_template("permissions"), permissions)
    state = stacks.find_stack(stack_name("permissions"))
    assert state is not None
    outputs = {"SubnetA": "subnet-a", "SubnetB": "subnet-b", **state.outputs}
    cluster = cluster_parameters(ClusterOptions(), outputs, shard_nodes=0)
    stacks.deploy(stack_name("cluster"), read_template("cluster"), cluster)
    # CloudFormation does this itself before it deletes policies, moto does not.
    iam = account.connect("iam")
    for policy in iam.list_policies(Scope="Local")["Policies"]:
        for role in iam.list_entities_for_policy(PolicyArn=policy["Arn"])["PolicyRoles"]:
            iam.detach_role_policy(RoleName=role["RoleName"], PolicyArn=policy["Arn"])


def make_nodes(account: Account, *, shards: int) -> None:
    """Make with EKS itself what moto leaves out of stacks."""
    eks = account.connect("eks")
    role = f"arn:aws:iam::{account.number}:role/nodes"
    eks.create_cluster(
        name="kaleidoscope", version="1.36", roleArn=role, resourcesVpcConfig={"subnetIds": []}
    )
    for name, types, nodes in (
        ("system", ["m6i.large"], 1),
        (SHARD_GROUP, ["c5.xlarge", "c6i.xlarge"], shards),
    ):
        eks.create_nodegroup(
            clusterName="kaleidoscope",
            nodegroupName=name,
            labels={"kaleidoscope/role": name.partition("-")[0]},
            nodeRole=role,
            subnets=[],
            instanceTypes=types,
            scalingConfig={"minSize": 0, "desiredSize": nodes, "maxSize": 10},
        )


def test_up_says_account_buckets_and_cost_and_does_nothing_unconfirmed(
    account: Account, commands_run: list[Sequence[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert commands.main(["up"]) == commands.NOT_CONFIRMED
    said = capsys.readouterr()
    assert account.number in said.out
    assert f"s3://kaleidoscope-source-{account.number}-{REGION}/" in said.out
    for component in ("control plane", "NAT", "m6i.large, on demand", "10 x shard node, spot"):
        assert component in said.out
    assert said.out.count("together, per hour") == 2
    assert "CONFIRM=yes" in said.err
    assert stack_states(account) == {}
    assert bucket_names(account) == []
    assert commands_run == []


@pytest.mark.parametrize("answer", ["", "no", "YES", "y"])
def test_only_yes_is_a_yes(account: Account, answer: str) -> None:
    assert commands.main(["up", "--confirm", answer]) == commands.NOT_CONFIRMED
    assert commands.main(["down", "--confirm", answer]) == commands.NOT_CONFIRMED
    assert stack_states(account) == {}


def test_up_deploys_all_stacks_and_prepares_the_cluster(
    account: Account, commands_run: list[Sequence[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert commands.main(["up", "--confirm", "yes"]) == 0
    assert list(stack_states(account)) == list(STACKS)
    assert bucket_names(account) == [
        f"kaleidoscope-{end}-{account.number}-{REGION}" for end in ("destination", "source")
    ]
    assert [command[0] for command in commands_run] == ["aws", "kubectl"]
    assert REGION in commands_run[0]
    assert str(MANIFESTS) in commands_run[1]
    said = capsys.readouterr().out
    assert "kubectl apply -k infra/kubernetes/overlays/aws" in said
    assert "dkr.ecr" in said


def test_up_again_leaves_the_same_and_remembers_what_was_chosen(account: Account) -> None:
    make_bucket(account, "originals")
    chosen = ["--source-bucket", "originals", "--source-prefix", "photos", "--max-shard-nodes", "4"]
    assert commands.main(["up", "--confirm", "yes", *chosen]) == 0
    stacks = CloudFormation(account.connect("cloudformation"))
    before = recall_parameters(stacks)
    assert commands.main(["up", "--confirm", "yes"]) == 0
    assert recall_parameters(stacks) == before
    assert before["SourceBucket"] == "originals"
    assert before["SourcePrefix"] == "photos/"
    assert before["MaxShardNodes"] == "4"
    assert before["CreateSource"] == "no"


def test_up_refuses_a_bucket_that_is_not_there_before_it_makes_anything(
    account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    assert commands.main(["up", "--confirm", "yes", "--source-bucket", "mistyped"]) == 1
    assert "there is no bucket mistyped" in capsys.readouterr().err
    assert stack_states(account) == {}


def make_bucket(account: Account, name: str) -> None:
    account.connect("s3").create_bucket(
        Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION}
    )


@pytest.mark.parametrize("is_named", [False, True])
def test_up_uses_an_own_bucket_that_outlived_its_stack(account: Account, is_named: bool) -> None:  # noqa: FBT001 - a case.
    source = f"kaleidoscope-source-{account.number}-{REGION}"
    make_bucket(account, source)
    chosen = ["--source-bucket", source] if is_named else []
    for _ in range(2):
        assert commands.main(["up", "--confirm", "yes", *chosen]) == 0
        parameters = recall_parameters(CloudFormation(account.connect("cloudformation")))
        assert parameters["SourceBucket"] == source
        assert (parameters["CreateSource"], parameters["CreateDestination"]) == ("no", "yes")


def test_up_makes_no_data_stack_where_both_own_buckets_outlived_it(account: Account) -> None:
    for end in ("source", "destination"):
        make_bucket(account, f"kaleidoscope-{end}-{account.number}-{REGION}")
    assert commands.main(["up", "--confirm", "yes"]) == 0
    assert "data" not in stack_states(account)


def test_a_stack_that_never_came_to_be_is_remembered_without_its_buckets() -> None:
    client = botocore.session.Session().create_client("cloudformation", region_name=REGION)
    state = {
        "StackName": "kaleidoscope-data",
        "CreationTime": "2026-11-22",
        "StackStatus": "ROLLBACK_COMPLETE",
        "Parameters": [
            {"ParameterKey": "CreateSource", "ParameterValue": "yes"},
            {"ParameterKey": "MaxShardNodes", "ParameterValue": "4"},
        ],
    }
    with Stubber(client) as answers:
        for _ in STACKS:
            answers.add_response("describe_stacks", {"Stacks": [state]}, None)
        assert recall_parameters(CloudFormation(client)) == {"MaxShardNodes": "4"}


def test_an_update_keeps_the_shard_nodes_that_are_at_work(account: Account) -> None:
    make_nodes(account, shards=7)
    bring_up(account, ClusterOptions(), {}, prepare=lambda: None, say=lambda _: None)
    stacks = CloudFormation(account.connect("cloudformation"))
    assert recall_parameters(stacks)["CurrentShardNodes"] == "7"


def test_the_shard_nodes_that_stay_are_found_while_others_leave(account: Account) -> None:
    make_nodes(account, shards=7)
    eks = account.connect("eks")
    found = eks.describe_nodegroup(clusterName="kaleidoscope", nodegroupName=SHARD_GROUP)
    stays = found["nodegroup"]
    leaves = {**stays, "nodegroupName": "shards-0old", "status": "DELETING"}
    client = botocore.session.Session().create_client("eks", region_name=REGION)
    for groups in ([leaves, stays], [stays, leaves]):
        with Stubber(client) as answers:
            names = [group["nodegroupName"] for group in groups]
            answers.add_response("list_nodegroups", {"nodegroups": names}, None)
            for group in groups:
                answers.add_response("describe_nodegroup", {"nodegroup": group}, None)
            seen = find_node_group(client, SHARD_NODES)
        assert seen is not None
        assert seen.name == SHARD_GROUP


def test_up_changes_the_types_of_shard_nodes_and_refuses_another_for_the_node_that_stays(
    account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    assert commands.main(["up", "--confirm", "yes", "--system-instance-type", "m7i.large"]) == 0
    other = ["--shard-instance-types", "c7i.xlarge"]
    assert commands.main(["up", "--confirm", "yes", *other]) == 0
    stacks = CloudFormation(account.connect("cloudformation"))
    before = recall_parameters(stacks)
    assert before["ShardInstanceTypes"] == "c7i.xlarge"
    assert commands.main(["up", "--confirm", "yes", "--system-instance-type", "m6i.large"]) == 1
    assert "is of type m7i.large" in capsys.readouterr().err
    assert recall_parameters(stacks) == before


def test_down_removes_all_but_the_data(
    account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    deploy_what_moto_can_delete(account)
    source = f"kaleidoscope-source-{account.number}-{REGION}"
    s3 = account.connect("s3")
    s3.put_object(Bucket=source, Key="rex.jpg", Body=b"pixels")
    assert commands.main(["down"]) == commands.NOT_CONFIRMED
    assert list(stack_states(account)) == ["data", "registry", "permissions", "cluster"]
    assert commands.main(["down", "--confirm", "yes"]) == 0
    assert list(stack_states(account)) == ["data"]
    assert s3.get_object(Bucket=source, Key="rex.jpg")["Body"].read() == b"pixels"
    said = capsys.readouterr().out
    assert "No bucket is emptied or deleted" in said
    assert said.index("kaleidoscope-cluster: gone") < said.index("kaleidoscope-permissions: gone")


def test_down_may_be_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(["down", "--confirm", "yes"]) == 0
    assert "kaleidoscope-cluster: was not there" in capsys.readouterr().out


def test_after_down_the_cluster_comes_up_with_the_same_data(account: Account) -> None:
    deploy_what_moto_can_delete(account)
    buckets = bucket_names(account)
    assert commands.main(["down", "--confirm", "yes"]) == 0
    assert commands.main(["up", "--confirm", "yes"]) == 0
    assert bucket_names(account) == buckets
    assert list(stack_states(account)) == list(STACKS)


def test_down_deletes_the_clusters_left_over_volumes_and_no_others(account: Account) -> None:
    ec2 = account.connect("ec2")

    def make_volume(value: str) -> str:
        tags = [{"Key": "kaleidoscope", "Value": value}]
        volume: str = ec2.create_volume(
            Size=1,
            AvailabilityZone=f"{REGION}a",
            TagSpecifications=[{"ResourceType": "volume", "Tags": tags}],
        )["VolumeId"]
        return volume

    ours, other = make_volume("volume"), make_volume("node")
    take_down(account, lambda _: None)
    left = [each["VolumeId"] for each in ec2.describe_volumes()["Volumes"]]
    assert other in left
    assert ours not in left


def test_check_of_an_empty_account_finds_nothing_and_no_cost(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert commands.main(["check"]) == 1
    said = capsys.readouterr().out
    assert "DOWN  stack kaleidoscope-cluster: not there" in said
    assert "nothing to pay by hour" in said


def check_stubbed(
    account: Account, *, addon: str = "ACTIVE", decision: str = "allowed", identity: bool = True
) -> dict[str, Finding]:
    """Look at a cluster that is up, with answers for what moto does not know."""
    make_nodes(account, shards=3)
    bring_up(account, ClusterOptions(), {}, prepare=lambda: None, say=lambda _: None)
    known = account.connect("eks")
    session = botocore.session.Session()
    eks, iam = (session.create_client(name, region_name=REGION) for name in ("eks", "iam"))
    with Stubber(eks) as eks_answers, Stubber(iam) as iam_answers:
        cluster = {"status": "ACTIVE", "version": "1.36"}
        eks_answers.add_response("describe_cluster", {"cluster": cluster}, None)
        groups = ("system", SHARD_GROUP)
        for _ in groups:
            eks_answers.add_response("list_nodegroups", {"nodegroups": groups}, None)
            for name in groups:
                found = known.describe_nodegroup(clusterName="kaleidoscope", nodegroupName=name)
                answer = {"nodegroup": found["nodegroup"]}
                eks_answers.add_response("describe_nodegroup", answer, None)
        for name in ADDONS:
            answer = {"addon": {"addonName": name, "status": addon}}
            eks_answers.add_response("describe_addon", answer, None)
        associations: list[dict[str, Any]] = [{"associationId": "a-1"}] if identity else []
        eks_answers.add_response(
            "list_pod_identity_associations",
            {"associations": associations},
            {
                "clusterName": "kaleidoscope",
                "namespace": "kaleidoscope-runs",
                "serviceAccount": "kaleidoscope-run",
            },
        )
        for _ in ("source", "destination"):
            results = [{"EvalActionName": "s3:GetObject", "EvalDecision": decision}]
            answer = {"EvaluationResults": results}
            iam_answers.add_response("simulate_principal_policy", answer, None)
        seen = AnsweringAccount.wrap(account, {"eks": eks, "iam": iam})
        return {finding.what: finding for finding in inspect(seen)}


def test_check_of_a_cluster_that_is_up_is_all_good(account: Account) -> None:
    findings = check_stubbed(account)
    assert [each for each in findings.values() if not each.is_good] == []
    assert "3 nodes of 0 to 10" in findings["nodes shards"].detail
    assert "free way to S3" in findings
    assert f"source bucket kaleidoscope-source-{account.number}-{REGION}" in findings


@pytest.mark.parametrize(
    ("trouble", "what"),
    [
        ({"addon": "DEGRADED"}, "add-on coredns"),
        ({"decision": "implicitDeny"}, "shard pods may GetObject"),
        ({"identity": False}, "role of service account kaleidoscope-runs/kaleidoscope-run"),
    ],
)
def test_check_names_what_is_wrong(account: Account, trouble: dict[str, Any], what: str) -> None:
    findings = check_stubbed(account, **trouble)
    assert not findings[what].is_good
    assert findings["control plane"].is_good


def test_check_reckons_with_the_nodes_that_there_are(account: Account) -> None:
    make_nodes(account, shards=0)
    idle = total(current_cost(account)).low
    account.connect("eks").update_nodegroup_config(
        clusterName="kaleidoscope", nodegroupName=SHARD_GROUP, scalingConfig={"desiredSize": 6}
    )
    assert total(current_cost(account)).low > idle > 0.19


def test_kubectl_is_told_which_cluster_it_works_on() -> None:
    run: list[Sequence[str]] = []
    prepare_cluster(REGION, run.append)
    login, apply = run
    assert login[:3] == ["aws", "eks", "update-kubeconfig"]
    assert apply[:3] == ["kubectl", "--context", "kaleidoscope"]


def test_missing_programs_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AwsError, match=r"the AWS CLI.* and kubectl"):
        check_programs()


def test_a_program_that_fails_is_named() -> None:
    with pytest.raises(AwsError, match="exit status 3"):
        run_command([sys.executable, "-c", "raise SystemExit(3)"])


def test_without_a_region_nothing_is_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("AWS_REGION")
    assert commands.main(["check"]) == 1
    assert "--region" in capsys.readouterr().err
