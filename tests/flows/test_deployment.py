"""The deployments of prefect.yaml: real workers, a real S3 server, and real deaths."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.states import AwaitingRetry, Cancelling
from prefect_aws import AwsCredentials
from prefect_aws.client_parameters import AwsClientParameters
from pydantic import SecretStr

import kaleidoscope
from deployments.work_pools import make_process_pools
from kaleidoscope.lineage import read_manifest
from kaleidoscope.runs import list_runs
from kaleidoscope.settings import Settings
from kaleidoscope.stores import S3Credentials, Store, open_store
from kaleidoscope.transfer import copy_objects
from tests.flows.waiting import children_of, wait_for
from tools.seaweedfs import SeaweedFS

RECIPE = """
normalize: {side: 32}
transforms: [HorizontalFlip, Rotate]
"""

BLOCK = "kaleidoscope-tests"

# Up to seven runs of deployments, each of which takes 10 s on an idle machine.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def credentials(client: SyncPrefectClient, seaweedfs: SeaweedFS) -> str:  # noqa: ARG001 - a server.
    """The name of a block that leads to the S3 server."""
    block = AwsCredentials(
        aws_access_key_id=seaweedfs.access_key,
        aws_secret_access_key=SecretStr(seaweedfs.secret_key),
        region_name="us-east-1",
        aws_client_parameters=AwsClientParameters(endpoint_url=seaweedfs.endpoint_url),
    )
    block.save(BLOCK, overwrite=True)
    return BLOCK


class Deployed:
    """The deployment of the parent flow, on photographs in S3."""

    def __init__(self, client: SyncPrefectClient, deployment: str, uri: str, output: Store) -> None:
        self.client = client
        self.deployment = deployment
        self.uri = uri
        self.output = output

    def start(self, *, replicas: int = 3) -> UUID:
        return self.client.create_flow_run_from_deployment(
            self.client.read_deployment_by_name(self.deployment).id,
            parameters={
                "source": f"{self.uri}/photos",
                "destination": f"{self.uri}/out",
                "custom_recipe": RECIPE,
                "replicas": replicas,
                "aws_credentials": BLOCK,
            },
        ).id

    def run(self, run_id: UUID) -> FlowRun:
        return self.client.read_flow_run(run_id)

    def finish(self, run_id: UUID) -> str | None:
        """Wait for the run and return what its last state is called."""
        wait_for(lambda: is_final(self.run(run_id)))
        return self.run(run_id).state_name

    def children(self, run_id: UUID) -> list[FlowRun]:
        return children_of(self.client, run_id)

    def num_parts(self) -> int:
        return sum("/parts/" in info.key for info in self.output.list_objects())

    def hashes(self) -> dict[str, str]:
        table = read_manifest(self.output)
        return dict(zip(table["output_key"], table["sha256"], strict=True))


@pytest.fixture
def deployed(  # noqa: PLR0913 - a server, a store, and what lies in it.
    *,
    client: SyncPrefectClient,
    deployment: str,
    credentials: str,  # noqa: ARG001 - the runs load it.
    photos: Path,
    s3_uri: str,
    s3_settings: Settings,
    s3_credentials: S3Credentials,
) -> Iterator[Deployed]:
    def at(uri: str) -> Store:
        return open_store(uri, settings=s3_settings, credentials=s3_credentials)

    copy_objects(open_store(str(photos)), at(f"{s3_uri}/photos"))
    yield Deployed(client, deployment, s3_uri, at(f"{s3_uri}/out"))
    make_process_pools(client, shards_at_once=0)


@pytest.fixture
def expected(photos: Path, tmp_path: Path) -> dict[str, str]:
    """What the library makes of the photographs, by key."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE)
    kaleidoscope.run(str(photos), str(tmp_path / "out"), str(recipe))
    table = kaleidoscope.read_manifest(str(tmp_path / "out"))
    return dict(zip(table["output_key"], table["sha256"], strict=True))


def is_final(run: FlowRun) -> bool:
    return run.state is not None and run.state.is_final()


def kill(run: FlowRun) -> None:
    """Kill what a process worker started for a run, and what that started, without a warning."""
    assert run.infrastructure_pid is not None
    os.killpg(int(run.infrastructure_pid.rpartition(":")[2]), signal.SIGKILL)


def test_the_deployment_makes_in_s3_what_the_library_makes_in_a_folder(
    deployed: Deployed, expected: dict[str, str]
) -> None:
    run_id = deployed.start()
    assert deployed.finish(run_id) == "Completed"
    assert deployed.hashes() == expected
    assert deployed.run(run_id).name == "photos-recipe"
    assert len(deployed.children(run_id)) == 3


def test_a_parent_that_was_killed_takes_up_its_shards_when_it_is_retried(
    deployed: Deployed, expected: dict[str, str], client: SyncPrefectClient
) -> None:
    make_process_pools(client, shards_at_once=1)
    run_id = deployed.start()
    wait_for(lambda: deployed.num_parts() > 0)
    kill(deployed.run(run_id))
    assert deployed.finish(run_id) == "Crashed"
    # Runner and worker both report the death, seconds apart, and the second may hit the retry.
    for _ in range(3):
        client.set_flow_run_state(run_id, AwaitingRetry())
        if deployed.finish(run_id) == "Completed":
            break
    assert deployed.hashes() == expected
    assert len(deployed.children(run_id)) == 3
    assert [entry.is_committed for entry in list_runs(deployed.output)] == [True]


def test_cancelling_a_run_cancels_its_shards_and_a_new_run_does_the_rest(
    deployed: Deployed, expected: dict[str, str], client: SyncPrefectClient
) -> None:
    make_process_pools(client, shards_at_once=1)
    # One for each photograph, one after the other, so that some are left when the cancelling has
    # gone through, which takes as long as two or three.
    run_id = deployed.start(replicas=4)
    wait_for(lambda: deployed.num_parts() > 0)
    client.set_flow_run_state(run_id, Cancelling())
    assert deployed.finish(run_id) == "Cancelled"
    wait_for(lambda: all(is_final(child) for child in deployed.children(run_id)))
    num_done = deployed.num_parts()
    assert num_done < 4
    make_process_pools(client, shards_at_once=0)
    again = deployed.start()
    assert deployed.finish(again) == "Completed"
    assert deployed.hashes() == expected
    # Fewer if a shard's process outlived its cancelling and wrote its part after it was counted.
    assert len(deployed.children(again)) <= 4 - num_done
