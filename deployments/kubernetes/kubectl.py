"""What is asked of a cluster, through the ``kubectl`` that its user has set up."""

# ruff: noqa: S603 -- every program has a fixed name.

import base64
import json
import re
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

READ_TIMEOUT_S = 60
ROLLOUT_TIMEOUT_S = 600
"""Nodes may have to start and images to be fetched."""


class ClusterError(Exception):
    """The cluster refused something, or is not as it has to be; the message says what to do."""


def kubectl(*arguments: str, stdin: str | None = None, timeout_s: float = READ_TIMEOUT_S) -> str:
    """Return what kubectl prints.

    Raises:
        ClusterError: If it is not installed, fails, or takes too long.
    """
    command = ["kubectl", *arguments]
    try:
        result = subprocess.run(
            command, input=stdin, capture_output=True, text=True, check=False, timeout=timeout_s
        )
    except FileNotFoundError as error:
        raise ClusterError("kubectl is not installed, or not on PATH") from error
    except subprocess.TimeoutExpired as error:
        raise ClusterError(f"kubectl {arguments[0]} took more than {timeout_s:.0f} s") from error
    if result.returncode != 0:
        raise ClusterError(f"kubectl {' '.join(arguments)} failed: {result.stderr.strip()}")
    return result.stdout


def get(kind: str, name: str, namespace: str) -> dict[str, Any] | None:
    """Return an object, or None if there is none."""
    text = kubectl("get", kind, name, "-n", namespace, "-o", "json", "--ignore-not-found")
    found: dict[str, Any] | None = json.loads(text) if text.strip() else None
    return found


def read_secret(name: str, namespace: str) -> dict[str, str] | None:
    """Return the values of a Secret, or None if there is none."""
    secret = get("secret", name, namespace)
    if secret is None:
        return None
    data = secret.get("data") or {}
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


def create_secret(name: str, namespace: str, values: Mapping[str, str]) -> None:
    """Make a Secret. Its values go through a pipe, since anyone can see arguments."""
    manifest = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "stringData": dict(values),
    }
    kubectl("create", "-f", "-", stdin=json.dumps(manifest))


def wait_for_rollout(workload: str, namespace: str) -> None:
    """Return when all pods of ``kind/name`` are ready.

    Raises:
        ClusterError: If that takes more than 10 minutes.
    """
    limit = f"--timeout={ROLLOUT_TIMEOUT_S}s"
    kubectl("rollout", "status", workload, "-n", namespace, limit, timeout_s=ROLLOUT_TIMEOUT_S + 30)


@contextmanager
def forward(service: str, port: int, namespace: str) -> Iterator[int]:
    """Yield a free port of this machine that leads to a Service while the block runs.

    Raises:
        ClusterError: If the Service has no pod that is ready.
    """
    command = ["kubectl", "port-forward", "-n", namespace, f"service/{service}", f":{port}"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            assert process.stdout is not None  # noqa: S101 -- for mypy: it is a pipe.
            line = process.stdout.readline()
            match = re.search(r"127\.0\.0\.1:(\d+)", line)
            if match is None:
                raise ClusterError(f"cannot reach service/{service}: {line.strip()}")
            # It writes a line for each connection and would stand still once the pipe is full.
            threading.Thread(target=process.stdout.read, daemon=True).start()
            yield int(match[1])
        finally:
            process.terminate()
