"""The right of a flow run to plan and commit in a destination."""

import socket
from contextlib import AbstractContextManager
from datetime import UTC, datetime

from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from kaleidoscope.lease import WAIT_S, Holder, Lease, hold
from kaleidoscope.stores import Store


def at_work(destination: Store, *, wait_s: float = WAIT_S) -> AbstractContextManager[Lease]:
    """Hold the lease of a destination for the current flow run, while the block runs.

    A retry of the flow run takes up the lease of its earlier try at once.

    Args:
        destination: Where the flow run is to be the only one at work.
        wait_s: Seconds to wait for another to end; 0 refuses at once.

    Raises:
        LeaseError: If another holds it for longer; the message names it.
    """
    logger = get_run_logger()
    name = f"flow run {flow_run.name}"
    holder = Holder(str(flow_run.id), name, socket.gethostname(), datetime.now(UTC))

    def say_so(other: Holder) -> None:
        logger.warning("Waiting up to %.0f s for %s to end its work here", wait_s, other)

    return hold(destination, holder, wait_s=wait_s, on_wait=say_so)
