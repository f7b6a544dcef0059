"""A cluster that is not there: an API server and a kubelet in a thread of this process."""

import asyncio
import json
import threading
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import kmock

from tests.cluster.api_server import ApiServer, Key, Objects
from tests.cluster.kubelet import Kubelet

START_TIMEOUT_S = 30.0

T = TypeVar("T")


class StandIn:
    """Runs as long as its ``with`` block.

    Attributes:
        kubeconfig: A file that leads clients here.
    """

    def __init__(self, folder: Path) -> None:
        """Prepare the cluster.

        Args:
            folder: For the kubeconfig and the logs of pods; made if it is not there.
        """
        self.kubeconfig = folder / "kubeconfig"
        self._logs = folder / "logs"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="stand-in", daemon=True)

    def __enter__(self) -> Self:
        self._logs.mkdir(parents=True, exist_ok=True)
        self._thread.start()
        self._call(self._start())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def kill(self, namespace: str, pod: str, reason: str) -> None:
        """End a pod as a node does: ``OOMKilled`` or ``Evicted``."""

        async def kill() -> None:
            self._kubelet.kill(Key("pods", namespace, pod), reason)

        self._call(kill())

    def _call(self, call: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(call, self._loop).result(START_TIMEOUT_S)

    async def _start(self) -> None:
        self._objects = Objects()
        self._kubelet = Kubelet(self._objects, self._logs)
        api = ApiServer(
            self._objects,
            on_create=self._kubelet.start,
            on_delete=self._kubelet.delete,
            read_log=self._kubelet.read_log,
        )
        self._handler, self._server = api.handler, kmock.Server(api.handler)
        await self._handler.__aenter__()
        await self._server.__aenter__()
        self.kubeconfig.write_text(json.dumps(_kubeconfig(str(self._server.url).rstrip("/"))))

    async def _stop(self) -> None:
        self._objects.close()
        await self._kubelet.stop()
        await self._server.__aexit__(None, None, None)
        await self._handler.__aexit__(None, None, None)


def _kubeconfig(url: str) -> dict[str, Any]:
    # JSON is YAML.
    name = "stand-in"
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [{"name": name, "cluster": {"server": url}}],
        "users": [{"name": name, "user": {}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
    }
