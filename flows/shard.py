"""What a pod or a process of a work pool runs: one shard of a run."""

from datetime import UTC, datetime
from typing import Annotated, Any, TypeAlias

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from pydantic import Field

from flows.dispatch import REFUSED
from flows.places import Places
from flows.progress import shard_line
from kaleidoscope.errors import KaleidoscopeError
from kaleidoscope.pipeline import run_shard
from kaleidoscope.runs import load_run
from kaleidoscope.settings import available_cpus

Workers: TypeAlias = Annotated[int, Field(ge=1, le=256)]


@flow(name="augment-shard")
def augment_shard(  # noqa: PLR0913 -- which shard, and how the stores are opened.
    destination: str,
    run_id: str,
    shard: int,
    *,
    source: str | None = None,
    aws_credentials: str | None = None,
    endpoint_url: str | None = None,
    workers: Workers | None = None,
) -> State[Any]:
    """Make the outputs of one shard of a run, unless its part is there already.

    Args:
        destination: The data set that the run makes, as a URI or block://name/prefix.
        run_id: The run, whose recipe and plan lie in the destination.
        shard: Index of the shard.
        source: Where the photographs are. Empty takes what the run's record says.
        aws_credentials: Name of an AwsCredentials block. Empty takes the usual AWS chain.
        endpoint_url: Of an S3 server that is not AWS. Empty takes the block's.
        workers: Threads that transform and encode. Empty takes one for each CPU.
    """
    try:
        places = Places(aws_credentials, endpoint_url=endpoint_url)
        store = places.open(destination)
        run = load_run(store, run_id)
        stats = run_shard(
            places.open(source or run.request.source),
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
