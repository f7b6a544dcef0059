"""Who may talk to whom, by the rules of networking.k8s.io/v1: a packet passes when a policy of
the sender lets it out and a policy of the receiver lets it in, and a pod that no policy selects
is open."""

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any, TypeAlias

import pytest

Manifest: TypeAlias = dict[str, Any]
Manifests: TypeAlias = tuple[Manifest, ...]


@dataclass(frozen=True, slots=True)
class Pod:
    namespace: str
    name: str = ""
    component: str = ""

    @property
    def labels(self) -> dict[str, str]:
        return {
            "app.kubernetes.io/name": self.name,
            "app.kubernetes.io/component": self.component,
        }


Place: TypeAlias = Pod | str
"""A pod, or an address outside the cluster."""

RUN = Pod("kaleidoscope-runs", component="run")
WORKER = Pod("kaleidoscope", "prefect-worker")
SERVER = Pod("kaleidoscope", "prefect-server")
POSTGRES = Pod("kaleidoscope", "prefect-postgres")
SEAWEEDFS = Pod("kaleidoscope", "seaweedfs")
STRANGER = Pod("default")
INTERNET = "203.0.113.7"
METADATA = "169.254.169.254"


def selects(selector: Manifest | None, labels: dict[str, str]) -> bool:
    assert selector is None or selector.keys() <= {"matchLabels"}, "teach the test"
    wanted = (selector or {}).get("matchLabels", {})
    return bool(wanted.items() <= labels.items())


def is_peer(peer: Manifest, place: Place, namespace: str) -> bool:
    if "ipBlock" in peer:
        block = peer["ipBlock"]
        if isinstance(place, Pod):
            return False
        address = ip_address(place)
        return address in ip_network(block["cidr"]) and not any(
            address in ip_network(hole) for hole in block.get("except", [])
        )
    if isinstance(place, str):
        return False
    if "namespaceSelector" in peer:
        name = {"kubernetes.io/metadata.name": place.namespace}
        is_there = selects(peer["namespaceSelector"], name)
    else:
        is_there = place.namespace == namespace
    return is_there and selects(peer.get("podSelector"), place.labels)


def passes(manifests: Manifests, pod: Place, other: Place, port: tuple[str, int], way: str) -> bool:
    if isinstance(pod, str):
        return True
    policies = [
        manifest
        for manifest in manifests
        if manifest["kind"] == "NetworkPolicy"
        and manifest["metadata"]["namespace"] == pod.namespace
        and way in manifest["spec"]["policyTypes"]
        and selects(manifest["spec"]["podSelector"], pod.labels)
    ]
    key, peers = ("egress", "to") if way == "Egress" else ("ingress", "from")
    return not policies or any(
        {"protocol": port[0], "port": port[1]} in rule["ports"]
        and (peers not in rule or any(is_peer(p, other, pod.namespace) for p in rule[peers]))
        for policy in policies
        for rule in policy["spec"].get(key, [])
    )


def may_reach(manifests: Manifests, source: Place, target: Place, port: int) -> bool:
    tcp = ("TCP", port)
    return passes(manifests, source, target, tcp, "Egress") and passes(
        manifests, target, source, tcp, "Ingress"
    )


@pytest.mark.parametrize(
    ("source", "target", "port"),
    [
        (RUN, INTERNET, 443),
        (RUN, "2001:db8::7", 443),
        (RUN, INTERNET, 53),
        (WORKER, "10.96.0.1", 443),
        (WORKER, "192.0.2.10", 6443),
        (WORKER, "192.0.2.10", 8443),
        (WORKER, "192.0.2.10", 16443),
        (WORKER, INTERNET, 443),
    ],
)
def test_what_every_cluster_needs_is_open(
    manifests: Manifests, source: Place, target: Place, port: int
) -> None:
    assert may_reach(manifests, source, target, port)


@pytest.mark.parametrize(
    ("source", "target", "port"),
    [
        (RUN, METADATA, 80),
        (RUN, METADATA, 443),
        (RUN, "fd00:ec2::254", 443),
        (RUN, INTERNET, 80),
        (RUN, INTERNET, 22),
        (RUN, RUN, 443),
        (RUN, WORKER, 8080),
        (RUN, POSTGRES, 5432),
        (RUN, "10.0.0.5", 6443),
        (WORKER, METADATA, 443),
        (WORKER, POSTGRES, 5432),
        (WORKER, INTERNET, 80),
        (STRANGER, RUN, 443),
        (STRANGER, WORKER, 8080),
        (STRANGER, SERVER, 4200),
        (STRANGER, POSTGRES, 5432),
        (INTERNET, SERVER, 4200),
        (INTERNET, RUN, 80),
    ],
)
def test_everything_else_is_closed(
    manifests: Manifests, source: Place, target: Place, port: int
) -> None:
    assert not may_reach(manifests, source, target, port)


@pytest.mark.parametrize("overlay", ["local", "aws"])
def test_only_the_server_reaches_its_database(
    render_overlay: Callable[[str], Manifests], overlay: str
) -> None:
    manifests = render_overlay(overlay)
    assert may_reach(manifests, SERVER, POSTGRES, 5432)
    assert may_reach(manifests, WORKER, SERVER, 4200)
    assert may_reach(manifests, RUN, SERVER, 4200)
    assert not may_reach(manifests, SERVER, INTERNET, 443)
    assert not may_reach(manifests, POSTGRES, INTERNET, 443)
    assert not may_reach(manifests, POSTGRES, SERVER, 4200)


def test_runs_reach_the_local_store_by_s3_alone(
    render_overlay: Callable[[str], Manifests],
) -> None:
    manifests = render_overlay("local")
    assert may_reach(manifests, RUN, SEAWEEDFS, 8333)
    # Ports of SeaweedFS that ask for no password.
    for port in (8080, 8888, 9333, 23646):
        assert not may_reach(manifests, RUN, SEAWEEDFS, port)
    assert not may_reach(manifests, STRANGER, SEAWEEDFS, 8333)
    assert not may_reach(manifests, SEAWEEDFS, INTERNET, 443)


def test_runs_on_aws_get_the_credentials_of_their_role_and_not_of_the_node(
    render_overlay: Callable[[str], Manifests],
) -> None:
    manifests = render_overlay("aws")
    assert may_reach(manifests, RUN, "169.254.170.23", 80)
    assert may_reach(manifests, RUN, "fd00:ec2::23", 80)
    assert not may_reach(manifests, RUN, METADATA, 80)
    assert not may_reach(manifests, WORKER, "169.254.170.23", 80)
