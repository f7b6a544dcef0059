"""The rest of the stand-in: Jobs become pods, and pods become processes of this machine.

An image is not looked at, but where it comes from is: nothing can be pulled from a registry whose
name ends in ``.invalid`` (RFC 2606). The one node has no labels, so a pod that wants some waits.
"""

import asyncio
import base64
import os
import re
import signal
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kmock

from tests.cluster.api_server import Key, Manifest, Objects, timestamp

ROOT = Path(__file__).parents[2]

UID_VARIABLE = "STAND_IN_POD_UID"
"""Marks the processes of a pod, since there is no cgroup that holds them together."""

UNPULLABLE = re.compile(r"[^/]*\.invalid(:\d+)?/.*")

BACKOFF_S = 0.5
"""Pause between two pods of one Job; a real one starts at 10 s and doubles."""

GRACE_S = 30.0
"""Between SIGTERM and SIGKILL where a pod says nothing else, as in Kubernetes."""


@dataclass(slots=True)
class Container:
    """The one container of a pod."""

    pod: Manifest
    log: Path
    process: asyncio.subprocess.Process | None = None
    is_stopped: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the pod has to end though it never started."""
    is_ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when its processes are gone."""
    reason: str | None = None
    """Why it was killed, where the exit code does not say: OOMKilled or Evicted."""

    @property
    def key(self) -> Key:
        """Of the pod."""
        return key_of("pods", self.pod)

    @property
    def spec(self) -> Manifest:
        """Of the container."""
        (spec,) = self.pod["spec"]["containers"]
        return dict(spec)

    @property
    def grace_s(self) -> float:
        """Seconds between SIGTERM and SIGKILL."""
        return float(self.pod["spec"].get("terminationGracePeriodSeconds", GRACE_S))


