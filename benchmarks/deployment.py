"""A run of the deployment beside one of the library alone, on the same photographs and CPUs.

Servers, workers and S3 are real and share this machine with what is measured, so all that
Prefect's server does counts against the deployment:

    python -m benchmarks.deployment --rounds 3

writes ``docs/benchmarks/deployment.md``. A shard's pace is that of its process once it makes
images; what goes before and after is the cost of the flow, reported apart.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings

from benchmarks.measuring import ROOT
from benchmarks.photographs import make_photographs
from benchmarks.scenarios import s3_environment
from benchmarks.tables import describe_machine, measured_commit
from deployments.work_pools import PARENT_POOL, SHARD_POOL, make_process_pools
from kaleidoscope.manifest import ShardFacts, read_shard_facts
from kaleidoscope.runs import list_runs, load_report, load_run
from kaleidoscope.settings import Settings
from kaleidoscope.stores import Store, open_store
from kaleidoscope.transfer import copy_objects
from tools.prefect_server import PrefectServer
from tools.seaweedfs import SeaweedFS

OUTPUT = ROOT / "docs" / "benchmarks" / "deployment.md"

BUCKET = "benchmark"
SOURCE = f"s3://{BUCKET}/photographs"
DEPLOYMENT = "augment/process"

REPLICAS = 2

MIN_RATIO = 0.9
"""Of the library's pace, that shards of the deployment should keep."""

