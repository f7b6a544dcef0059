"""What tests see and do in a cluster, the stand-in or a real one."""

import asyncio
import json
import subprocess
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from kubernetes_asyncio import config
from kubernetes_asyncio.client import (
    ApiClient,
    BatchV1Api,
    CoreV1Api,
    NetworkingV1Api,
    V1ConfigMap,
    V1LabelSelector,
    V1NetworkPolicy,
    V1NetworkPolicyEgressRule,
    V1NetworkPolicySpec,
    V1ObjectMeta,
    V1Secret,
)
from kubernetes_asyncio.client.exceptions import NotFoundException

from tests.cluster.stand_in import StandIn

FLOW_RUN_LABEL = "prefect.io/flow-run-id"

EAT_MEMORY = 'm = []\nwhile True: m.append(b"x" * (1 << 26))'
"""Grows beyond any limit, in steps, since a kernel refuses more than there is at once."""

KILL_ALL = "import os; os.kill(-1, 9)"
"""What becomes of a container that is out of memory; with cgroup v1, the greedy alone is killed."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pod:
    """What tests ask of a pod."""

    name: str
    flow_run_id: str
    phase: str
    is_leaving: bool
    """Asked to end."""
    labels: Mapping[str, str]

    @property
    def is_active(self) -> bool:
        """Whether it runs or will."""
        return self.phase in ("Pending", "Running")


class Cluster:
    """The objects of one test session in one namespace, found by a label.

    Attributes:
        labels: What all pods of the session carry.
    """

    def __init__(
        self, kubeconfig: Path, namespace: str, session: str, stand_in: StandIn | None
    ) -> None:
        """Name the cluster.

        Args:
            kubeconfig: Leads there.
            namespace: It exists.
            session: Unique, of small letters and digits.
            stand_in: The cluster, if it is none.
        """
        self.kubeconfig = kubeconfig
        self.namespace = namespace
        self.labels = {"kaleidoscope-test": session}
        self._stand_in = stand_in

    @property
    def is_real(self) -> bool:
        """Whether pods are pods, and not processes of this machine."""
        return self._stand_in is None

    def make_settings(self, name: str, values: Mapping[str, str]) -> None:
        """Make a ConfigMap."""
        one = V1ConfigMap(metadata=self._metadata(name), data=dict(values))
        self._ask(lambda api: CoreV1Api(api).create_namespaced_config_map(self.namespace, one))

    def make_secret(self, name: str, values: Mapping[str, str]) -> None:
        """Make a Secret."""
        encoded = {key: b64encode(value.encode()).decode() for key, value in values.items()}
        one = V1Secret(metadata=self._metadata(name), data=encoded)
        self._ask(lambda api: CoreV1Api(api).create_namespaced_secret(self.namespace, one))

    def let_pods_out(self, name: str) -> None:
        """Make a NetworkPolicy by which the session's pods may connect to anywhere.

        Those of infra/kubernetes let pods out to no port of the machine that tests run on.
        """
        spec = V1NetworkPolicySpec(
            pod_selector=V1LabelSelector(match_labels=self.labels),
            policy_types=["Egress"],
            egress=[V1NetworkPolicyEgressRule()],
        )
        one = V1NetworkPolicy(metadata=self._metadata(name), spec=spec)
        self._ask(
            lambda api: NetworkingV1Api(api).create_namespaced_network_policy(self.namespace, one)
        )

    def pods(self, *, of: str | None = None) -> list[Pod]:
        """Return the pods of the session, or of one flow run."""
        selector = self._selector if of is None else f"{FLOW_RUN_LABEL}={of}"

        async def list_pods(api: ApiClient) -> list[dict[str, Any]]:
            # As JSON, since objects of it take the time that pods of the same machine need.
            answer: Any = await CoreV1Api(api).list_namespaced_pod(
                self.namespace, label_selector=selector, _preload_content=False
            )
            items: list[dict[str, Any]] = json.loads(await answer.read())["items"]
            return items

        return [_pod(one) for one in self._ask(list_pods)]

    def active_pods(self, *, of: Sequence[str]) -> list[Pod]:
        """Return the pods of some flow runs that run or will."""
        return [pod for pod in self.pods() if pod.flow_run_id in of and pod.is_active]

    def delete_pod(self, name: str) -> None:
        """Delete a pod as ``kubectl delete pod`` does."""
        self._ask(lambda api: CoreV1Api(api).delete_namespaced_pod(name, self.namespace))

    def vanish(self, flow_run_id: str) -> None:
        """Remove the Jobs of a flow run and their pods, without a chance to say good-bye."""
        pods = [pod.name for pod in self.pods(of=flow_run_id)]

        async def vanish(api: ApiClient) -> None:
            batch, core = BatchV1Api(api), CoreV1Api(api)
            selector = f"{FLOW_RUN_LABEL}={flow_run_id}"
            jobs = await batch.list_namespaced_job(self.namespace, label_selector=selector)
            for job in jobs.items:
                await batch.delete_namespaced_job(
                    job.metadata.name,
                    self.namespace,
                    grace_period_seconds=0,
                    propagation_policy="Orphan",
                )
            for pod in pods:
                await core.delete_namespaced_pod(pod, self.namespace, grace_period_seconds=0)

        self._ask(vanish)

    def use_up_memory(self, pod: str) -> None:
        """Make the kernel kill a pod for its memory; ``kubectl`` is needed on a real cluster."""
        if self._stand_in is not None:
            self._stand_in.kill(self.namespace, pod, "OOMKilled")
            return
        kubectl = ["kubectl", f"--kubeconfig={self.kubeconfig}"]
        command = [*kubectl, "exec", "--namespace", self.namespace, pod, "--", "python", "-c"]
        for script in (EAT_MEMORY, KILL_ALL):
            # It is killed too, so it never succeeds.
            subprocess.run([*command, script], check=False, capture_output=True)

    def clean_up(self) -> None:
        """Remove what the session has made."""

        async def clean_up(api: ApiClient) -> None:
            batch, core, there = BatchV1Api(api), CoreV1Api(api), self.namespace
            jobs = await batch.list_namespaced_job(there, label_selector=self._selector)
            for job in jobs.items:
                with suppress(NotFoundException):  # Its time after it finished may be up just now.
                    await batch.delete_namespaced_job(
                        job.metadata.name, there, propagation_policy="Background"
                    )
            secrets = await core.list_namespaced_secret(there, label_selector=self._selector)
            for secret in secrets.items:
                await core.delete_namespaced_secret(secret.metadata.name, there)
            networking = NetworkingV1Api(api)
            policies = await networking.list_namespaced_network_policy(
                there, label_selector=self._selector
            )
            for policy in policies.items:
                await networking.delete_namespaced_network_policy(policy.metadata.name, there)
            maps = await core.list_namespaced_config_map(there, label_selector=self._selector)
            for one in maps.items:
                await core.delete_namespaced_config_map(one.metadata.name, there)

        self._ask(clean_up)

    @property
    def _selector(self) -> str:
        return ",".join(f"{key}={value}" for key, value in self.labels.items())

    def _metadata(self, name: str) -> V1ObjectMeta:
        return V1ObjectMeta(name=name, labels=self.labels)

    def _ask(self, question: Callable[[ApiClient], Awaitable[T]]) -> T:
        async def ask() -> T:
            api = await config.new_client_from_config(config_file=str(self.kubeconfig))
            async with api:
                return await question(api)

        return asyncio.run(ask())


def _pod(one: dict[str, Any]) -> Pod:
    metadata = one["metadata"]
    return Pod(
        name=metadata["name"],
        flow_run_id=metadata["labels"].get(FLOW_RUN_LABEL, ""),
        phase=one["status"]["phase"],
        is_leaving="deletionTimestamp" in metadata,
        labels=metadata["labels"],
    )
