"""Stores that fail, die or are slow on purpose, around a real one."""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from kaleidoscope.errors import StoreError
from kaleidoscope.model import ObjectInfo
from kaleidoscope.stores import ObjectWriter, SkipListener, Store, StoredObject

Action = Literal["list", "get", "head", "put", "create", "replace", "delete"]
WRITES: frozenset[Action] = frozenset({"put", "create", "replace", "delete"})

Hook = Callable[[Action, str], None]


def _nothing(_action: Action, _key: str) -> None:
    pass


@dataclass(frozen=True)
class WatchedStore:
    """Does all that ``inner`` does, and calls a hook before and after each request."""

    inner: Store
    before: Hook = _nothing
    after: Hook = _nothing

    @property
    def uri(self) -> str:
        return self.inner.uri

    def list_objects(
        self, prefix: str = "", *, on_skipped: SkipListener | None = None
    ) -> Iterator[ObjectInfo]:
        self.before("list", prefix)
        yield from self.inner.list_objects(prefix, on_skipped=on_skipped)
        self.after("list", prefix)

    def get(self, key: str) -> StoredObject:
        self.before("get", key)
        stored = self.inner.get(key)
        self.after("get", key)
        return stored

    def get_range(self, key: str, *, offset: int, length: int) -> bytes:
        self.before("get", key)
        data = self.inner.get_range(key, offset=offset, length=length)
        self.after("get", key)
        return data

    def head(self, key: str) -> ObjectInfo:
        self.before("head", key)
        info = self.inner.head(key)
        self.after("head", key)
        return info

    def put(self, key: str, data: bytes) -> None:
        self.before("put", key)
        self.inner.put(key, data)
        self.after("put", key)

    @contextmanager
    def write_in_pieces(self, key: str) -> Iterator[ObjectWriter]:
        with self.inner.write_in_pieces(key) as writer:
            yield writer
            self.before("put", key)
        self.after("put", key)

    def create(self, key: str, data: bytes) -> None:
        self.before("create", key)
        self.inner.create(key, data)
        self.after("create", key)

    def replace(self, key: str, data: bytes, *, etag: str) -> str:
        self.before("replace", key)
        written = self.inner.replace(key, data, etag=etag)
        self.after("replace", key)
        return written

    def delete(self, keys: Iterable[str]) -> None:
        self.before("delete", "")
        self.inner.delete(keys)
        self.after("delete", "")


class Requests:
    """A hook that remembers what was asked."""

    def __init__(self) -> None:
        self.all: list[tuple[Action, str]] = []

    def __call__(self, action: Action, key: str) -> None:
        self.all.append((action, key))  # One operation, so that threads need no lock.

    def keys(self, *actions: Action) -> list[str]:
        return [key for action, key in self.all if action in actions]


@dataclass
class DownFrom:
    """A hook that fails at the request of this number, from 1, and at all that follow."""

    first: int
    actions: frozenset[Action] = WRITES
    _seen: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, action: Action, key: str) -> None:
        if action not in self.actions:
            return
        with self._lock:
            self._seen += 1
            is_down = self._seen >= self.first
        if is_down:
            raise StoreError(f"the store is down: {action} {key}")


@dataclass
class KillAt:
    """A hook that ends this process as ``kill -9`` does, at the write of this number."""

    last: int
    _seen: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, action: Action, _key: str) -> None:
        if action in WRITES:
            with self._lock:
                self._seen += 1
                if self._seen == self.last:
                    os.kill(os.getpid(), signal.SIGKILL)
