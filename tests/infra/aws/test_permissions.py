"""What each role may do and what it may not, tried on the policies as they are deployed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from infra.aws.account import Account
from infra.aws.cloudformation import CloudFormation
from infra.aws.options import ClusterOptions
from infra.aws.stacks import Buckets, permission_parameters, read_template, stack_name
from tests.infra.aws.conftest import REGION, load_job_template, load_template
from tests.infra.aws.iam_evaluation import Request, is_allowed

OPTIONS = ClusterOptions(
    source_bucket="originals",
    source_prefix="photos/",
    destination_bucket="results",
    destination_prefix="images/",
)
ACCOUNT = "123456789012"
S3 = "arn:aws:s3:::"
GROUP = f"arn:aws:autoscaling:{REGION}:{ACCOUNT}:autoScalingGroup:0:autoScalingGroupName/eks-shards"
PLAN = f"{S3}results/images/_kaleidoscope/runs/20260101/plan/plan.json"
OURS = {"aws:ResourceTag/eks:cluster-name": "kaleidoscope"}

REQUESTS = [
    # What shards do.
    ("Shard", "s3:ListBucket", f"{S3}originals", {"s3:prefix": "photos/"}, True),
    ("Shard", "s3:ListBucket", f"{S3}originals", {"s3:prefix": "photos/dogs/"}, True),
    ("Shard", "s3:GetObject", f"{S3}originals/photos/dogs/rex.jpg", {}, True),
    ("Shard", "s3:ListBucket", f"{S3}results", {"s3:prefix": "images/_kaleidoscope/"}, True),
    ("Shard", "s3:GetObject", PLAN, {}, True),
    ("Shard", "s3:PutObject", f"{S3}results/images/dogs/rex-1f3a9c2b-ac.jpg", {}, True),
    ("Shard", "s3:AbortMultipartUpload", f"{S3}results/images/shard-000001.tar", {}, True),
    ("Shard", "s3:ListMultipartUploadParts", f"{S3}results/images/shard-000001.tar", {}, True),
    # The source is read and no more.
    ("Shard", "s3:PutObject", f"{S3}originals/photos/dogs/rex.jpg", {}, False),
    ("Shard", "s3:DeleteObject", f"{S3}originals/photos/dogs/rex.jpg", {}, False),
    ("Shard", "s3:DeleteObjectVersion", f"{S3}originals/photos/dogs/rex.jpg", {}, False),
    ("Shard", "s3:AbortMultipartUpload", f"{S3}originals/photos/dogs/rex.jpg", {}, False),
    # Nothing beside the prefixes, and a prefix is whole folders.
    ("Shard", "s3:GetObject", f"{S3}originals/private/rex.jpg", {}, False),
    ("Shard", "s3:GetObject", f"{S3}originals/photos-private/rex.jpg", {}, False),
    ("Shard", "s3:ListBucket", f"{S3}originals", {"s3:prefix": "private/"}, False),
    ("Shard", "s3:ListBucket", f"{S3}originals", {"s3:prefix": ""}, False),
    ("Shard", "s3:ListBucket", f"{S3}originals", {}, False),
    ("Shard", "s3:PutObject", f"{S3}results/other/rex.jpg", {}, False),
    ("Shard", "s3:ListBucket", f"{S3}results", {"s3:prefix": "other/"}, False),
    # No other bucket, although its name begins the same.
    ("Shard", "s3:GetObject", f"{S3}originals-2/photos/rex.jpg", {}, False),
    ("Shard", "s3:PutObject", f"{S3}results-2/images/rex.jpg", {}, False),
    ("Shard", "s3:ListAllMyBuckets", "*", {}, False),
    # What is made stays, and the bucket as it is.
    ("Shard", "s3:DeleteObject", f"{S3}results/images/dogs/rex-1f3a9c2b-ac.jpg", {}, False),
    ("Shard", "s3:DeleteObject", PLAN, {}, False),
    ("Shard", "s3:DeleteBucket", f"{S3}results", {}, False),
    ("Shard", "s3:PutBucketPolicy", f"{S3}results", {}, False),
    ("Shard", "s3:PutObjectAcl", f"{S3}results/images/rex.jpg", {}, False),
    ("Shard", "s3:PutLifecycleConfiguration", f"{S3}results", {}, False),
    ("Shard", "s3:BypassGovernanceRetention", f"{S3}results/images/rex.jpg", {}, False),
    # Nothing but S3.
    ("Shard", "sts:AssumeRole", f"arn:aws:iam::{ACCOUNT}:role/admin", {}, False),
    ("Shard", "iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/admin", {}, False),
    ("Shard", "ec2:RunInstances", "*", {}, False),
    ("Shard", "ecr:GetAuthorizationToken", "*", {}, False),
    ("Shard", "kms:Decrypt", "*", {}, False),
    ("Shard", "autoscaling:SetDesiredCapacity", GROUP, OURS, False),
    # Parents do what shards do, and may withdraw a plan.
    ("Parent", "s3:ListBucket", f"{S3}originals", {"s3:prefix": "photos/"}, True),
    ("Parent", "s3:PutObject", f"{S3}results/images/_kaleidoscope/runs/1/_SUCCESS", {}, True),
    ("Parent", "s3:DeleteObject", PLAN, {}, True),
    ("Parent", "s3:DeleteObjectVersion", PLAN, {}, False),
    ("Parent", "s3:DeleteObject", f"{S3}results/images/metadata.parquet", {}, True),
    ("Parent", "s3:DeleteObject", f"{S3}results/images/dogs/metadata.parquet", {}, False),
    ("Parent", "s3:DeleteObject", f"{S3}results/images/dogs/rex-1f3a9c2b-ac.jpg", {}, False),
    ("Parent", "s3:DeleteObject", f"{S3}results/images/_kaleidoscope/runs/1/_SUCCESS", {}, False),
    ("Parent", "s3:DeleteObject", f"{S3}originals/photos/dogs/rex.jpg", {}, False),
    ("Parent", "s3:PutObject", f"{S3}originals/photos/dogs/rex.jpg", {}, False),
    # The autoscaler scales the groups of this cluster.
    ("Autoscaler", "autoscaling:DescribeAutoScalingGroups", "*", {}, True),
    ("Autoscaler", "autoscaling:SetDesiredCapacity", GROUP, OURS, True),
    ("Autoscaler", "autoscaling:TerminateInstanceInAutoScalingGroup", GROUP, OURS, True),
    (
        "Autoscaler",
        "eks:DescribeNodegroup",
        f"arn:aws:eks:{REGION}:{ACCOUNT}:nodegroup/kaleidoscope/shards/0",
        {},
        True,
    ),
    (
        "Autoscaler",
        "eks:DescribeNodegroup",
        f"arn:aws:eks:{REGION}:{ACCOUNT}:nodegroup/other/shards/0",
        {},
        False,
    ),
    ("Autoscaler", "autoscaling:SetDesiredCapacity", GROUP, {}, False),
    (
        "Autoscaler",
        "autoscaling:SetDesiredCapacity",
        GROUP,
        {"aws:ResourceTag/eks:cluster-name": "other"},
        False,
    ),
    ("Autoscaler", "autoscaling:UpdateAutoScalingGroup", GROUP, OURS, False),
    ("Autoscaler", "autoscaling:CreateAutoScalingGroup", GROUP, OURS, False),
    ("Autoscaler", "ec2:RunInstances", "*", {}, False),
    ("Autoscaler", "s3:GetObject", f"{S3}originals/photos/dogs/rex.jpg", {}, False),
]

MANAGED = {
    "Shard": set(),
    "Parent": set(),
    "Autoscaler": set(),
    "Cluster": {"AmazonEKSClusterPolicy"},
    "Node": {"AmazonEKSWorkerNodePolicy", "AmazonEC2ContainerRegistryPullOnly"},
    "Cni": {"AmazonEKS_CNI_Policy"},
    "Csi": {"AmazonEBSCSIDriverPolicy"},
}
"""Policies of AWS that roles have beside their own."""


@dataclass(frozen=True, slots=True)
class Roles:
    """The roles as they are after a deployment."""

    account: Account
    arns: Mapping[str, str]

    @classmethod
    def deploy(cls, account: Account, options: ClusterOptions) -> "Roles":
        stacks = CloudFormation(account.connect("cloudformation"))
        buckets = Buckets.from_options(options, account=account.number, region=REGION)
        name = stack_name("permissions")
        parameters = permission_parameters(options, buckets)
        stacks.deploy(name, read_template("permissions"), parameters)
        state = stacks.find_stack(name)
        assert state is not None
        return cls(account, state.outputs)

    def read_policies(self, role: str) -> list[dict[str, Any]]:
        """Return the documents of a role's policies; moto attaches ours only."""
        iam = self.account.connect("iam")
        name = self._name(role)
        assert not iam.list_role_policies(RoleName=name)["PolicyNames"]
        policies = []
        for attached in iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]:
            arn = attached["PolicyArn"]
            version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
            found = iam.get_policy_version(PolicyArn=arn, VersionId=version)
            policies.append(found["PolicyVersion"]["Document"])
        return policies

    def read_trust(self, role: str) -> dict[str, Any]:
        found = self.account.connect("iam").get_role(RoleName=self._name(role))
        trust: dict[str, Any] = found["Role"]["AssumeRolePolicyDocument"]
        return trust

    def _name(self, role: str) -> str:
        return self.arns[f"{role}Role"].rpartition("/")[2]