RUN_TIMEOUT_S = 1800.0
_POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a run made its images."""

    num_outputs: int
    num_shards: int
    making_s: float
    """From the first shard that made images to the last part."""
    wall_s: float
    """From the command to the committed run."""
    waiting_s: float
    """From the command until the first shard made images."""

    @property
    def rate(self) -> float:
        """Images a second while they were made."""
        return self.num_outputs / self.making_s

    @property
    def ending_s(self) -> float:
        """From the last part until the run had ended: manifest, card and pages."""
        return self.wall_s - self.waiting_s - self.making_s


def measure(num_photographs: int, num_rounds: int) -> list[tuple[Pace, Pace]]:
    """Return for each round the pace of the library and that of the deployment."""
    photographs = make_photographs(
        ROOT / "examples" / "photos",
        ROOT / ".cache" / "benchmarks" / f"photographs-{num_photographs}",
        number=num_photographs,
    )
    with ExitStack() as stack:
        server = stack.enter_context(SeaweedFS())
        server.create_bucket(BUCKET)
        environment = s3_environment(server)
        os.environ.update(environment)
        copy_objects(open_store(str(photographs[0].parent)), _open(SOURCE))
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="deployment-")))
        prefect = stack.enter_context(PrefectServer(home, environment=environment))
        stack.enter_context(temporary_settings({PREFECT_API_URL: prefect.api_url}))
        client = stack.enter_context(get_client(sync_client=True))
        make_process_pools(client, shards_at_once=REPLICAS)
        prefect.run("--no-prompt", "deploy", "--name", "process", cwd=ROOT)
        for pool in (PARENT_POOL, SHARD_POOL):
            prefect.start_worker(pool, cwd=ROOT)
        rounds = []
        for number in range(num_rounds):
            alone = _run_library(f"library-{number}")
            print(alone, flush=True)
            deployed = _run_deployment(client, f"deployment-{number}")
            print(deployed, flush=True)
            rounds.append((alone, deployed))
        return rounds


def _open(uri: str) -> Store:
    return open_store(uri, settings=Settings.from_environment())


def _run_library(name: str) -> Pace:
    """Run the command of the library, which uses all CPUs, as a shard of a pod does."""
    destination = f"s3://{BUCKET}/{name}"
    started = datetime.now(UTC)
    command = [sys.executable, "-m", "kaleidoscope", "run", SOURCE, destination]
    subprocess.run([*command, "--recipe", "classic"], check=True, cwd=ROOT, capture_output=True)
    return _pace(destination, started, datetime.now(UTC))


def _run_deployment(client: SyncPrefectClient, name: str) -> Pace:
    destination = f"s3://{BUCKET}/{name}"
    deployment = client.read_deployment_by_name(DEPLOYMENT)
    parameters = {
        "source": SOURCE,
        "destination": destination,
        "recipe": "classic",
        "replicas": REPLICAS,
    }
    started = datetime.now(UTC)
    run = client.create_flow_run_from_deployment(deployment.id, parameters=parameters)
    ended = _wait(client, run.id)
    if ended.state is None or not ended.state.is_completed() or ended.end_time is None:
        raise RuntimeError(f"the run ended {ended.state}")
    return _pace(destination, started, ended.end_time)


def _wait(client: SyncPrefectClient, run_id: UUID) -> FlowRun:
    deadline = time.monotonic() + RUN_TIMEOUT_S
    while time.monotonic() < deadline:
        run = client.read_flow_run(run_id)
        if run.state is not None and run.state.is_final():
            return run
        time.sleep(_POLL_S)
    raise RuntimeError(f"the run did not end within {RUN_TIMEOUT_S:.0f} s")


def _pace(destination: str, started: datetime, ended: datetime) -> Pace:
    store = _open(destination)
    (entry,) = list_runs(store)
    run = load_run(store, entry.run_id)
    shards = [
        read_shard_facts(store.get(run.keys.part(index)).data)
        for index in range(run.plan.num_shards)
    ]
    first = min(cast(datetime, shard.started_at) for shard in shards)
    last = max(map(_end_of, shards))
    return Pace(
        num_outputs=load_report(store, entry.run_id).num_outputs,
        num_shards=run.plan.num_shards,
        making_s=(last - first).total_seconds(),
        wall_s=(ended - started).total_seconds(),
        waiting_s=(first - started).total_seconds(),
    )


def _end_of(shard: ShardFacts) -> datetime:
    return cast(datetime, shard.started_at) + timedelta(seconds=shard.stats.wall_s)


def to_page(rounds: Sequence[tuple[Pace, Pace]], num_photographs: int, machine: str) -> str:
    """Return the measurements as Markdown."""
    ratio = median_ratio(rounds)
    alone, deployed = ([pair[index] for pair in rounds] for index in (0, 1))

    def row(name: str, values: Sequence[Sequence[float]], digits: int = 1) -> str:
        cells = [f"{statistics.median(column):,.{digits}f}" for column in values]
        return f"| {name} | {' | '.join(cells)} |"

    both = (alone, deployed)
    return "\n".join(
        [
            "# Deployment",
            "",
            machine,
            "",
            f"{num_photographs} photographs by `classic`, {alone[0].num_outputs:,} images, from S3",
            f"to S3: `kaleidoscope run`, and a run of `{DEPLOYMENT}` with {REPLICAS} replicas.",
            f"Medians; rounds: {len(rounds)}. The S3 server shares the CPUs, as does Prefect's",
            "server, which in a cluster has its own.",
            "",
            f"While shards run, the deployment has **{ratio:.2f}** of the pace of the library",
            f"alone (wanted: {MIN_RATIO:g} or more).",
            "",
            "| | library | deployment |",
            "| --- | ---: | ---: |",
            row("shards", [[p.num_shards for p in some] for some in both], 0),
            row("images a second while shards run", [[p.rate for p in some] for some in both], 0),
            row("seconds until images are made", [[p.waiting_s for p in some] for some in both]),
            row("seconds of making images", [[p.making_s for p in some] for some in both]),
            row("seconds after the last", [[p.ending_s for p in some] for some in both]),
            row("seconds in all", [[p.wall_s for p in some] for some in both]),
            "",
            "The deployment waits for a worker, for the parent's process, for the plan with its",
            "measured photographs, and for the processes of the shards, of which each imports its",
            "libraries; after the last image it draws the pages and ends.",
            "",
        ]
    )


def median_ratio(rounds: Sequence[tuple[Pace, Pace]]) -> float:
    """Return the median over rounds of the deployment's pace, in that of the library."""
    return statistics.median(deployed.rate / alone.rate for alone, deployed in rounds)


def main() -> int:
    """Read the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.deployment", description=__doc__)
    parser.add_argument("--photographs", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    measured_commit()
    rounds = measure(arguments.photographs, arguments.rounds)
    machine = describe_machine("make bench-deployment", f"{datetime.now(UTC):%d %B %Y}")
    page = to_page(rounds, arguments.photographs, machine)
    print(page)
    OUTPUT.write_text(page)
    return 0 if median_ratio(rounds) >= MIN_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
