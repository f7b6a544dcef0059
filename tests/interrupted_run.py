"""A run in a process of its own, for tests that kill it."""

import multiprocessing
from multiprocessing.process import BaseProcess

from kaleidoscope.pipeline import StartOptions
from kaleidoscope.settings import Settings
from kaleidoscope.stores import S3Credentials, open_store
from tests import data_sets
from tests.data_sets import Place
from tests.faulty_stores import KillAt, WatchedStore

RECIPE = data_sets.recipe(steps=2, side=16)
TEN_SHARDS = StartOptions(min_shards=10)

# Forks from a server without threads, which has imported all that takes long.
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload([__name__])


def start(
    place: Place,
    *,
    die_at: int = 0,
    settings: Settings | None = None,
    credentials: S3Credentials | None = None,
) -> BaseProcess:
    """Run a place in ten shards, by two workers.

    Args:
        place: Only its URIs are handed over.
        die_at: The process kills itself before the write of this number, from 1; 0 for never.
        settings: Of both stores.
        credentials: Of both stores.
    """
    arguments = (place.source.uri, place.destination.uri, die_at, settings, credentials)
    process = _PROCESSES.Process(target=_run, args=arguments)
    process.start()
    return process


def _run(
    source: str,
    destination: str,
    die_at: int,
    settings: Settings | None,
    credentials: S3Credentials | None,
) -> None:
    sources, outputs = (
        open_store(uri, settings=settings, credentials=credentials) for uri in (source, destination)
    )
    Place(sources, WatchedStore(outputs, before=KillAt(die_at))).run(RECIPE, TEN_SHARDS, workers=2)
