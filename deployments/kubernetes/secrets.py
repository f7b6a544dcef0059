"""The Secrets that the manifests in infra/kubernetes refer to."""

import os
import secrets

from deployments.kubernetes.kubectl import ClusterError, create_secret, get, read_secret

SYSTEM = "kaleidoscope"
"""Namespace of the server and the worker."""

RUNS = "kaleidoscope-runs"
"""Namespace of the pods of runs."""


def make_secrets() -> list[str]:
    """Make the Secrets that are missing, of random values, and leave those that are there.

    Returns:
        The names of those that were made.

    Raises:
        ClusterError: If the server is elsewhere, so that only its owner knows its password, or has
            another one now.
    """
    made: list[str] = []
    has_server = get("deployment", "prefect-server", SYSTEM) is not None
    if has_server:
        made += _make("prefect-postgres", (SYSTEM,), {"password": secrets.token_urlsafe(24)})
    else:
        _refuse_other_password()
    made += _make("prefect-api", (SYSTEM, RUNS), {"auth-string": _auth_string(has_server)})
    # On a cloud, pods have a role; another store's keys are its owner's to bring.
    if get("statefulset", "seaweedfs", SYSTEM) is not None:
        keys = {
            "AWS_ACCESS_KEY_ID": "kaleidoscope",
            "AWS_SECRET_ACCESS_KEY": secrets.token_urlsafe(24),
        }
        made += _make("kaleidoscope-s3", (SYSTEM, RUNS), keys)
    return made


def read_auth_string() -> str:
    """Return user and password of the server, as ``user:password``.

    Raises:
        ClusterError: If there is no such Secret.
    """
    values = read_secret("prefect-api", SYSTEM)
    if values is None:
        raise ClusterError(f"no Secret prefect-api in {SYSTEM}; `make kubernetes` makes it")
    return values["auth-string"]


def _auth_string(has_server: bool) -> str:  # noqa: FBT001 -- one question, asked once.
    if given := os.environ.get("PREFECT_API_AUTH_STRING"):
        return given
    if has_server or read_secret("prefect-api", SYSTEM) is not None:
        return f"admin:{secrets.token_urlsafe(24)}"
    raise ClusterError(
        "the server is not in this cluster, so its password cannot be made up: set "
        "PREFECT_API_AUTH_STRING to user:password, as the server has it"
    )


def _refuse_other_password() -> None:
    given, there = os.environ.get("PREFECT_API_AUTH_STRING"), read_secret("prefect-api", SYSTEM)
    if given and there is not None and there["auth-string"] != given:
        raise ClusterError(
            "PREFECT_API_AUTH_STRING is not what the Secret prefect-api has. If it is right, delete"
            f" the Secret in both namespaces, `kubectl delete secret prefect-api -n {SYSTEM}` and "
            f"`-n {RUNS}`, and run this again; if not, unset the variable"
        )


def _make(name: str, namespaces: tuple[str, ...], values: dict[str, str]) -> list[str]:
    """Make a Secret where it is missing; if it is somewhere, with the values that it has there."""
    there = {namespace: read_secret(name, namespace) for namespace in namespaces}
    values = next((found for found in there.values() if found is not None), values)
    missing = [namespace for namespace, found in there.items() if found is None]
    for namespace in missing:
        create_secret(name, namespace, values)
    return [f"{namespace}/{name}" for namespace in missing]
