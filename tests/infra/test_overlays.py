from collections.abc import Callable
from pathlib import Path

import kubernetes_validate  # type: ignore[import-untyped]  # It has no types.
import pytest
import yaml

from tests.infra.rendered import Manifest, Manifests, containers, of_kind, pods

ROOT = Path(__file__).parents[2]

NAMESPACES = {"kaleidoscope", "kaleidoscope-runs"}
CLUSTER_KINDS = {"Namespace"}

SECRETS = {
    ("kaleidoscope", "prefect-api"),
    ("kaleidoscope", "prefect-postgres"),
    ("kaleidoscope", "kaleidoscope-s3"),
}
"""Secrets that docs/kubernetes.md says how to make; no manifest holds one."""


def name(manifest: Manifest) -> str:
    metadata = manifest["metadata"]
    return f"{manifest['kind']} {metadata.get('namespace', '')}/{metadata['name']}"


@pytest.mark.parametrize("version", ["1.28", "1.33", "1.37"])
def test_every_object_obeys_the_schema_of_kubernetes(manifests: Manifests, version: str) -> None:
    for manifest in manifests:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_every_object_lies_in_one_of_the_two_namespaces(manifests: Manifests) -> None:
    assert {manifest["metadata"]["name"] for manifest in of_kind(manifests, "Namespace")} == (
        NAMESPACES
    )
    for manifest in manifests:
        if manifest["kind"] not in CLUSTER_KINDS:
            assert manifest["metadata"].get("namespace") in NAMESPACES, name(manifest)


def test_no_two_objects_have_the_same_name(manifests: Manifests) -> None:
    names = [name(manifest) for manifest in manifests]
    assert len(names) == len(set(names))


def test_nothing_reaches_beyond_the_two_namespaces(manifests: Manifests) -> None:
    kinds = {manifest["kind"] for manifest in manifests}
    assert not kinds & {"ClusterRole", "ClusterRoleBinding"}


def test_no_manifest_holds_a_secret(manifests: Manifests) -> None:
    assert not of_kind(manifests, "Secret")
    words = ("PASSWORD", "SECRET", "AUTH_STRING", "TOKEN", "ACCESS_KEY")
    for _, container in containers(manifests):
        for variable in container.get("env", []):
            # These two say where the secret is.
            is_reference = variable["name"].endswith(("_SECRET_NAME", "_SECRET_KEY"))
            if any(word in variable["name"] for word in words) and not is_reference:
                assert "value" not in variable, variable
                assert "secretKeyRef" in variable["valueFrom"], variable
    for manifest in of_kind(manifests, "ConfigMap"):
        for key in manifest.get("data") or {}:
            assert not any(word in key for word in words), key


def test_every_secret_that_is_used_is_one_that_the_documentation_makes(
    manifests: Manifests,
) -> None:
    used = set()
    for namespace, container in containers(manifests):
        for variable in container.get("env", []):
            if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                used.add((namespace, reference["name"]))
        for source in container.get("envFrom", []):
            if reference := source.get("secretRef"):
                used.add((namespace, reference["name"]))
    assert used <= SECRETS


def test_every_config_map_and_account_that_is_used_is_there(manifests: Manifests) -> None:
    there = {
        (manifest["kind"], manifest["metadata"].get("namespace"), manifest["metadata"]["name"])
        for manifest in manifests
    }
    for namespace, pod in pods(manifests):
        assert ("ServiceAccount", namespace, pod["serviceAccountName"]) in there
    for namespace, container in containers(manifests):
        for source in container.get("envFrom", []):
            if reference := source.get("configMapRef"):
                assert ("ConfigMap", namespace, reference["name"]) in there


def test_every_pod_meets_the_restricted_standard_of_its_namespace(manifests: Manifests) -> None:
    for namespace in of_kind(manifests, "Namespace"):
        labels = namespace["metadata"]["labels"]
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    for _, pod in pods(manifests):
        context = pod["securityContext"]
        assert context["runAsNonRoot"]
        assert context["runAsUser"] > 0
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        assert {key for volume in pod["volumes"] for key in volume} <= {"name", "emptyDir"}
    for _, container in containers(manifests):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}


def test_no_service_of_kubernetes_becomes_a_setting_of_prefect(manifests: Manifests) -> None:
    for _, pod in pods(manifests):
        assert pod["enableServiceLinks"] is False