class Kubelet:
    """Runs Jobs until they are done, failed or deleted."""

    def __init__(self, objects: Objects, logs: Path) -> None:
        """Prepare to run Jobs.

        Args:
            objects: Of the cluster.
            logs: Folder for what containers print.
        """
        self._objects = objects
        self._logs = logs
        self._containers: dict[Key, Container] = {}
        self._jobs: dict[Key, asyncio.Task[None]] = {}

    def start(self, key: Key) -> None:
        """Begin with a Job that was made; other objects need nothing done."""
        if key.kind == "jobs":
            self._jobs[key] = asyncio.ensure_future(self._do_job(key))

    async def stop(self) -> None:
        """Kill everything at once."""
        for task in self._jobs.values():
            task.cancel()
        await asyncio.gather(*self._jobs.values(), return_exceptions=True)
        # Those of deleted Jobs that are in their time of grace.
        left = list(self._containers.values())
        for container in left:
            container.is_stopped.set()
            kill_processes(container.pod)
        await asyncio.gather(*(container.is_ended.wait() for container in left))

    async def delete(self, key: Key, grace_s: float | None, policy: str) -> None:
        """Delete a pod or a Job with its pods, after the grace that they have or that is given."""
        if key.kind == "pods":
            await self._delete_pod(key, grace_s)
            return
        if policy == "Foreground":
            self._objects.update(key, "metadata", deletionTimestamp=timestamp())
        else:
            self._objects.delete(key)
        task = self._jobs.pop(key, None)
        if policy != "Orphan":
            await self._delete_pods(key, grace_s)
        if task is not None:
            task.cancel()
        self._objects.delete(key)

    def kill(self, key: Key, reason: str) -> None:
        """End a pod as the kernel (OOMKilled) or the node (Evicted) does; it stays as Failed."""
        container = self._containers[key]
        container.reason = reason
        container.is_stopped.set()
        kill_processes(container.pod)

    def read_log(self, key: Key) -> bytes:
        """Return what a pod has printed, nothing if it never started."""
        log = self._logs / f"{key.name}.log"
        return log.read_bytes() if log.exists() else b""

    async def _do_job(self, key: Key) -> None:
        spec = self._objects.read(key)["spec"]
        pods = asyncio.ensure_future(self._try_pods(key, spec.get("backoffLimit", 6)))
        try:
            await asyncio.wait({pods}, timeout=spec.get("activeDeadlineSeconds"))
            if not pods.done():
                await self._delete_pods(key, None)
                self._fail(key, "DeadlineExceeded", num_failed=1)
        finally:
            pods.cancel()
            await asyncio.wait({pods})
        if (ttl_s := spec.get("ttlSecondsAfterFinished")) is not None:
            await asyncio.sleep(ttl_s)
            # In a task of its own, since it cancels this one.
            await asyncio.shield(asyncio.ensure_future(self.delete(key, None, "Background")))

    async def _try_pods(self, key: Key, backoff_limit: int) -> None:
        for num_failed in range(backoff_limit + 1):
            self._objects.update(
                key, "status", active=1, failed=num_failed, startTime=timestamp(), ready=0
            )
            if await self._run_pod(key):
                done = {"type": "Complete", "status": "True", "lastTransitionTime": timestamp()}
                self._objects.update(
                    key,
                    "status",
                    active=0,
                    succeeded=1,
                    completionTime=timestamp(),
                    conditions=[done],
                )
                return
            await asyncio.sleep(BACKOFF_S)
        self._fail(key, "BackoffLimitExceeded", num_failed=backoff_limit + 1)

    def _fail(self, key: Key, reason: str, *, num_failed: int) -> None:
        failed = {
            "type": "Failed",
            "status": "True",
            "reason": reason,
            "lastTransitionTime": timestamp(),
        }
        self._objects.update(key, "status", active=0, failed=num_failed, conditions=[failed])

    async def _run_pod(self, job_key: Key) -> bool:
        """Return whether the pod succeeded, once it has ended."""
        job = self._objects.read(job_key)
        template = job["spec"]["template"]
        labels = template.get("metadata", {}).get("labels", {})
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": job_key.name, "controller": True}
        manifest = {
            "metadata": {
                "generateName": f"{job_key.name}-",
                "labels": {**labels, "job-name": job_key.name},
                "ownerReferences": [{**owner, "uid": job["metadata"]["uid"]}],
            },
            "spec": template["spec"],
            "status": {"phase": "Pending"},
        }
        pod = self._objects.create("pods", job_key.namespace, manifest)
        container = Container(pod, self._logs / f"{pod['metadata']['name']}.log")
        self._containers[container.key] = container
        try:
            return await self._run_container(container)
        finally:
            kill_processes(pod)
            del self._containers[container.key]
            container.is_ended.set()

    async def _run_container(self, container: Container) -> bool:
        if obstacle := self._obstacle(container):
            self._objects.update(container.key, "status", **obstacle)
            await container.is_stopped.wait()
            code = 137
        else:
            code = await self._run_process(container)
        phase = "Failed" if code else "Succeeded"
        reason = container.reason or ("Error" if code else "Completed")
        end = {"terminated": {"exitCode": code, "reason": reason, "finishedAt": timestamp()}}
        evicted = {"reason": "Evicted"} if container.reason == "Evicted" else {}
        self._objects.update(
            container.key, "status", phase=phase, **_status(container, end), **evicted
        )
        return not code

    def _obstacle(self, container: Container) -> Manifest | None:
        """Return the status of a pod that cannot start, None if it can."""
        if container.pod["spec"].get("nodeSelector"):
            message = (
                "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."
            )
            condition = {
                "type": "PodScheduled",
                "status": "False",
                "reason": "Unschedulable",
                "message": message,
            }
            return {"conditions": [condition]}
        if UNPULLABLE.fullmatch(image := container.spec["image"]):
            waiting = {"reason": "ImagePullBackOff", "message": f'Back-off pulling image "{image}"'}
            return _status(container, {"waiting": waiting})
        return None

    async def _run_process(self, container: Container) -> int:
        """Return the exit code of the container's process, 137 and the like if it was killed."""
        spec = container.spec
        command = [*spec.get("command", []), *spec.get("args", [])]
        with container.log.open("ab") as log:
            container.process = await asyncio.create_subprocess_exec(
                *command,
                cwd=ROOT,
                env=self._environment(container),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Signals go where we send them, not where a terminal does.
                start_new_session=True,
            )
        running = _status(container, {"running": {"startedAt": timestamp()}}, ready=True)
        self._objects.update(container.key, "status", phase="Running", **running)
        code = await container.process.wait()
        return 128 - code if code < 0 else code

    def _environment(self, container: Container) -> dict[str, str]:
        """Return what the manifest says, and where this environment's programs are."""
        environment = {
            "PATH": f"{sysconfig.get_path('scripts')}{os.pathsep}{os.defpath}",
            "PYTHONPATH": str(ROOT),
            "VIRTUAL_ENV": sys.prefix,
            UID_VARIABLE: container.pod["metadata"]["uid"],
        }
        namespace = container.key.namespace
        for source in container.spec.get("envFrom", []):
            if "secretRef" in source:
                environment |= self._values("secrets", namespace, source["secretRef"])
            else:
                environment |= self._values("configmaps", namespace, source["configMapRef"])
        for variable in container.spec.get("env", []):
            if "valueFrom" in variable:
                reference = variable["valueFrom"]["secretKeyRef"]
                values = self._values("secrets", namespace, reference)
                environment[variable["name"]] = values[reference["key"]]
            elif variable.get("value") is not None:
                environment[variable["name"]] = variable["value"]
        return environment

    def _values(self, kind: str, namespace: str, reference: Mapping[str, Any]) -> dict[str, str]:
        try:
            one = self._objects.read(Key(kind, namespace, reference["name"]))
        except kmock.KubernetesError:
            if reference.get("optional"):
                return {}
            raise
        values: dict[str, str] = one.get("data") or {}
        if kind == "secrets":
            values = {key: base64.b64decode(text).decode() for key, text in values.items()}
        return values

    async def _delete_pods(self, job: Key, grace_s: float | None) -> None:
        pods = self._objects.find("pods", job.namespace, f"job-name={job.name}")
        await asyncio.gather(*(self._delete_pod(key_of("pods", pod), grace_s) for pod in pods))

    async def _delete_pod(self, key: Key, grace_s: float | None) -> None:
        container = self._containers.get(key)
        if container is not None:
            self._objects.update(key, "metadata", deletionTimestamp=timestamp())
            container.is_stopped.set()
            if container.process is not None:
                # Like a container runtime: SIGTERM to the first process, SIGKILL to all.
                with suppress(ProcessLookupError):
                    container.process.terminate()
                with suppress(TimeoutError):
                    wait_s = container.grace_s if grace_s is None else grace_s
                    await asyncio.wait_for(container.process.wait(), wait_s)
            kill_processes(container.pod)
            await container.is_ended.wait()
        self._objects.delete(key)


def key_of(kind: str, one: Manifest) -> Key:
    """Return the key of an object."""
    return Key(kind, one["metadata"]["namespace"], one["metadata"]["name"])


def kill_processes(pod: Manifest) -> None:
    """Kill whatever runs in a pod; what it has started may have left its process group."""
    for pid in find_processes(pod["metadata"]["uid"]):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def find_processes(uid: str) -> Iterator[int]:
    """Return the ids of the processes of a pod."""
    mark = f"{UID_VARIABLE}={uid}".encode()
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            if folder.name.isdigit() and mark in (folder / "environ").read_bytes().split(b"\0"):
                yield int(folder.name)


def _status(container: Container, state: Manifest, *, ready: bool = False) -> Manifest:
    status = {
        "name": container.spec["name"],
        "image": container.spec["image"],
        "imageID": "",
        "ready": ready,
        "restartCount": 0,
        "state": state,
    }
    return {"containerStatuses": [status]}
