"""What the templates promise, and that they agree with the manifests that rely on them."""

import json
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from infra.aws.account import Account
from infra.aws.cloudformation import CloudFormation
from infra.aws.nodes import ROLE_LABEL, SHARD_NODES, SYSTEM_NODES
from infra.aws.prices import NODE_DISK_GB, ON_DEMAND
from infra.aws.stacks import CLUSTER_NAME, STACKS, TEMPLATES, read_template, stack_name
from tests.infra.aws.conftest import load_job_template, load_manifests, load_template

REGIONS = ("us-east-1", "eu-central-1", "ap-southeast-2")
AUTOSCALER = "infra/aws/kubernetes/autoscaler.yaml"
TAINT_EFFECTS = {"NO_SCHEDULE": "NoSchedule", "NO_EXECUTE": "NoExecute"}
"""As EKS writes them, and as Kubernetes does."""


def resources(stack: str, kind: str) -> dict[str, dict[str, Any]]:
    """Return the resources of a kind by their names."""
    found = load_template(stack)["Resources"].items()
    return {name: each for name, each in found if each["Type"] == kind}


def load_deployment() -> dict[str, Any]:
    (deployment,) = (each for each in load_manifests(AUTOSCALER) if each["kind"] == "Deployment")
    spec: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return spec


def is_tolerated(taint: dict[str, str], tolerations: list[dict[str, str]]) -> bool:
    """Say whether a taint of EKS is tolerated, by the rules of Kubernetes."""
    return any(
        each.get("key") in {None, taint["Key"]}
        and each.get("effect") in {None, TAINT_EFFECTS[taint["Effect"]]}
        and (each.get("operator") == "Exists" or each.get("value") == taint["Value"])
        for each in tolerations
    )


def test_templates_pass_cfn_lint_in_regions_old_and_new() -> None:
    linter = Path(sysconfig.get_path("scripts")) / "cfn-lint"
    templates = [str(TEMPLATES / f"{stack}.yaml") for stack in STACKS]
    command = [str(linter), "--regions", *REGIONS, "--template", *templates]
    linted = subprocess.run(command, capture_output=True, text=True, check=False)
    assert linted.returncode == 0, linted.stdout + linted.stderr


def test_every_template_is_a_stack() -> None:
    assert {path.stem for path in TEMPLATES.iterdir()} == set(STACKS)