@pytest.fixture
def roles(account: Account) -> Roles:
    return Roles.deploy(account, OPTIONS)


def ask_for_role(namespace: str, service_account: str, cluster: str = "kaleidoscope") -> Request:
    """Return what EKS asks STS on behalf of a pod."""
    return Request(
        "sts:AssumeRole",
        context={
            "aws:RequestTag/eks-cluster-arn": f"arn:aws:eks:{REGION}:{ACCOUNT}:cluster/{cluster}",
            "aws:RequestTag/kubernetes-namespace": namespace,
            "aws:RequestTag/kubernetes-service-account": service_account,
        },
    )


def test_roles_may_do_what_the_table_says_and_nothing_else_of_it(roles: Roles) -> None:
    policies = {role: roles.read_policies(role) for role in MANAGED}
    wrong = [
        f"{role}: {action} on {resource} with {context} should be {wanted}"
        for role, action, resource, context, wanted in REQUESTS
        if is_allowed(policies[role], Request(action, resource, context)) is not wanted
    ]
    assert not wrong


def test_a_bucket_without_a_prefix_may_be_used_as_a_whole(account: Account) -> None:
    policies = Roles.deploy(account, ClusterOptions(source_bucket="originals")).read_policies(
        "Shard"
    )
    own = f"{S3}kaleidoscope-destination-{ACCOUNT}-{REGION}"
    assert is_allowed(policies, Request("s3:GetObject", f"{S3}originals/rex.jpg"))
    assert is_allowed(policies, Request("s3:ListBucket", f"{S3}originals", {"s3:prefix": ""}))
    assert is_allowed(policies, Request("s3:PutObject", f"{own}/rex.jpg"))
    assert not is_allowed(policies, Request("s3:PutObject", f"{S3}originals/rex.jpg"))
    assert not is_allowed(policies, Request("s3:DeleteObject", f"{own}/rex.jpg"))


