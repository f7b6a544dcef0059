"""Make ready to run, or run, in the cluster that ``kubectl`` talks to.

``python -m deployments.kubernetes up`` makes Secrets, work pool, deployments and automation
after ``kubectl apply -k``; it asks nothing and may be repeated. ``python -m deployments.kubernetes
exec COMMAND …`` runs a command that finds Prefect's server in the cluster, and its S3 server
if it has one.
"""

# ruff: noqa: S603, T201 -- it talks to a person, and starts what they ask for.

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import UNAUTHORIZED

import httpx
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from deployments.automations import make_automations
from deployments.deploying import deploy
from deployments.kubernetes.kubectl import (
    ClusterError,
    forward,
    get,
    read_secret,
    wait_for_rollout,
)
from deployments.kubernetes.nodes import Nodes, place, read_label
from deployments.kubernetes.pool import make_kubernetes_pool
from deployments.kubernetes.secrets import SYSTEM, make_secrets, read_auth_string
from deployments.pools import PoolError

SERVER_PORT = 4200
S3_PORT = 8333
WORKLOADS = (
    ("statefulset", "prefect-postgres"),
    ("statefulset", "seaweedfs"),
    ("deployment", "prefect-server"),
)
"""What a work pool needs, in the order in which one needs the other."""

WORKER = ("deployment", "prefect-worker")
"""What needs the work pool."""

DEPLOYMENT = "kubernetes"
"""Name of the deployments in prefect.yaml that this cluster runs."""


@contextmanager
def server_environment() -> Iterator[dict[str, str]]:
    """Yield the variables by which programs find the cluster's server while the block runs.

    Without a server in the cluster they are those of the caller.

    Raises:
        ClusterError: If there is none, and the caller names none.
    """
    auth_string = read_auth_string()
    if get("service", "prefect-server", SYSTEM) is None:
        if not (url := os.environ.get("PREFECT_API_URL")):
            raise ClusterError("no server in the cluster: set PREFECT_API_URL to your own")
        yield {"PREFECT_API_URL": url, "PREFECT_API_AUTH_STRING": auth_string}
        return
    with forward("prefect-server", SERVER_PORT, SYSTEM) as port:
        yield {
            "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
            # Links that are printed outlast this forward: docs/kubernetes.md opens that port.
            "PREFECT_UI_URL": f"http://127.0.0.1:{SERVER_PORT}",
            "PREFECT_API_AUTH_STRING": auth_string,
        }


@contextmanager
def store_environment() -> Iterator[dict[str, str]]:
    """Yield the variables that lead to the cluster's own S3 server, if it has one."""
    if get("service", "seaweedfs", SYSTEM) is None:
        yield {}
        return
    with forward("seaweedfs", S3_PORT, SYSTEM) as port:
        url = f"http://127.0.0.1:{port}"
        yield {
            "KALEIDOSCOPE_S3_ENDPOINT_URL": url,
            **(read_secret("kaleidoscope-s3", SYSTEM) or {}),
        }


def worker_image() -> str:
    """Return the image of the worker, which is that of the pods too.

    Raises:
        ClusterError: If there is no worker.
    """
    worker = get("deployment", "prefect-worker", SYSTEM)
    if worker is None:
        raise ClusterError(
            f"no Deployment prefect-worker in {SYSTEM}: "
            "kubectl apply -k infra/kubernetes/overlays/local"
        )
    image: str = worker["spec"]["template"]["spec"]["containers"][0]["image"]
    return image


def wait_for(kind: str, name: str) -> None:
    """Return when a workload is ready, or at once if the cluster has none of that name.

    Raises:
        ClusterError: If it does not get ready in time.
    """
    if get(kind, name, SYSTEM) is not None:
        print(f"Waiting for {name} ...")
        wait_for_rollout(f"{kind}/{name}", SYSTEM)


def up(*, shards_at_once: int | None, nodes: Nodes) -> None:
    """Make what is missing, bring the rest up to date, and say how to go on.

    Args:
        shards_at_once: Pods of shards at a time, of all parents together; 0 is no limit, None
            leaves the limit as it is.
        nodes: Where parents and shards may run.

    Raises:
        ClusterError: If the manifests are not applied, or pods do not get ready.
        PoolError: If there is a work pool of the same name and of another type.
    """
    image = os.environ.get("KALEIDOSCOPE_IMAGE") or worker_image()
    for name in make_secrets():
        print(f"Made the Secret {name}")
    for workload in WORKLOADS:
        wait_for(*workload)
    with server_environment() as variables:
        settings = {
            PREFECT_API_URL: variables["PREFECT_API_URL"],
            PREFECT_API_AUTH_STRING: variables["PREFECT_API_AUTH_STRING"],
        }
        with temporary_settings(settings), get_client(sync_client=True) as client:
            make_kubernetes_pool(client, shards_at_once=shards_at_once)
            make_automations(client)
            deploy(client, DEPLOYMENT, environment={**variables, "KALEIDOSCOPE_IMAGE": image})
            place(client, nodes)
    wait_for(*WORKER)
    print(f"Ready: pods run {image}, and docs/kubernetes.md says how to start them.")


def main() -> int:
    """Read the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("up", help="make Secrets, work pool and deployments")
    making.add_argument(
        "--shards",
        type=int,
        metavar="N",
        help="pods of shards at a time; 0 is no limit, without it the limit stays as it is",
    )
    for flow in ("parent", "shard"):
        making.add_argument(
            f"--{flow}-nodes",
            type=read_label,
            action="append",
            default=[],
            metavar="LABEL=VALUE",
            help=f"pods of {flow}s go to nodes with this label only; may be repeated",
        )
    running = commands.add_parser("exec", help="run a command that finds the cluster's server")
    running.add_argument("program", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    try:
        if arguments.command == "up":
            nodes = Nodes(dict(arguments.parent_nodes), dict(arguments.shard_nodes))
            up(shards_at_once=arguments.shards, nodes=nodes)
            return 0
        with server_environment() as server, store_environment() as store:
            environment = {**os.environ, **server, **store}
            return subprocess.run(arguments.program, env=environment, check=False).returncode
    except (ClusterError, PoolError, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return 1
    except httpx.HTTPError as error:
        print(f"Prefect's server did not do it: {error}", file=sys.stderr)
        if isinstance(error, httpx.HTTPStatusError) and error.response.status_code == UNAUTHORIZED:
            print(
                f"Its user and password are taken from the Secret prefect-api in {SYSTEM}; "
                "set PREFECT_API_AUTH_STRING to the right ones and run this again",
                file=sys.stderr,
            )
        return 1


if __name__ == "__main__":
    sys.exit(main())
