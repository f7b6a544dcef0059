"""Secrets in a cluster that a script stands for."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from deployments.kubernetes.kubectl import ClusterError, forward, kubectl, read_secret
from deployments.kubernetes.secrets import RUNS, SYSTEM, make_secrets, read_auth_string
from tests.infra.scripted_cluster import Cluster


@pytest.fixture
def local_cluster(cluster: Cluster) -> Cluster:
    cluster.add("deployment", SYSTEM, "prefect-server")
    cluster.add("statefulset", SYSTEM, "seaweedfs")
    return cluster


def test_every_secret_of_a_bare_cluster_is_made(local_cluster: Cluster) -> None:
    assert make_secrets() == [
        f"{SYSTEM}/prefect-postgres",
        f"{SYSTEM}/prefect-api",
        f"{RUNS}/prefect-api",
        f"{SYSTEM}/kaleidoscope-s3",
        f"{RUNS}/kaleidoscope-s3",
    ]
    assert read_secret("prefect-api", SYSTEM) == read_secret("prefect-api", RUNS)
    assert read_secret("kaleidoscope-s3", SYSTEM) == read_secret("kaleidoscope-s3", RUNS)
    user, _, password = read_auth_string().partition(":")
    assert user == "admin"
    assert len(password) >= 32
    # The password of the database lies where no run can mount it.
    assert read_secret("prefect-postgres", RUNS) is None
    assert "AlreadyExists" not in local_cluster.calls


def test_secrets_that_are_there_stay_as_they_are(local_cluster: Cluster) -> None:
    make_secrets()
    before = read_auth_string()
    assert make_secrets() == []
    assert read_auth_string() == before
    assert local_cluster.calls.count("create -f -") == 5


def test_a_secret_that_is_missing_in_one_namespace_is_copied(local_cluster: Cluster) -> None:
    local_cluster.add_secret(RUNS, "prefect-api", "auth-string", "admin:mine")
    assert f"{SYSTEM}/prefect-api" in make_secrets()
    assert read_auth_string() == "admin:mine"


def test_no_value_is_an_argument(local_cluster: Cluster) -> None:
    make_secrets()
    for name in ("prefect-api", "kaleidoscope-s3", "prefect-postgres"):
        values = read_secret(name, SYSTEM)
        assert values
        for key, value in values.items():
            if key != "AWS_ACCESS_KEY_ID":
                assert value not in local_cluster.calls


def test_two_clusters_have_different_passwords(local_cluster: Cluster) -> None:
    make_secrets()
    first = read_auth_string()
    for path in local_cluster.folder.glob("secret.*"):
        path.unlink()
    make_secrets()
    assert read_auth_string() != first


@pytest.mark.usefixtures("cluster")
def test_the_password_of_a_server_elsewhere_is_not_made_up() -> None:
    with pytest.raises(ClusterError, match="PREFECT_API_AUTH_STRING"):
        make_secrets()


@pytest.mark.usefixtures("cluster")
def test_the_password_of_a_server_elsewhere_is_taken_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "me:secret")
    assert make_secrets() == [f"{SYSTEM}/prefect-api", f"{RUNS}/prefect-api"]
    assert read_auth_string() == "me:secret"


@pytest.mark.usefixtures("cluster")
def test_what_kubectl_says_of_a_failure_is_passed_on() -> None:
    with pytest.raises(ClusterError, match="unknown command"):
        kubectl("frobnicate")


def test_a_machine_without_kubectl_is_told_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClusterError, match="not installed"):
        kubectl("version")


@pytest.mark.usefixtures("cluster")
def test_a_forwarded_port_is_the_one_that_kubectl_chose() -> None:
    with forward("prefect-server", 4200, SYSTEM) as port:
        assert port == 40123


def test_a_command_is_given_the_addresses_and_keys_of_the_cluster(
    local_cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("prefect-server", "seaweedfs"):
        local_cluster.add("service", SYSTEM, name)
    make_secrets()
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY", raising=False)
    show = "import os, json; print(json.dumps(dict(os.environ)))"
    program = [sys.executable, "-c", show]
    result = subprocess.run(
        [sys.executable, "-m", "deployments.kubernetes", "exec", *program],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    variables = json.loads(result.stdout)
    keys = read_secret("kaleidoscope-s3", SYSTEM)
    assert keys
    assert variables["PREFECT_API_URL"] == "http://127.0.0.1:40123/api"
    assert variables["PREFECT_UI_URL"] == "http://127.0.0.1:4200"
    assert variables["PREFECT_API_AUTH_STRING"] == read_auth_string()
    assert variables["KALEIDOSCOPE_S3_ENDPOINT_URL"] == "http://127.0.0.1:40123"
    assert variables["AWS_SECRET_ACCESS_KEY"] == keys["AWS_SECRET_ACCESS_KEY"]


@pytest.mark.usefixtures("cluster")
def test_another_password_of_a_server_elsewhere_is_refused_with_what_to_delete(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "me:old")
    make_secrets()
    assert make_secrets() == []
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "me:new")
    with pytest.raises(ClusterError, match=f"kubectl delete secret prefect-api -n {SYSTEM}"):
        make_secrets()
