"""What an API server refuses beyond its schema, by the rules that Kubernetes documents.

Names and labels: ``kubernetes.io/docs/concepts/overview/working-with-objects``; quantities:
``kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity``.
"""

import re
from collections.abc import Iterator
from decimal import Decimal
from ipaddress import ip_network
from typing import Any

import pytest

from tests.infra.rendered import Manifests, containers, of_kind, pods, workloads

PART = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
DOMAIN = rf"{PART}(\.{PART})*"
WORD = r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
NAME = re.compile(rf"(?=.{{1,253}}$){DOMAIN}")
"""Of most objects, by RFC 1123."""
SHORT_NAME = re.compile(PART)
"""Of namespaces, Services, containers, volumes, and, as they name pods' hosts, of workloads."""
LABEL_KEY = re.compile(rf"({DOMAIN}/)?{WORD}")
LABEL_VALUE = re.compile(rf"({WORD})?")
PORT_NAME = re.compile(r"(?=.{1,15}$)(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*")
CONFIG_KEY = re.compile(r"[A-Za-z0-9_.-]{1,253}")
VARIABLE = re.compile(r"[A-Za-z_.-][A-Za-z0-9_.-]*")
QUANTITY = re.compile(r"(\d+(?:\.\d+)?)(m|k|M|G|T|Ki|Mi|Gi|Ti)?")
FACTORS: dict[str | None, Decimal] = {
    None: Decimal(1),
    "m": Decimal("0.001"),
    **{unit: Decimal(1000**power) for power, unit in enumerate("kMGT", 1)},
    **{f"{unit}i": Decimal(1024**power) for power, unit in enumerate("KMGT", 1)},
}
SHORT_KINDS = {"Namespace", "Service", "Deployment", "StatefulSet"}


def amount(quantity: str | int) -> Decimal:
    """Return the value of a quantity such as ``500m`` or ``2Gi``."""
    match = QUANTITY.fullmatch(str(quantity))
    assert match, quantity
    return Decimal(match[1]) * FACTORS[match[2]]


def find(value: Any, key: str) -> Iterator[Any]:
    """Yield whatever lies under a key, at any depth."""
    if isinstance(value, dict):
        if key in value:
            yield value[key]
        for inner in value.values():
            yield from find(inner, key)
    if isinstance(value, list):
        for inner in value:
            yield from find(inner, key)


def test_quantities_are_read_as_kubernetes_reads_them() -> None:
    assert amount("500m") == Decimal("0.5")
    assert amount("2Gi") == 2 * 1024**3
    assert amount(4) == 4
    for wrong in ("2 Gi", "1GB", "1gi", ""):
        with pytest.raises(AssertionError):
            amount(wrong)


def test_every_name_is_one_that_a_server_takes(manifests: Manifests) -> None:
    for manifest in manifests:
        pattern = SHORT_NAME if manifest["kind"] in SHORT_KINDS else NAME
        assert pattern.fullmatch(manifest["metadata"]["name"])
    for _, pod in pods(manifests):
        for named in [*pod["containers"], *pod["volumes"]]:
            assert SHORT_NAME.fullmatch(named["name"])
    for _, container in containers(manifests):
        assert all(PORT_NAME.fullmatch(port["name"]) for port in container["ports"])
    for service in of_kind(manifests, "Service"):
        assert all(PORT_NAME.fullmatch(port["name"]) for port in service["spec"]["ports"])


def test_every_label_is_one_that_a_server_takes(manifests: Manifests) -> None:
    for key in ("labels", "matchLabels", "selector"):
        for labels in find(list(manifests), key):
            flat = {name: text for name, text in labels.items() if isinstance(text, str)}
            for name, text in flat.items():
                assert LABEL_KEY.fullmatch(name), name
                assert LABEL_VALUE.fullmatch(text), text


def test_every_variable_and_setting_is_a_text_of_a_name_that_a_server_takes(
    manifests: Manifests,
) -> None:
    for one in of_kind(manifests, "ConfigMap"):
        for key, value in (one.get("data") or {}).items():
            assert CONFIG_KEY.fullmatch(key)
            assert isinstance(value, str)
    for _, container in containers(manifests):
        assert all(VARIABLE.fullmatch(variable["name"]) for variable in container.get("env", []))


@pytest.mark.parametrize("field", ["env", "ports", "volumeMounts"])
def test_no_entry_of_a_list_stands_twice(manifests: Manifests, field: str) -> None:
    # Server-side apply refuses it, and a plain one silently keeps either.
    key = "mountPath" if field == "volumeMounts" else "name"
    for _, container in containers(manifests):
        names = [entry[key] for entry in container.get(field, [])]
        assert len(names) == len(set(names))


def test_every_mount_has_its_volume(manifests: Manifests) -> None:
    for workload in workloads(manifests):
        pod = workload["spec"]["template"]["spec"]
        claims = workload["spec"].get("volumeClaimTemplates", [])
        there = {volume["name"] for volume in pod["volumes"]}
        there |= {claim["metadata"]["name"] for claim in claims}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= there


def test_no_container_asks_for_more_than_its_limit(manifests: Manifests) -> None:
    for _, container in containers(manifests):
        requests, limits = (container["resources"].get(key, {}) for key in ("requests", "limits"))
        for resource, quantity in requests.items():
            assert amount(quantity) <= amount(limits.get(resource, quantity))


def test_every_other_quantity_can_be_read(manifests: Manifests) -> None:
    for key in ("sizeLimit", "storage"):
        assert all(amount(quantity) > 0 for quantity in find(list(manifests), key))
    for quota in of_kind(manifests, "ResourceQuota"):
        assert all(amount(quantity) >= 0 for quantity in quota["spec"]["hard"].values())


def test_what_pods_get_if_they_say_nothing_is_within_what_they_may_have(
    manifests: Manifests,
) -> None:
    [limit_range] = of_kind(manifests, "LimitRange")
    [limits] = limit_range["spec"]["limits"]
    for resource in ("cpu", "memory"):
        least, usual, most = (
            amount(limits[key][resource]) for key in ("defaultRequest", "default", "max")
        )
        assert least <= usual <= most


def test_every_block_of_addresses_is_one_and_holds_its_exceptions(manifests: Manifests) -> None:
    for block in find(list(manifests), "ipBlock"):
        whole = ip_network(block["cidr"])
        for text in block.get("except", []):
            part = ip_network(text)
            assert part.version == whole.version
            assert part.subnet_of(whole)  # type: ignore[arg-type]  # Of one version, as seen above.


def test_selectors_which_cannot_be_changed_hold_nothing_that_may_change(
    manifests: Manifests,
) -> None:
    # A label that kustomize adds to all objects would make the next apply fail.
    for workload in workloads(manifests):
        selector = workload["spec"]["selector"]["matchLabels"]
        assert selector == {"app.kubernetes.io/name": workload["metadata"]["name"]}


def test_every_stateful_set_has_the_service_that_it_names(manifests: Manifests) -> None:
    services = {service["metadata"]["name"] for service in of_kind(manifests, "Service")}
    for one in of_kind(manifests, "StatefulSet"):
        assert one["spec"]["serviceName"] in services
