"""What Prefect's worker makes of the template, with Prefect's own code."""

import asyncio
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias, cast
from uuid import uuid4

import kubernetes_validate  # type: ignore[import-untyped]  # It has no types.
import pytest
from jsonschema import (  # type: ignore[import-untyped]
    Draft202012Validator,
    ValidationError,
)
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import Flow, FlowRun, WorkPool
from prefect.client.schemas.responses import DeploymentResponse
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    temporary_settings,
)
from prefect_kubernetes.worker import (  # type: ignore[import-untyped]
    KubernetesWorker,
    KubernetesWorkerJobConfiguration,
)

Manifest: TypeAlias = dict[str, Any]

ROOT = Path(__file__).parents[2]
TEMPLATE = json.loads((ROOT / "deployments/kubernetes/base-job-template.json").read_text())
VARIABLES = TEMPLATE["variables"]
IMAGE = "registry.example.com/kaleidoscope:0.1.0"
API_URL = "http://prefect-server.kaleidoscope.svc:4200/api"
AUTH_STRING = "admin:correct-horse"


def configure(**job_variables: Any) -> KubernetesWorkerJobConfiguration:
    """Return what the worker prepares for one run of a shard."""
    Draft202012Validator(VARIABLES).validate(job_variables)
    now = datetime.now(UTC)
    flow = Flow(id=uuid4(), name="augment-shard", labels={})
    deployment = DeploymentResponse(
        id=uuid4(), created=now, updated=now, name="kubernetes", flow_id=flow.id, labels={}
    )
    flow_run = FlowRun(id=uuid4(), name="shard-00042", flow_id=flow.id, deployment_id=deployment.id)
    pool = WorkPool(
        id=uuid4(),
        name="kubernetes",
        type="kubernetes",
        base_job_template=TEMPLATE,
        default_queue_id=uuid4(),
    )
    # Asked for the blocks and variables that a template names, of which this one has none.
    client = cast(PrefectClient, object())
    configuration = asyncio.run(
        KubernetesWorkerJobConfiguration.from_template_and_values(
            TEMPLATE, job_variables, client=client
        )
    )
    settings = {
        PREFECT_API_URL: API_URL,
        PREFECT_API_AUTH_STRING: AUTH_STRING,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY: 30,
    }
    with temporary_settings(settings):
        configuration.prepare_for_flow_run(
            flow_run, deployment, cast(Any, flow), pool, worker_name="kubernetes"
        )
    return configuration


def job_for(**job_variables: Any) -> Manifest:
    job: Manifest = configure(image=IMAGE, **job_variables).job_manifest
    return job


def pod_of(job: Manifest) -> Manifest:
    pod: Manifest = job["spec"]["template"]["spec"]
    return pod


def container_of(job: Manifest) -> Manifest:
    [container] = pod_of(job)["containers"]
    assert isinstance(container, dict)
    return container


@pytest.mark.parametrize("version", ["1.28", "1.33", "1.37"])
def test_the_job_obeys_the_schema_of_kubernetes(version: str) -> None:
    job = job_for()
    # Prefect insists on these two in the pod, where Kubernetes has no such fields and drops them.
    assert pod_of(job).pop("parallelism") == 1
    assert pod_of(job).pop("completions") == 1
    kubernetes_validate.validate(job, version, strict=True)


def test_every_variable_is_used_and_every_placeholder_is_a_variable() -> None:
    text = json.dumps(TEMPLATE["job_configuration"])
    assert set(re.findall(r"{{ (\w+) }}", text)) == VARIABLES["properties"].keys()
    assert not re.findall(r"{{", re.sub(r"{{ \w+ }}", "", text))


def test_every_variable_says_what_it_is() -> None:
    Draft202012Validator.check_schema(VARIABLES)
    for variable in VARIABLES["properties"].values():
        assert variable["title"]
        assert variable["description"].endswith(".")