def test_only_the_worker_has_a_token_for_kubernetes(manifests: Manifests) -> None:
    for _, pod in pods(manifests):
        is_worker = pod["serviceAccountName"] == "prefect-worker"
        assert pod["automountServiceAccountToken"] is is_worker
    for account in of_kind(manifests, "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False


def test_every_container_asks_for_what_it_needs_and_is_probed(manifests: Manifests) -> None:
    for _, container in containers(manifests):
        resources = container["resources"]
        assert {"cpu", "memory"} <= resources["requests"].keys()
        assert "memory" in resources["limits"]
        ports = {port["name"] for port in container["ports"]}
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            probe = container[kind]
            assert probe.keys() & {"httpGet", "exec"}
            if "httpGet" in probe:
                assert probe["httpGet"]["port"] in ports


def test_no_rollout_has_failed_before_its_secrets_are_made(manifests: Manifests) -> None:
    for deployment in of_kind(manifests, "Deployment"):
        # kubectl rollout status, which make kubernetes waits for, gives up past this for good.
        assert deployment["spec"]["progressDeadlineSeconds"] >= 24 * 3600


def test_every_image_has_a_tag_that_is_not_latest(manifests: Manifests) -> None:
    for _, container in containers(manifests):
        _, _, tag = container["image"].rpartition("/")[2].partition(":")
        assert tag not in {"", "latest"}, container["image"]


def test_every_folder_that_is_written_to_is_mounted(manifests: Manifests) -> None:
    for _, pod in pods(manifests):
        mounts = {mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
        assert {volume["name"] for volume in pod["volumes"]} <= mounts
        assert "/tmp" in {  # noqa: S108 -- the mount of the pod.
            mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]
        }


def test_services_and_controllers_select_the_pods_that_they_mean(manifests: Manifests) -> None:
    labels = []
    for manifest in manifests:
        if manifest["kind"] in {"Deployment", "StatefulSet"}:
            pod = manifest["spec"]["template"]["metadata"]["labels"]
            assert manifest["spec"]["selector"]["matchLabels"].items() <= pod.items()
            labels.append((manifest["metadata"]["namespace"], pod))
    for service in of_kind(manifests, "Service"):
        selector = service["spec"]["selector"].items()
        namespace = service["metadata"]["namespace"]
        assert sum(where == namespace and selector <= pod.items() for where, pod in labels) == 1


def test_the_worker_watches_the_namespace_that_it_may_see(manifests: Manifests) -> None:
    [role] = of_kind(manifests, "Role")
    [worker] = [c for _, c in containers(manifests) if c["name"] == "worker"]
    variables = {variable["name"]: variable.get("value") for variable in worker["env"]}
    assert (
        variables["PREFECT_INTEGRATIONS_KUBERNETES_OBSERVER_NAMESPACES"]
        == (role["metadata"]["namespace"])
    )
    assert variables["PREFECT_WORKER_QUERY_SECONDS"] == "2"
    assert variables["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"


def test_pods_that_never_started_are_gone_soon_after_their_run_was_cancelled(
    manifests: Manifests,
) -> None:
    for _, server in (c for c in containers(manifests) if c[1]["name"] == "server"):
        variables = {variable["name"]: variable.get("value") for variable in server["env"]}
        name = "PREFECT_SERVER_SERVICES_CANCELLATION_CLEANUP_CANCELLING_TIMEOUT_SECONDS"
        assert 0 < float(variables[name] or 0) <= 10


def test_a_parent_fits_on_the_one_node_that_stays_on_aws(
    render_overlay: Callable[[str], Manifests],
) -> None:
    # An m6i.large with 2 CPUs, less 70m that EKS keeps; CoreDNS, kube-proxy, the network plugin
    # and the drivers of volumes ask for 500m.
    free = 1930 - 500
    autoscaler = yaml.safe_load_all((ROOT / "infra/aws/kubernetes/autoscaler.yaml").read_text())
    system = [*containers(render_overlay("aws")), *containers(tuple(autoscaler))]
    asked = sum(millicpus(one["resources"]["requests"]["cpu"]) for _, one in system)
    pools = yaml.safe_load((ROOT / "prefect.yaml").read_text())["definitions"]["pools"]
    parent = millicpus(pools["kubernetes_augment"]["job_variables"]["cpu_request"])
    # A parent, and beside it a preview or a maintenance.
    assert asked + 2 * parent <= free


def millicpus(quantity: str) -> int:
    return int(quantity[:-1]) if quantity.endswith("m") else 1000 * int(quantity)
