"""A shard that writes a file and misbehaves on demand, for tests of the dispatch."""

import os
import signal
import time
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Failed

REFUSED = "Refused"
"""As in flows.dispatch, which is not imported: it would take seconds for every run."""


@flow(name="toy-shard")
def toy_shard(folder: str, shard: int) -> State[Any] | None:
    """Write ``part-<shard>`` unless a file says otherwise; each try adds a line to a log."""
    here = Path(folder)
    with (here / f"tries-{shard}").open("a") as log:
        log.write(f"{os.getpid()}\n")
    if _take(here / f"fail-{shard}"):
        message = "as the test wanted"
        raise OSError(message)
    if _take(here / f"die-{shard}"):
        os.kill(os.getpid(), signal.SIGKILL)
    if _take(here / f"refuse-{shard}"):
        return Failed(name=REFUSED, message="no retry will help")
    while (here / f"hold-{shard}").exists():
        time.sleep(0.05)
    (here / f"part-{shard}").touch()
    return None


def _take(file: Path) -> bool:
    try:
        file.unlink()
    except FileNotFoundError:
        return False
    return True
