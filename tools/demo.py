"""The whole of Kaleidoscope on this machine: ``make demo``, or ``make demo KEEP=1`` to look around.

Starts an S3 server and a Prefect server on free ports, deploys prefect.yaml, uploads the example
photographs, runs the ``augment`` deployment, and shows what came of it. All that it starts ends
with it; what it writes lies in ``.demo``.
"""

import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import NoReturn
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.settings import PREFECT_API_URL, temporary_settings
from pydantic import SecretStr
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from deployments.work_pools import PARENT_POOL, SHARD_POOL, make_process_pools
from flows.progress import ARTIFACT_KEY
from kaleidoscope.lineage import read_manifest
from kaleidoscope.preview import contact_sheet
from kaleidoscope.recipe import Recipe
from kaleidoscope.runs import list_runs, load_report
from kaleidoscope.settings import Settings
from kaleidoscope.stores import S3Credentials, Store, open_store
from kaleidoscope.summary import describe_report, format_bytes, format_seconds
from kaleidoscope.transfer import copy_objects
from tools.prefect_server import PrefectServer
from tools.seaweedfs import SeaweedFS

ROOT = Path(__file__).parents[1]
PHOTOS = ROOT / "examples" / "photos"
FOLDER = ROOT / ".demo"

SOURCE = "s3://demo/photos"
DESTINATION = "s3://demo/augmented"
RECIPE = "classic"
DEPLOYMENT = "augment/process"
REPLICAS = 2

RUN_TIMEOUT_S = 900.0
POLL_INTERVAL_S = 0.5

console = Console(highlight=False)


def main() -> None:
    """Run the demo; ``KEEP`` in the environment leaves the servers up until Ctrl-C."""
    # Its default would end this process and leave the servers; an exception takes them along.
    signal.signal(signal.SIGTERM, _end)
    shutil.rmtree(FOLDER, ignore_errors=True)
    try:
        console.print("Starting an S3 server ...")
        with SeaweedFS() as s3:
            console.print("Starting a Prefect server ...")
            with (
                PrefectServer(FOLDER / "prefect", environment=_environment(s3)) as prefect,
                temporary_settings({PREFECT_API_URL: prefect.api_url}),
                get_client(sync_client=True) as client,
            ):
                _deploy(prefect, client)
                _demonstrate(s3, prefect, client)
                if os.environ.get("KEEP"):
                    _wait_for_ctrl_c(s3, prefect)
    except KeyboardInterrupt:
        console.print("Stopped.")
        sys.exit(130)


def _environment(s3: SeaweedFS) -> Mapping[str, str]:
    """Return how the runs reach the S3 server, so that no form has to ask for it."""
    return {
        "KALEIDOSCOPE_S3_ENDPOINT_URL": s3.endpoint_url,
        "AWS_ACCESS_KEY_ID": s3.access_key,
        "AWS_SECRET_ACCESS_KEY": s3.secret_key,
        "AWS_REGION": "us-east-1",
    }


def _deploy(prefect: PrefectServer, client: SyncPrefectClient) -> None:
    console.print("Making work pools, deployments and workers ...")
    make_process_pools(client, shards_at_once=REPLICAS)
    prefect.run("--no-prompt", "deploy", "--name", "process", cwd=ROOT)
    for pool in (PARENT_POOL, SHARD_POOL):
        prefect.start_worker(pool, cwd=ROOT)


def _demonstrate(s3: SeaweedFS, prefect: PrefectServer, client: SyncPrefectClient) -> None:
    s3.create_bucket("demo")
    uploaded = copy_objects(open_store(str(PHOTOS)), _open(s3, SOURCE))
    console.print(f"Uploaded {format_bytes(uploaded.size_copied)} of photographs to {SOURCE}")
    arguments = ["deployment", "run", DEPLOYMENT]
    for name, value in {"source": SOURCE, "destination": DESTINATION, "recipe": RECIPE}.items():
        arguments += ["--param", f"{name}={value}"]
    console.print(f"[bold]prefect {' '.join(arguments)}[/]", soft_wrap=True)
    prefect.run(*arguments)
    (newest,) = client.read_flow_runs(limit=1, sort=FlowRunSort.EXPECTED_START_TIME_DESC)
    run = _watch(client, newest.id)
    if run.state is None or not run.state.is_completed():
        logs = FOLDER / "prefect"
        raise SystemExit(f"The run ended {run.state}. The logs of the servers are in {logs}.")
    _show(s3, prefect, run)


def _watch(client: SyncPrefectClient, run_id: UUID) -> FlowRun:
    """Show how far a flow run is until it ends, and return it."""
    deadline = time.monotonic() + RUN_TIMEOUT_S
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("waiting for a worker", total=100)
        while time.monotonic() < deadline:
            run = client.read_flow_run(run_id)
            if run.state is not None and run.state.is_final():
                progress.update(bar, completed=100)
                return run
            for artifact in client.read_artifacts(
                artifact_filter=ArtifactFilter(
                    key=ArtifactFilterKey(any_=[ARTIFACT_KEY]),
                    flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]),
                ),
                limit=1,
            ):
                done = float(str(artifact.data))
                progress.update(bar, completed=done, description=artifact.description or "")
            time.sleep(POLL_INTERVAL_S)
    raise SystemExit(f"The run did not end within {RUN_TIMEOUT_S:.0f} s.")


def _show(s3: SeaweedFS, prefect: PrefectServer, run: FlowRun) -> None:
    output = _open(s3, DESTINATION)
    (entry,) = list_runs(output)
    report = load_report(output, entry.run_id)
    seconds = run.total_run_time.total_seconds()
    rate = report.num_outputs / seconds
    rows = read_manifest(output, columns=["output_key", "op", "params"])
    lines = (
        "",
        f"[bold]{report.num_sources} images in, {report.num_outputs} images out[/]",
        f"{rate:,.0f} images/s over the whole flow run, which took {format_seconds(seconds)}",
        f"{report.num_outputs / report.shard_s:,.0f} images/s in each shard while it worked",
        "",
        describe_report(report),
        "",
        "The first rows of the manifest:",
        rows.head(8).to_string(max_colwidth=50),
        "",
        f"contact sheet  {_draw_contact_sheet()}",
        f"Prefect UI     {prefect.url}/runs/flow-run/{run.id}",
    )
    console.print("\n".join(lines), soft_wrap=True)


def _draw_contact_sheet() -> Path:
    photograph = PHOTOS / "animals" / "cat.jpg"
    sheet = contact_sheet(
        photograph.read_bytes(),
        Recipe.preset(RECIPE),
        image_name=photograph.name,
        recipe_name=RECIPE,
    )
    path = FOLDER / "contact-sheet.png"
    path.write_bytes(sheet.data)
    return path


def _wait_for_ctrl_c(s3: SeaweedFS, prefect: PrefectServer) -> None:
    console.print(
        f"\nEverything stays up until Ctrl-C. Open {prefect.url}/deployments and try a run of "
        f"{DEPLOYMENT} yourself.\nThe S3 server is {s3.endpoint_url}, with the key "
        f"{s3.access_key} and the secret {s3.secret_key}.",
        soft_wrap=True,
    )
    signal.pause()


def _open(s3: SeaweedFS, uri: str) -> Store:
    return open_store(
        uri,
        settings=Settings(s3_endpoint_url=s3.endpoint_url, s3_region="us-east-1"),
        credentials=S3Credentials(s3.access_key, SecretStr(s3.secret_key)),
    )


def _end(signal_number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