@pytest.mark.parametrize("bucket", ["Source", "Destination"])
def test_a_bucket_is_private_encrypted_and_owned_by_its_owner_alone(bucket: str) -> None:
    properties = resources("data", "AWS::S3::Bucket")[bucket]["Properties"]
    assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(properties["PublicAccessBlockConfiguration"]) == 4
    (encryption,) = properties["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert encryption["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    assert properties["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]


@pytest.mark.parametrize("bucket", ["Source", "Destination"])
def test_a_bucket_forgets_failed_uploads_and_replaced_versions(bucket: str) -> None:
    properties = resources("data", "AWS::S3::Bucket")[bucket]["Properties"]
    rules = properties["LifecycleConfiguration"]["Rules"]
    assert {rule["Status"] for rule in rules} == {"Enabled"}
    # Nothing that is current ever expires, and no rule is for a part of the bucket only.
    assert not any({"ExpirationInDays", "ExpirationDate", "Prefix"} & set(rule) for rule in rules)
    (abort,) = (rule for rule in rules if "AbortIncompleteMultipartUpload" in rule)
    assert abort["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}
    assert any("NoncurrentVersionExpiration" in rule for rule in rules)


@pytest.mark.parametrize("bucket", ["Source", "Destination"])
def test_a_bucket_refuses_whoever_comes_without_tls(bucket: str) -> None:
    policy = resources("data", "AWS::S3::BucketPolicy")[f"{bucket}Policy"]["Properties"]
    assert policy["Bucket"] == {"Ref": bucket}
    (statement,) = policy["PolicyDocument"]["Statement"]
    assert statement["Effect"] == "Deny"
    assert (statement["Principal"], statement["Action"]) == ("*", "s3:*")
    assert statement["Resource"] == [
        {"Fn::GetAtt": f"{bucket}.Arn"},
        {"Fn::Sub": f"${{{bucket}.Arn}}/*"},
    ]
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_sources_that_are_replaced_can_be_had_back() -> None:
    source = resources("data", "AWS::S3::Bucket")["Source"]["Properties"]
    assert source["VersioningConfiguration"] == {"Status": "Enabled"}


def test_data_outlives_its_stack() -> None:
    for name, resource in load_template("data")["Resources"].items():
        assert resource["UpdateReplacePolicy"] == "Retain", name
        # But not a creation that failed, or the next one would find the names taken.
        assert resource["DeletionPolicy"] == "RetainExceptOnCreate", name


def test_images_are_scanned_fixed_and_few(account: Account, stacks: CloudFormation) -> None:
    stacks.deploy(stack_name("registry"), read_template("registry"), {})
    ecr = account.connect("ecr")
    (repository,) = ecr.describe_repositories()["repositories"]
    assert repository["imageTagMutability"] == "IMMUTABLE"
    properties = resources("registry", "AWS::ECR::Repository")["Repository"]["Properties"]
    assert properties["ImageScanningConfiguration"] == {"ScanOnPush": True}
    rules = json.loads(properties["LifecyclePolicy"]["LifecyclePolicyText"])["rules"]
    assert [rule["action"]["type"] for rule in rules] == ["expire", "expire"]


def test_traffic_to_s3_leaves_by_the_free_endpoint(
    account: Account, stacks: CloudFormation
) -> None:
    stacks.deploy(stack_name("network"), read_template("network"), {})
    ec2 = account.connect("ec2")
    (endpoint,) = ec2.describe_vpc_endpoints()["VpcEndpoints"]
    assert endpoint["VpcEndpointType"] == "Gateway"
    assert endpoint["ServiceName"] == f"com.amazonaws.{account.region}.s3"
    state = stacks.find_stack(stack_name("network"))
    assert state is not None
    subnets = [state.outputs["SubnetA"], state.outputs["SubnetB"]]
    found = ec2.describe_subnets(SubnetIds=subnets)["Subnets"]
    assert len({each["AvailabilityZone"] for each in found}) == 2
    (table,) = resources("network", "AWS::EC2::RouteTable")
    ways = resources("network", "AWS::EC2::SubnetRouteTableAssociation").values()
    assert [each["Properties"] for each in ways] == [
        {"RouteTableId": {"Ref": table}, "SubnetId": {"Ref": subnet}}
        for subnet in ("SubnetA", "SubnetB")
    ]
    assert ec2.describe_nat_gateways()["NatGateways"] == []


def test_shard_nodes_are_spot_of_many_types_and_none_at_rest() -> None:
    group = resources("cluster", "AWS::EKS::Nodegroup")["ShardNodes"]["Properties"]
    assert group["CapacityType"] == "SPOT"
    assert group["ScalingConfig"]["MinSize"] == 0
    assert group["ScalingConfig"]["DesiredSize"] == {"Ref": "CurrentShardNodes"}
    parameters = load_template("cluster")["Parameters"]
    assert parameters["CurrentShardNodes"]["Default"] == 0
    types = parameters["ShardInstanceTypes"]["Default"].split(",")
    assert len(types) >= 5
    # Equal in size, and with a price to announce.
    assert {each.partition(".")[2] for each in types} == {"xlarge"}
    assert {each[0] for each in types} == {"c"}
    assert set(types) <= set(ON_DEMAND)


def test_only_a_group_without_a_name_can_get_other_instance_types() -> None:
    groups = resources("cluster", "AWS::EKS::Nodegroup")
    assert "NodegroupName" not in groups["ShardNodes"]["Properties"]
    for name, role in (("ShardNodes", SHARD_NODES), ("SystemNodes", SYSTEM_NODES)):
        assert groups[name]["Properties"]["Labels"] == {ROLE_LABEL: role}


def test_shard_pods_tolerate_the_taint_of_shard_nodes() -> None:
    groups = resources("cluster", "AWS::EKS::Nodegroup")
    (taint,) = groups["ShardNodes"]["Properties"]["Taints"]
    assert TAINT_EFFECTS[taint["Effect"]] == "NoSchedule"
    assert is_tolerated(taint, load_job_template()["tolerations"])
    assert "Taints" not in groups["SystemNodes"]["Properties"]


def test_pods_without_a_toleration_stay_off_shard_nodes() -> None:
    taint = {"Key": "kaleidoscope/spot", "Value": "true", "Effect": "NO_SCHEDULE"}
    assert not is_tolerated(taint, [])
    other = {"key": "kaleidoscope/other", "operator": "Exists", "effect": "NoSchedule"}
    assert not is_tolerated(taint, [other])


def test_the_autoscaler_knows_an_empty_group_by_its_tags() -> None:
    group = resources("cluster", "AWS::EKS::Nodegroup")["ShardNodes"]["Properties"]
    prefix = "k8s.io/cluster-autoscaler/node-template/"
    tags = {key.removeprefix(prefix): value for key, value in group["Tags"].items()}
    for label, value in group["Labels"].items():
        assert tags[f"label/{label}"] == value
    for taint in group["Taints"]:
        effect = TAINT_EFFECTS[taint["Effect"]]
        assert tags[f"taint/{taint['Key']}"] == f"{taint['Value']}:{effect}"
    disk_gib = int(tags["resources/ephemeral-storage"].removesuffix("Gi"))
    assert disk_gib < NODE_DISK_GB


def test_the_autoscaler_is_of_the_clusters_version_and_finds_its_groups() -> None:
    container = load_deployment()["containers"][0]
    version = load_template("cluster")["Parameters"]["KubernetesVersion"]["Default"]
    assert container["image"].partition(":v")[2].startswith(f"{version}.")
    (discovery,) = (each for each in container["command"] if "auto-discovery" in each)
    assert f"k8s.io/cluster-autoscaler/{CLUSTER_NAME}" in discovery.split(",")
    assert load_template("cluster")["Parameters"]["ClusterName"]["Default"] == CLUSTER_NAME


def test_the_autoscaler_runs_on_nodes_that_it_does_not_take_away() -> None:
    groups = resources("cluster", "AWS::EKS::Nodegroup")
    assert load_deployment()["nodeSelector"] == groups["SystemNodes"]["Properties"]["Labels"]
    # One, whatever waits: the autoscaler cannot buy another at the full price.
    scaling = groups["SystemNodes"]["Properties"]["ScalingConfig"]
    assert scaling == {"MinSize": 1, "DesiredSize": 1, "MaxSize": 1}


def test_identities_are_for_the_service_accounts_that_pods_have() -> None:
    job = load_job_template()
    parameters = load_template("cluster")["Parameters"]
    assert parameters["Namespace"]["Default"] == job["namespace"]
    assert parameters["ShardServiceAccount"]["Default"] == job["service_account_name"]
    associations = resources("cluster", "AWS::EKS::PodIdentityAssociation")
    owners = [each["Properties"]["ServiceAccount"] for each in associations.values()]
    # Nobody else, workers and Prefect's server in particular, has a role.
    assert owners == [
        {"Ref": "ShardServiceAccount"},
        {"Ref": "ParentServiceAccount"},
        "cluster-autoscaler",
    ]


@pytest.mark.parametrize("name", ["Namespace", "ShardServiceAccount", "ParentServiceAccount"])
def test_permissions_and_cluster_mean_the_same_pods(name: str) -> None:
    permissions, cluster = load_template("permissions"), load_template("cluster")
    assert permissions["Parameters"][name] | {"Description": ""} == cluster["Parameters"][name] | {
        "Description": ""
    }


def test_pods_cannot_reach_the_role_of_their_node() -> None:
    (template,) = resources("cluster", "AWS::EC2::LaunchTemplate").values()
    metadata = template["Properties"]["LaunchTemplateData"]["MetadataOptions"]
    assert metadata == {"HttpTokens": "required", "HttpPutResponseHopLimit": 1}
    for group in resources("cluster", "AWS::EKS::Nodegroup").values():
        assert group["Properties"]["LaunchTemplate"]["Id"] == {"Ref": "NodeTemplate"}


def test_disks_of_nodes_are_encrypted_and_as_large_as_is_reckoned_with() -> None:
    (template,) = resources("cluster", "AWS::EC2::LaunchTemplate").values()
    (disk,) = template["Properties"]["LaunchTemplateData"]["BlockDeviceMappings"]
    assert disk["Ebs"]["Encrypted"] is True
    assert disk["Ebs"]["VolumeSize"] == NODE_DISK_GB


def test_the_cluster_never_slips_into_paid_support() -> None:
    (cluster,) = resources("cluster", "AWS::EKS::Cluster").values()
    assert cluster["Properties"]["UpgradePolicy"] == {"SupportType": "STANDARD"}


def test_network_policies_are_enforced() -> None:
    cni = resources("cluster", "AWS::EKS::Addon")["VpcCni"]["Properties"]
    assert json.loads(cni["ConfigurationValues"]) == {"enableNetworkPolicy": "true"}


def test_nodes_wait_for_what_makes_them_ready() -> None:
    for group in resources("cluster", "AWS::EKS::Nodegroup").values():
        assert set(group["DependsOn"]) == {"VpcCni", "KubeProxy"}
    assert resources("cluster", "AWS::EKS::Addon")["VpcCni"]["DependsOn"] == "PodIdentityAgent"


def test_the_database_and_its_node_stay_in_one_zone() -> None:
    groups = resources("cluster", "AWS::EKS::Nodegroup")
    assert groups["SystemNodes"]["Properties"]["Subnets"] == [{"Ref": "SubnetA"}]
    assert len(groups["ShardNodes"]["Properties"]["Subnets"]) == 2
