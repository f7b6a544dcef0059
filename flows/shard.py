"""What a pod or a process of a work pool runs: one shard of a run."""

from datetime import UTC, datetime
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from flows.dispatch import REFUSED
from flows.parameters import Places, Workers
from flows.progress import shard_line
from kaleidoscope.errors import KaleidoscopeError
from kaleidoscope.pipeline import run_shard
from kaleidoscope.runs import load_run
from kaleidoscope.settings import available_cpus


@flow(name="augment-shard")
def augment_shard(
    destination: str,
    run_id: str,
    shard: int,
    aws_credentials: str | None = None,
    workers: Workers | None = None,
) -> State[Any]:
    """Make the outputs of one shard of a run, unless its part is there already.

    Args:
        destination: URI of the data set that the run makes.
        run_id: The run, whose recipe and plan lie in the destination.
        shard: Index of the shard.
        aws_credentials: Name of an AwsCredentials block. Empty takes the usual AWS chain.
        workers: Threads that transform and encode. Empty takes one for each CPU.
    """
    try:
        places = Places(aws_credentials)
        store = places.open(destination)
        run = load_run(store, run_id)
        stats = run_shard(
            places.open(run.request.source),
            store,
            run,
            shard,
            workers=workers or available_cpus(),
            now=datetime.now(UTC),
            flow_run_id=flow_run.id,
        )
    except KaleidoscopeError as error:
        if error.retryable:
            raise
        # Its name tells the parent that another try would end the same.
        return Failed(name=REFUSED, message=f"{type(error).__name__}: {error}")
    line = shard_line(shard, stats)
    get_run_logger().info(line)
    return Completed(message=line)
