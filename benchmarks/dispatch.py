"""A run of very many shards, whose pods are simulated: what dispatch costs parent and server.

The parent flow, Prefect's server and its PostgreSQL are the real ones. In place of a worker and its
pods one process takes scheduled runs of shards from the work pool as a worker does, reports them
Pending and Running, waits, writes a part without rows and reports them Completed:

    python -m benchmarks.dispatch --shards 2000 --in-flight 200

writes ``docs/benchmarks/dispatch.md`` and fails if a bound is broken.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import cv2
import httpx
import numpy as np
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.deployments.runner import RunnerDeployment
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Completed, Pending, Running
from prefect.types.entrypoint import EntrypointType

from benchmarks.measuring import ROOT
from benchmarks.tables import describe_machine, measured_commit
from deployments.kubernetes.pool import POOL, SHARD_QUEUE, make_kubernetes_pool
from kaleidoscope.manifest import PartWriter, RunFacts, ShardStats
from kaleidoscope.runs import load_run
from kaleidoscope.stores import open_store
from tools.postgresql import PostgreSQL
from tools.prefect_server import PrefectServer

OUTPUT = ROOT / "docs" / "benchmarks" / "dispatch.md"

DEPLOYMENT = "simulated"

SHARD_S = 10.0
"""Seconds that a simulated pod is Running; real ones take minutes, and ask less often."""

WORKER_QUERY_S = 2.0
"""As the worker of infra/kubernetes has it."""

SAMPLE_S = 1.0

MAX_PARENT_BYTES = 512 * 1024 * 1024
"""Half of what a parent's pod asks for."""

MAX_THREADS_BESIDE = 60
"""Threads of the parent beside one for each shard in flight."""

MAX_REQUESTS_PER_SHARD = 5.0
"""Requests of the parent: two to make a run, and a share of what is asked for all."""

MAX_POLLS_PER_S = 3.0
"""Questions of the parent for all of its children."""

_RECIPE = "normalize: {side: 8}\ntransforms: [HorizontalFlip]\n"


@dataclass(frozen=True, slots=True)
class Costs:
    """What a run of many shards came to."""

    num_shards: int
    in_flight: int
    wall_s: float
    """From the start of the parent's process to its end."""
    num_completed: int
    """Runs of shards that are Completed on the server."""
    most_in_flight: int
    """Runs of shards that were Pending or Running at a time."""
    parent_peak_bytes: int
    parent_threads: int
    """The most at a time."""
    parent_cpu_s: float
    server_cpu_s: float
    """Of Prefect's server, without PostgreSQL."""
    server_peak_bytes: int
    requests: Mapping[str, int]
    """Of the parent, by what they ask."""

    @property
    def num_requests(self) -> int:
        """All requests of the parent."""
        return sum(self.requests.values())

    @property
    def requests_per_s(self) -> float:
        """Of the parent, over the whole run."""
        return self.num_requests / self.wall_s

    @property
    def polls_per_s(self) -> float:
        """Questions for all children."""
        return self.requests.get("POST /flow_runs/filter", 0) / self.wall_s

    def broken_bounds(self) -> list[str]:
        """Return in words what is worse than it may be."""
        allowed = {
            "shards not completed": (self.num_shards - self.num_completed, 0),
            "shards in flight": (self.most_in_flight, self.in_flight),
            "bytes of the parent": (self.parent_peak_bytes, MAX_PARENT_BYTES),
            "threads of the parent": (self.parent_threads, self.in_flight + MAX_THREADS_BESIDE),
            "requests of the parent for a shard": (
                self.num_requests / self.num_shards,
                MAX_REQUESTS_PER_SHARD,
            ),
            "questions a second for all children": (self.polls_per_s, MAX_POLLS_PER_S),
        }
        return [
            f"{name}: {value:,.1f}, at most {most:,.1f}"
            for name, (value, most) in allowed.items()
            if value > most
        ]