@pytest.mark.parametrize(
    "job_variables",
    [
        {},
        {"image": IMAGE, "cpu_request": ""},
        {"image": IMAGE, "backoff_limit": -1},
        {"image": IMAGE, "image_pull_policy": "Sometimes"},
        {"image": IMAGE, "active_deadline_seconds": 0},
    ],
)
def test_a_wrong_variable_is_refused(job_variables: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        configure(**job_variables)


def test_the_pod_runs_the_flow_run_and_nothing_else() -> None:
    job = job_for()
    assert container_of(job)["image"] == IMAGE
    assert container_of(job)["args"] == ["prefect", "flow-run", "execute"]
    assert "command" not in container_of(job)
    assert len(pod_of(job)["containers"]) == 1


def test_the_pod_is_sure_of_its_cpus_and_bounded_in_memory() -> None:
    resources = container_of(job_for())["resources"]
    assert resources["requests"] == {"cpu": "1", "memory": "1Gi"}
    assert resources["limits"] == {"cpu": "1", "memory": "2Gi"}
    resources = container_of(job_for(cpu_request="4", cpu_limit="4"))["resources"]
    assert resources["requests"]["cpu"] == resources["limits"]["cpu"] == "4"


def test_the_pod_meets_the_restricted_standard() -> None:
    pod, container = pod_of(job_for()), container_of(job_for())
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "runAsGroup": 10001,
        "fsGroup": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False
    assert pod["serviceAccountName"] == "kaleidoscope-run"


def test_the_pod_can_write_to_tmp_alone() -> None:
    job = job_for(scratch_size="3Gi")
    assert pod_of(job)["volumes"] == [{"name": "tmp", "emptyDir": {"sizeLimit": "3Gi"}}]
    [mount] = container_of(job)["volumeMounts"]
    assert mount == {"name": "tmp", "mountPath": "/tmp"}  # noqa: S108 -- of the pod.


def test_a_pod_that_dies_is_left_to_prefect_and_the_parent() -> None:
    job = job_for()
    assert job["spec"]["backoffLimit"] == 0
    assert pod_of(job)["restartPolicy"] == "Never"
    variables = {v["name"]: v.get("value") for v in container_of(job)["env"]}
    assert variables["PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR"] == "reschedule"


def test_the_deadline_is_the_jobs_and_not_the_pods() -> None:
    # A deadline of the pod with a backoffLimit of 0 makes Prefect run it again without end.
    job = job_for(active_deadline_seconds=7200)
    assert job["spec"]["activeDeadlineSeconds"] == 7200
    assert "activeDeadlineSeconds" not in pod_of(job)


def test_a_job_that_ended_outlives_a_worker_that_is_down_for_a_night() -> None:
    assert job_for()["spec"]["ttlSecondsAfterFinished"] >= 12 * 3600


def test_a_pod_is_gone_within_30_s_of_its_run_being_cancelled() -> None:
    # Prefect's server waits ten seconds before it has the Job of a cancelled run deleted.
    assert pod_of(job_for())["terminationGracePeriodSeconds"] + 10 < 30
    # Else the first process is number 1, which ignores SIGTERM until Prefect has been imported.
    assert pod_of(job_for())["shareProcessNamespace"] is True


def test_labels_name_the_run_and_the_shard() -> None:
    job = job_for(labels={"kaleidoscope/run": "20261122-abc", "kaleidoscope/shard": "00042"})
    for labels in (job["metadata"]["labels"], job["spec"]["template"]["metadata"]["labels"]):
        assert labels["kaleidoscope/run"] == "20261122-abc"
        assert labels["kaleidoscope/shard"] == "00042"
        assert labels["prefect.io/flow-run-name"] == "shard-00042"
        assert labels["app.kubernetes.io/component"] == "run"
        # What the worker's observer looks for.
        assert labels["prefect.io/flow-run-id"]
    assert job["metadata"]["generateName"] == "shard-00042-"


def test_pods_spread_over_nodes_by_the_label_that_they_have() -> None:
    job = job_for()
    [constraint] = pod_of(job)["topologySpreadConstraints"]
    wanted = constraint["labelSelector"]["matchLabels"]
    assert wanted.items() <= job["spec"]["template"]["metadata"]["labels"].items()
    assert constraint["whenUnsatisfiable"] == "ScheduleAnyway"


def test_pods_may_go_to_spot_nodes_and_can_be_sent_there() -> None:
    assert pod_of(job_for())["tolerations"] == [
        {"key": "kaleidoscope/spot", "operator": "Exists", "effect": "NoSchedule"}
    ]
    job = job_for(node_selector={"eks.amazonaws.com/capacityType": "SPOT"})
    assert pod_of(job)["nodeSelector"] == {"eks.amazonaws.com/capacityType": "SPOT"}


def test_secrets_come_by_name_and_may_be_missing_where_a_role_is() -> None:
    assert container_of(job_for(s3_secret_name="mine"))["envFrom"] == [  # noqa: S106
        {"configMapRef": {"name": "kaleidoscope-settings", "optional": True}},
        {"secretRef": {"name": "mine", "optional": True}},
    ]


def test_the_password_of_the_server_does_not_appear_in_the_job() -> None:
    configuration = configure(image=IMAGE)
    worker = KubernetesWorker(work_pool_name="kubernetes")
    asyncio.run(
        worker._replace_env_variable_with_secret(
            "PREFECT_API_AUTH_STRING", configuration, "prefect-api", "auth-string"
        )
    )
    assert AUTH_STRING not in json.dumps(configuration.job_manifest)
    [entry] = [
        v
        for v in container_of(configuration.job_manifest)["env"]
        if v["name"] == "PREFECT_API_AUTH_STRING"
    ]
    assert entry["valueFrom"] == {"secretKeyRef": {"name": "prefect-api", "key": "auth-string"}}


def test_settings_of_the_worker_reach_the_pod() -> None:
    variables = {v["name"]: v.get("value") for v in container_of(job_for())["env"]}
    assert variables["PREFECT_API_URL"] == API_URL
    assert variables["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"


def test_a_variable_of_the_run_does_not_displace_the_workers() -> None:
    job = job_for(env={"KALEIDOSCOPE_S3_ENDPOINT_URL": "http://example.com"})
    variables = {v["name"]: v.get("value") for v in container_of(job)["env"]}
    assert variables["KALEIDOSCOPE_S3_ENDPOINT_URL"] == "http://example.com"
    assert variables["PREFECT_API_URL"] == API_URL


def test_the_template_makes_jobs_where_the_worker_may() -> None:
    job = job_for()
    assert job["metadata"]["namespace"] == "kaleidoscope-runs"
