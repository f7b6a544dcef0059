"""Key order for servers that list in an order of their own."""

import contextlib
import itertools
import sqlite3
from collections.abc import Iterable, Iterator

from kaleidoscope.model import ObjectInfo

_CACHE_KIB = 32 * 1024
"""Memory that a sort may take; what is more goes to a temporary file, which SQLite removes."""

_BATCH = 1000


def in_key_order(objects: Iterable[ObjectInfo]) -> Iterator[ObjectInfo]:
    """Yield ``objects`` in the order of their keys' UTF-8 bytes, once all of them have come.

    A million objects take about 100 MB of temporary disk and 32 MB of memory. An object that
    comes twice is yielded once.
    """
    # "" is a private database on disk that is written only when it outgrows the cache. Its
    # default collation compares UTF-8 bytes. A generator may be handed from thread to thread.
    with contextlib.closing(sqlite3.connect("", check_same_thread=False)) as database:
        database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        database.execute(
            "CREATE TABLE object (key TEXT PRIMARY KEY, size INT, etag TEXT, version_id TEXT)"
            " WITHOUT ROWID"
        )
        rows = ((o.key, o.size, o.etag, o.version_id) for o in objects)
        while batch := list(itertools.islice(rows, _BATCH)):
            database.executemany("INSERT OR REPLACE INTO object VALUES (?, ?, ?, ?)", batch)
        for key, size, etag, version_id in database.execute("SELECT * FROM object ORDER BY key"):
            yield ObjectInfo(key, size, etag, version_id)