def measure(num_shards: int, in_flight: int, *, shard_s: float = SHARD_S) -> Costs:
    """Return what a run of the parent costs, the children simulated.

    Args:
        num_shards: Shards of the run.
        in_flight: How many the parent has under way at a time.
        shard_s: Seconds that a simulated pod takes.

    Raises:
        RuntimeError: If a process fails, with the end of its log.
    """
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dispatch-")))
        database = stack.enter_context(PostgreSQL())
        environment = {
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": database.url,
            # Of every connection; the default of five for each of two pools is for SQLite.
            "PREFECT_SERVER_DATABASE_SQLALCHEMY_POOL_SIZE": "20",
        }
        server = stack.enter_context(PrefectServer(home / "prefect", environment=environment))
        stack.enter_context(temporary_settings({PREFECT_API_URL: server.api_url}))
        _deploy()
        photos = _make_sources(home / "photos", num_shards)
        children = stack.enter_context(
            _process(home / "children", ["children", f"{shard_s}"], server.environment)
        )
        arguments = ["parent", str(photos), str(home / "out"), str(in_flight)]
        started_s = time.monotonic()
        with _process(home / "parent", arguments, server.environment) as parent:
            peak = _watch(parent, children, server.pid)
        wall_s = time.monotonic() - started_s
        if parent.returncode:
            log = (home / "parent.log").read_text(errors="replace")
            raise RuntimeError(f"the parent failed:\n{log[-3000:]}")
        told = json.loads((home / "parent.json").read_text())
        seen = json.loads((home / "children.json").read_text())
        return Costs(
            num_shards=num_shards,
            in_flight=in_flight,
            wall_s=wall_s,
            num_completed=seen["completed"],
            most_in_flight=seen["most_in_flight"],
            requests=told["requests"],
            parent_cpu_s=told["cpu_s"],
            **peak,
        )


def _deploy() -> None:
    # Importing it takes seconds, which the children's process is spared.
    from flows.shard import augment_shard  # noqa: PLC0415

    with get_client(sync_client=True) as client:
        make_kubernetes_pool(client, shards_at_once=None)
    deployment = cast(  # A coroutine only where an event loop runs.
        "RunnerDeployment",
        augment_shard.to_deployment(
            DEPLOYMENT,
            work_pool_name=POOL,
            work_queue_name=SHARD_QUEUE,
            job_variables={"image": "none"},
            entrypoint_type=EntrypointType.MODULE_PATH,
        ),
    )
    deployment.apply()