def test_no_role_has_other_policies_of_aws_than_those_known(roles: Roles) -> None:
    assert {role.removesuffix("Role") for role in roles.arns} == set(MANAGED)
    for role, wanted in MANAGED.items():
        template = load_template("permissions")["Resources"][f"{role}Role"]["Properties"]
        arns = [each["Fn::Sub"] for each in template.get("ManagedPolicyArns", ())]
        assert {arn.rpartition("/")[2] for arn in arns} == wanted


def test_each_role_of_pods_is_for_one_service_account(roles: Roles) -> None:
    job = load_job_template()
    runs = job["namespace"]
    owners = {
        "Shard": (runs, job["service_account_name"]),
        "Parent": (runs, "kaleidoscope-augment"),
        "Autoscaler": ("kube-system", "cluster-autoscaler"),
        "Cni": ("kube-system", "aws-node"),
        "Csi": ("kube-system", "ebs-csi-controller-sa"),
    }
    others = [(runs, "default"), ("kaleidoscope", "kaleidoscope-worker"), ("default", "default")]
    for role, owner in owners.items():
        trust = [roles.read_trust(role)]
        for pod in [*owners.values(), *others]:
            assert is_allowed(trust, ask_for_role(*pod)) is (pod == owner), (role, pod)
        assert not is_allowed(trust, ask_for_role(*owner, cluster="other"))
        assert trust[0]["Statement"][0]["Principal"] == {"Service": "pods.eks.amazonaws.com"}


def test_only_aws_itself_has_the_roles_of_nodes_and_control_plane(roles: Roles) -> None:
    for role, service in (("Node", "ec2.amazonaws.com"), ("Cluster", "eks.amazonaws.com")):
        statements = roles.read_trust(role)["Statement"]
        assert [each["Principal"] for each in statements] == [{"Service": service}]


def test_the_evaluation_refuses_what_it_does_not_understand() -> None:
    statement: dict[str, Any] = {"Effect": "Allow", "NotAction": "s3:*", "Resource": "*"}
    with pytest.raises(AssertionError, match="not understood"):
        is_allowed([{"Statement": statement}], Request("s3:GetObject"))
    statement = {
        "Effect": "Allow",
        "Action": "s3:*",
        "Resource": "*",
        "Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}},
    }
    with pytest.raises(AssertionError, match="not understood"):
        is_allowed([{"Statement": statement}], Request("s3:GetObject"))


def test_the_evaluation_lets_a_denial_win() -> None:
    allow = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
    deny = {"Effect": "Deny", "Action": "S3:getobject", "Resource": "arn:aws:s3:::b/*"}
    policies: list[dict[str, Any]] = [{"Statement": allow}, {"Statement": [deny]}]
    assert is_allowed(policies, Request("s3:PutObject", "arn:aws:s3:::b/key"))
    assert not is_allowed(policies, Request("s3:GetObject", "arn:aws:s3:::b/key"))
