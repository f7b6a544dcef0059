"""Rendered manifests and what lies in them."""

from collections.abc import Iterator
from typing import Any, TypeAlias

Manifest: TypeAlias = dict[str, Any]
Manifests: TypeAlias = tuple[Manifest, ...]

WORKLOADS = {"Deployment", "StatefulSet", "DaemonSet", "Job"}


def of_kind(manifests: Manifests, *kinds: str) -> list[Manifest]:
    """Return the objects of some kinds."""
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def workloads(manifests: Manifests) -> list[Manifest]:
    """Return what makes pods."""
    return of_kind(manifests, *WORKLOADS)


def pods(manifests: Manifests) -> Iterator[tuple[str, Manifest]]:
    """Yield the namespace and the spec of each pod that there will be."""
    for manifest in workloads(manifests):
        yield manifest["metadata"]["namespace"], manifest["spec"]["template"]["spec"]


def containers(manifests: Manifests) -> Iterator[tuple[str, Manifest]]:
    """Yield the namespace and the spec of each container that there will be."""
    for namespace, pod in pods(manifests):
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            yield namespace, container