def _make_sources(folder: Path, number: int) -> Path:
    """Write small images that differ, one for each shard."""
    folder.mkdir()
    for index in range(number):
        image = np.full((8, 8, 3), index % 256, np.uint8)
        image[0, 0] = (index // 256, index % 256, 0)
        cv2.imwrite(str(folder / f"photo-{index:05d}.png"), image)
    return folder


@contextmanager
def _process(
    files: Path, arguments: list[str], environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run this module as another process, which tells what it saw in ``<files>.json``."""
    with files.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.dispatch", *arguments],
            cwd=ROOT,
            env={**environment, "TELL": str(files.with_suffix(".json"))},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _watch(
    parent: subprocess.Popen[bytes], children: subprocess.Popen[bytes], server_pid: int
) -> dict[str, Any]:
    """Return the most that was seen until the parent's end."""
    most: Counter[str] = Counter()
    server_cpu_s = _cpu_s(server_pid)
    while parent.poll() is None:
        if children.poll() is not None:
            raise RuntimeError("the process that stands for the pods has ended")
        status = _status(parent.pid)
        if "VmHWM" in status:
            most["parent_peak_bytes"] = 1024 * int(status["VmHWM"].split()[0])
            most["parent_threads"] = max(most["parent_threads"], int(status["Threads"]))
        time.sleep(SAMPLE_S)
    most["server_peak_bytes"] = 1024 * int(_status(server_pid)["VmHWM"].split()[0])
    return {**most, "server_cpu_s": _cpu_s(server_pid) - server_cpu_s}


def _status(pid: int) -> dict[str, str]:
    text = Path(f"/proc/{pid}/status").read_text()
    return dict(line.split(":", 1) for line in text.splitlines())


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run_parent(source: str, destination: str, in_flight: int) -> None:
    """Run the parent flow in this process and tell what it asked of the server."""
    from flows.augment import augment  # noqa: PLC0415 -- only this process needs it.

    requests = _count_requests()
    augment(
        source=source,
        destination=destination,
        custom_recipe=_RECIPE,
        replicas=in_flight,
        shard_minutes=1e-9,  # A shard for each source.
        execution="work-pool",
        shard_deployment=f"augment-shard/{DEPLOYMENT}",
    )
    _tell({"requests": dict(requests.most_common()), "cpu_s": time.process_time()})


def _tell(seen: Mapping[str, Any]) -> None:
    """Leave for the process that measures what this one saw."""
    Path(os.environ["TELL"]).write_text(json.dumps(seen))


def _count_requests() -> Counter[str]:
    """Return a counter of all HTTP requests of this process from now on."""
    requests: Counter[str] = Counter()
    lock = threading.Lock()
    send, send_async = httpx.Client.send, httpx.AsyncClient.send

    def count(request: httpx.Request) -> None:
        path = request.url.path.removeprefix("/api")
        steps = ["{id}" if _is_id(step) else step for step in path.split("/")]
        with lock:
            requests[f"{request.method} {'/'.join(steps)}"] += 1

    def counting(self: httpx.Client, request: httpx.Request, **more: Any) -> httpx.Response:
        count(request)
        return send(self, request, **more)

    async def counting_async(
        self: httpx.AsyncClient, request: httpx.Request, **more: Any
    ) -> httpx.Response:
        count(request)
        return await send_async(self, request, **more)

    # The one place through which all of Prefect's clients go.
    httpx.Client.send = counting  # type: ignore[method-assign] # a benchmark may.
    httpx.AsyncClient.send = counting_async  # type: ignore[method-assign] # a benchmark may.
    return requests


def _is_id(step: str) -> bool:
    try:
        UUID(step)
    except ValueError:
        return False
    return True


class Children:
    """Stands for the worker and the pods of all shards."""

    def __init__(self, client: PrefectClient, shard_s: float) -> None:
        """Prepare to take runs.

        Args:
            client: Of the server.
            shard_s: Seconds that a pod is Running.
        """
        self._client = client
        self._shard_s = shard_s
        self._in_flight: dict[UUID, asyncio.Task[None]] = {}
        self._most_in_flight = 0
        self._num_completed = 0

    async def work(self) -> None:
        """Take runs for ever."""
        while True:
            answer = await self._client.get_scheduled_flow_runs_for_work_pool(
                POOL, work_queue_names=[SHARD_QUEUE], scheduled_before=datetime.now(UTC)
            )
            for one in answer:
                run = one.flow_run
                if run.id not in self._in_flight:
                    self._in_flight[run.id] = asyncio.create_task(self._do(run))
            self._most_in_flight = max(self._most_in_flight, len(self._in_flight))
            await asyncio.sleep(WORKER_QUERY_S)

    async def _do(self, run: FlowRun) -> None:
        await self._client.set_flow_run_state(run.id, Pending())
        await self._client.set_flow_run_state(run.id, Running())
        await asyncio.sleep(self._shard_s)
        await asyncio.to_thread(write_part, run.parameters)
        await self._client.set_flow_run_state(run.id, Completed())
        del self._in_flight[run.id]
        self._num_completed += 1
        _tell({"completed": self._num_completed, "most_in_flight": self._most_in_flight})


def write_part(parameters: Mapping[str, Any]) -> None:
    """Write the part of a shard that made nothing of its one source."""
    store = open_store(parameters["destination"])
    run = load_run(store, parameters["run_id"])
    versions = run.request.versions
    facts = RunFacts(
        run_id=run.run_id,
        recipe_digest=run.request.recipe.digest,
        source_root=run.request.source,
        seed=run.request.recipe.seed,
        shard=parameters["shard"],
        flow_run_id=None,
        kaleidoscope_version=versions.kaleidoscope,
        opencv_version=versions.opencv,
        numpy_version=versions.numpy,
        created_at=run.request.created_at,
    )
    store.put(run.keys.part(parameters["shard"]), PartWriter(facts).finish(ShardStats(1)))


async def run_children(shard_s: float) -> None:
    """Stand for worker and pods until this process is killed."""
    async with get_client() as client:
        await Children(client, shard_s).work()


def to_page(costs: Costs, machine: str) -> str:
    """Return the measurements as Markdown."""
    mib = 1024 * 1024
    rows = [
        ("shards", f"{costs.num_shards:,}", ""),
        ("completed", f"{costs.num_completed:,}", "all"),
        ("most in flight", f"{costs.most_in_flight:,}", f"{costs.in_flight:,}"),
        ("seconds in all", f"{costs.wall_s:,.0f}", ""),
        ("wall ms for a shard", f"{1000 * costs.wall_s / costs.num_shards:,.0f}", ""),
        ("parent: peak MiB", f"{costs.parent_peak_bytes / mib:,.0f}", f"{MAX_PARENT_BYTES // mib}"),
        (
            "parent: threads",
            f"{costs.parent_threads:,}",
            f"{costs.in_flight + MAX_THREADS_BESIDE:,}",
        ),
        ("parent: CPU ms for a shard", f"{1000 * costs.parent_cpu_s / costs.num_shards:,.0f}", ""),
        ("parent: requests a second", f"{costs.requests_per_s:,.1f}", ""),
        (
            "parent: requests for a shard",
            f"{costs.num_requests / costs.num_shards:,.1f}",
            f"{MAX_REQUESTS_PER_SHARD:g}",
        ),
        (
            "parent: questions a second for all children",
            f"{costs.polls_per_s:,.1f}",
            f"{MAX_POLLS_PER_S:g}",
        ),
        ("server: CPU ms for a shard", f"{1000 * costs.server_cpu_s / costs.num_shards:,.0f}", ""),
        ("server: peak MiB", f"{costs.server_peak_bytes / mib:,.0f}", ""),
    ]
    requests = sorted(costs.requests.items(), key=lambda item: -item[1])
    return "\n".join(
        [
            "# Dispatch",
            "",
            machine,
            "",
            "The parent flow, Prefect's server and PostgreSQL are real and share this machine.",
            "One process stands for the worker and all pods, each Running for",
            f"{SHARD_S:g} s. A real pod costs the server about ten times the requests of a",
            "simulated one, and takes minutes instead of seconds.",
            "",
            "| | measured | at most |",
            "| --- | ---: | ---: |",
            *(f"| {name} | {value} | {most} |" for name, value, most in rows),
            "",
            "What the parent asks:",
            "",
            "| request | number |",
            "| --- | ---: |",
            *(f"| `{name}` | {number:,} |" for name, number in requests[:8]),
            "",
        ]
    )


def main() -> int:
    """Read the command line; return the exit status."""
    role, *rest = sys.argv[1:] or [""]
    if role == "parent":
        source, destination, in_flight = rest
        run_parent(source, destination, int(in_flight))
        return 0
    if role == "children":
        asyncio.run(run_children(float(rest[0])))
        return 0
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dispatch", description=__doc__)
    parser.add_argument("--shards", type=int, default=2000)
    parser.add_argument("--in-flight", type=int, default=200)
    arguments = parser.parse_args()
    measured_commit()
    costs = measure(arguments.shards, arguments.in_flight)
    machine = describe_machine("make bench-dispatch", f"{datetime.now(UTC):%d %B %Y}")
    page = to_page(costs, machine)
    print(page, json.dumps(asdict(costs)), sep="\n")
    OUTPUT.write_text(page)
    for broken in (broken_bounds := costs.broken_bounds()):
        print(f"Out of bounds: {broken}", file=sys.stderr)
    return 1 if broken_bounds else 0


if __name__ == "__main__":
    sys.exit(main())
