"""A run in a process of its own, for tests that kill it."""

import multiprocessing
from dataclasses import dataclass
from multiprocessing.process import BaseProcess

from kaleidoscope.pipeline import StartOptions
from kaleidoscope.recipe import Recipe
from kaleidoscope.settings import Settings
from kaleidoscope.stores import S3Credentials, open_store
from tests import data_sets
from tests.data_sets import Place
from tests.faulty_stores import KillAt, WatchedStore

RECIPE = data_sets.recipe(steps=2, side=16)
IN_TARS = data_sets.recipe(steps=2, side=16, output={"format": "jpeg", "container": "webdataset"})
TEN_SHARDS = StartOptions(min_shards=10)

# Forks from a server without threads, which has imported all that takes long.
_FORKED = multiprocessing.get_context("forkserver")
_FORKED.set_forkserver_preload([__name__])
# The S3 store does not write in a process that was forked off one which has imported it.
_SPAWNED = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True)
class _Order:
    """What the process is to do."""

    source: str
    destination: str
    recipe: Recipe
    die_at: int
    settings: Settings | None
    credentials: S3Credentials | None


def start(
    place: Place,
    *,
    recipe: Recipe = RECIPE,
    die_at: int = 0,
    settings: Settings | None = None,
    credentials: S3Credentials | None = None,
) -> BaseProcess:
    """Run a place in ten shards, by two workers.

    Args:
        place: Only its URIs are handed over.
        recipe: What to make.
        die_at: The process kills itself before the write of this number, from 1; 0 for never.
        settings: Of both stores; those in S3 need them.
        credentials: Of both stores.
    """
    order = _Order(place.source.uri, place.destination.uri, recipe, die_at, settings, credentials)
    context = _FORKED if settings is None else _SPAWNED
    process = context.Process(target=_run, args=(order,))
    process.start()
    return process


def _run(order: _Order) -> None:
    sources, outputs = (
        open_store(uri, settings=order.settings, credentials=order.credentials)
        for uri in (order.source, order.destination)
    )
    place = Place(sources, WatchedStore(outputs, before=KillAt(order.die_at)))
    place.run(order.recipe, TEN_SHARDS, workers=2)
