from collections.abc import Iterator
from itertools import product
from typing import Any, TypeAlias

import pytest

Manifest: TypeAlias = dict[str, Any]
Manifests: TypeAlias = tuple[Manifest, ...]

WORKER = {"kind": "ServiceAccount", "name": "prefect-worker", "namespace": "kaleidoscope"}
RUNS = "kaleidoscope-runs"

ALLOWED = {
    *product(["batch"], ["jobs"], ["create", "get", "list", "watch", "delete"]),
    *product([""], ["pods"], ["list", "watch"]),
    ("", "pods/log", "get"),
}
"""API group, resource and verb: what prefect-kubernetes was seen to use."""

VERBS = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"]
RESOURCES = [
    ("", "pods"),
    ("", "pods/exec"),
    ("", "pods/log"),
    ("", "pods/portforward"),
    ("", "secrets"),
    ("", "configmaps"),
    ("", "serviceaccounts"),
    ("", "serviceaccounts/token"),
    ("", "namespaces"),
    ("", "nodes"),
    ("", "events"),
    ("apps", "deployments"),
    ("batch", "cronjobs"),
    ("batch", "jobs"),
    ("batch", "jobs/status"),
    ("rbac.authorization.k8s.io", "roles"),
    ("rbac.authorization.k8s.io", "rolebindings"),
    ("apiextensions.k8s.io", "customresourcedefinitions"),
]


def rules_for(manifests: Manifests, subject: Manifest, namespace: str) -> Iterator[Manifest]:
    for binding in manifests:
        if binding["kind"] == "ClusterRoleBinding":
            assert subject not in binding["subjects"]
        if binding["kind"] != "RoleBinding" or subject not in binding["subjects"]:
            continue
        if binding["metadata"]["namespace"] != namespace:
            continue
        for role in manifests:
            if (
                role["kind"] == binding["roleRef"]["kind"]
                and role["metadata"]["name"] == binding["roleRef"]["name"]
                and role["metadata"].get("namespace") == namespace
            ):
                yield from role["rules"]


def may(
    manifests: Manifests, subject: Manifest, namespace: str, request: tuple[str, str, str]
) -> bool:
    group, resource, verb = request
    return any(
        group in rule["apiGroups"]
        and {resource, "*"} & set(rule["resources"])
        and {verb, "*"} & set(rule["verbs"])
        for rule in rules_for(manifests, subject, namespace)
    )


@pytest.mark.parametrize("request_", sorted(ALLOWED), ids="-".join)
def test_the_worker_may_do_what_it_needs_to(
    manifests: Manifests, request_: tuple[str, str, str]
) -> None:
    assert may(manifests, WORKER, RUNS, request_)


def test_the_worker_may_do_nothing_else(manifests: Manifests) -> None:
    for (group, resource), verb in product(RESOURCES, VERBS):
        is_allowed = may(manifests, WORKER, RUNS, (group, resource, verb))
        assert is_allowed == ((group, resource, verb) in ALLOWED), (group, resource, verb)
        assert not may(manifests, WORKER, "kaleidoscope", (group, resource, verb))


def test_no_rule_has_a_wildcard(manifests: Manifests) -> None:
    for rule in rules_for(manifests, WORKER, RUNS):
        assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]


def test_nobody_but_the_worker_has_permissions(manifests: Manifests) -> None:
    bindings = [manifest for manifest in manifests if manifest["kind"].endswith("RoleBinding")]
    assert [subject for binding in bindings for subject in binding["subjects"]] == [WORKER]
