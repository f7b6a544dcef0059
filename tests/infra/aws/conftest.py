"""An account that moto makes up, and the stacks that it can deploy."""

import json
import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import botocore.session
import pytest
import yaml
from moto import mock_aws
from moto.eks.models import EKSBackend

from infra.aws.account import Account
from infra.aws.cloudformation import CloudFormation
from infra.aws.stacks import TEMPLATES

REGION = "eu-central-1"
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module", autouse=True)
def aws_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Credentials that are good for nothing, and no file of the person who runs the tests."""
    empty = tmp_path_factory.mktemp("aws")
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        monkeypatch.setenv("AWS_REGION", REGION)
        monkeypatch.setenv("AWS_CONFIG_FILE", str(empty / "config"))
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(empty / "credentials"))
        yield


def list_nodegroups(
    backend: EKSBackend, cluster_name: str, max_results: int, next_token: str | None
) -> tuple[list[str], None]:
    """Refuse a cluster that is not there, as EKS does; moto falls over it."""
    del max_results, next_token
    return list(backend.describe_cluster(cluster_name).nodegroups), None


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    """A new and empty account for each test."""
    monkeypatch.setattr(EKSBackend, "list_nodegroups", list_nodegroups)
    # moto knows no bucket policies and nothing of EKS in stacks, says so, and goes on without.
    with mock_aws(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Tried to parse AWS::(EKS|S3::BucketPolicy)")
        yield Account.from_session(botocore.session.Session(), REGION)


@pytest.fixture
def stacks(account: Account) -> CloudFormation:
    return CloudFormation(account.connect("cloudformation"))


def load_template(stack: str) -> dict[str, Any]:
    """Return a template with ``!Ref x`` as ``{"Ref": x}`` and so on."""

    class Loader(yaml.SafeLoader):
        pass

    def construct(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
        name = suffix if suffix == "Ref" else f"Fn::{suffix}"
        if isinstance(node, yaml.SequenceNode):
            return {name: loader.construct_sequence(node, deep=True)}
        assert isinstance(node, yaml.ScalarNode)
        return {name: loader.construct_scalar(node)}

    Loader.add_multi_constructor("!", construct)
    template: dict[str, Any] = yaml.load((TEMPLATES / f"{stack}.yaml").read_text(), Loader)  # noqa: S506 - a SafeLoader.
    return template


def load_manifests(path: str) -> list[dict[str, Any]]:
    """Return the documents of a YAML file of the repository."""
    return [each for each in yaml.safe_load_all((ROOT / path).read_text()) if each]


def load_job_template() -> dict[str, Any]:
    """Return the defaults of the variables with which Prefect makes pods."""
    path = ROOT / "deployments/kubernetes/base-job-template.json"
    variables = json.loads(path.read_text())["variables"]["properties"]
    return {name: variable.get("default") for name, variable in variables.items()}


@dataclass(frozen=True, slots=True)
class AnsweringAccount(Account):
    """An account where some services are stubs, since moto does not know them."""

    clients: Mapping[str, Any]

    @classmethod
    def wrap(cls, account: Account, clients: Mapping[str, Any]) -> Self:
        return cls(account.session, account.region, account.number, account.caller, clients)

    def connect(self, service: str) -> Any:
        # No super() without arguments: slots make the class anew, and it would look for the old.
        return self.clients.get(service) or Account.connect(self, service)
