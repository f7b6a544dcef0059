"""Which sources are new, by what the plans of committed runs say was done.

All of it is a merge of sorted streams, so neither the listing nor the history sits in memory.
"""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from kaleidoscope.manifest import failed_source_keys, sources_from_parquet
from kaleidoscope.model import ObjectInfo
from kaleidoscope.runs import RunKeys, load_run
from kaleidoscope.stores import Store


class NewSources:
    """The sources that no earlier run has done in this version; both inputs are in key order."""

    def __init__(self, sources: Iterable[ObjectInfo], done: Iterator[ObjectInfo]) -> None:
        """Take what is there and what :func:`done_sources` says of it."""
        self._sources = sources
        self._done = done
        self.num_done = 0
        """Sources passed over so far."""

    def __iter__(self) -> Iterator[ObjectInfo]:
        """Yield the new ones."""
        known = next(self._done, None)
        for source in self._sources:
            while known is not None and known.key < source.key:
                known = next(self._done, None)
            if known is not None and (known.key, known.etag) == (source.key, source.etag):
                self.num_done += 1
            else:
                yield source


def done_sources(
    destination: Store, committed: Sequence[str], *, retry_failed: bool
) -> Iterator[ObjectInfo]:
    """Yield what earlier runs did, streamed in key order, each key in the version done last.

    Args:
        destination: Where the runs are.
        committed: Their names, the oldest first.
        retry_failed: Let no source that failed in its newest run count as done.

    Raises:
        ManifestError: If the records of one of the runs are damaged.
    """
    runs = [_planned_sources(destination, run_id, retry_failed) for run_id in reversed(committed)]
    # A stable merge: of equal keys the one of the newest run comes first.
    latest = None
    for source in heapq.merge(*runs, key=lambda info: info.key):
        if source.key != latest:
            latest = source.key
            yield source


def _planned_sources(
    destination: Store,
    run_id: str,
    retry_failed: bool,  # noqa: FBT001 -- passed on.
) -> Iterator[ObjectInfo]:
    """Yield the sources of a committed run; what is to be done again matches no source."""
    keys = RunKeys(run_id)
    failed: frozenset[str] = frozenset()
    if retry_failed:
        files = destination.list_objects(keys.manifest)
        failed = frozenset().union(
            *(failed_source_keys(destination.get(file.key).data) for file in files)
        )
    for index in range(load_run(destination, run_id).plan.num_shards):
        for source in sources_from_parquet(destination.get(keys.shard(index)).data):
            # No object has an empty etag. Left out, an earlier run's version would count as done,
            # though this run may have written over some of its outputs.
            yield replace(source, etag="") if source.key in failed else source
