"""The two other programs that are needed: the AWS CLI and kubectl."""

import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from infra.aws.errors import AwsError
from infra.aws.stacks import CLUSTER_NAME

Run = Callable[[Sequence[str]], None]
"""Runs a command, its output going to the terminal."""

MANIFESTS = Path(__file__).with_name("kubernetes")

NEEDED = {
    "aws": "the AWS CLI, version 2, which kubectl calls to log in",
    "kubectl": "Kubernetes' client",
}


def check_programs() -> None:
    """See that the programs are there, before anything is made.

    Raises:
        AwsError: If one is missing.
    """
    missing = [f"{name} ({what})" for name, what in NEEDED.items() if shutil.which(name) is None]
    if missing:
        raise AwsError(f"install {' and '.join(missing)} first")


def run_command(command: Sequence[str]) -> None:
    """Run a program to its end.

    Raises:
        AwsError: If it failed.
    """
    try:
        subprocess.run(command, check=True)  # noqa: S603 - fixed programs, found by name.
    except (OSError, subprocess.CalledProcessError) as error:
        raise AwsError(f"{' '.join(command)}: {error}") from error


def prepare_cluster(region: str, run: Run) -> None:
    """Write the cluster into the kubeconfig, and apply what EKS needs first: the autoscaler."""
    run(
        [
            *("aws", "eks", "update-kubeconfig"),
            *("--region", region, "--name", CLUSTER_NAME, "--alias", CLUSTER_NAME),
        ]
    )
    run(["kubectl", "--context", CLUSTER_NAME, "apply", "-k", str(MANIFESTS)])
