"""The port through which all data comes and goes: objects under a prefix."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from kaleidoscope.model import ObjectInfo

SkipListener: TypeAlias = Callable[[str, str], None]
"""Called with a key, printable, and the reason why a listing leaves it out."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object that was read, with the identity that it had when it was read."""

    info: ObjectInfo
    data: bytes


class ObjectWriter(Protocol):
    """Takes the bytes of one object, piece by piece."""

    def write(self, data: bytes) -> None:
        """Add bytes behind those that were written before.

        Raises:
            StoreError: If the store is down or keeps failing.
        """


class Store(Protocol):
    """Objects below one prefix of a bucket or below one folder.

    Keys are relative to that prefix and follow the rule of
    :func:`kaleidoscope.stores.find_key_defect`, the same in every store, so that whatever one
    store lists every other can hold. Every method may be called from many threads at once, and
    transport errors are retried inside; what still fails is a StoreError.

    Every method raises:
        StoreError: If the store is down or keeps failing; a retry can help.
        AccessError: If it refuses this caller, or has no such bucket.
        InvalidKeyError: If a key breaks the rule, or is one that this store cannot hold.
    """

    @property
    def uri(self) -> str:
        """The prefix in its canonical form, ``s3://bucket/prefix`` or an absolute path."""

    def list_objects(
        self, prefix: str = "", *, on_skipped: SkipListener | None = None
    ) -> Iterator[ObjectInfo]:
        """Yield every object whose key starts with ``prefix``, streamed, in key order.

        Key order is the order of the keys' UTF-8 bytes, as S3 has it, which is also the order of
        Python's strings.

        Args:
            prefix: Any start of a key, not only whole folders.
            on_skipped: Told of each object that is left out since its key breaks the rule. None
                logs a warning instead. Folder markers, empty objects whose key ends with ``/``,
                are left out in silence.
        """

    def get(self, key: str) -> StoredObject:
        """Return the whole object.

        Raises:
            ObjectMissingError: If there is none.
        """

    def get_range(self, key: str, *, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset`` on, both at least 0.

        Raises:
            ObjectMissingError: If there is none.
            StoreError: If the object ends before.
        """

    def head(self, key: str) -> ObjectInfo:
        """Return what the store knows of the object without reading it.

        Raises:
            ObjectMissingError: If there is none.
        """

    def put(self, key: str, data: bytes) -> None:
        """Write the whole object, replacing what was there; readers see old or new, never half."""

    def write_in_pieces(self, key: str) -> AbstractContextManager[ObjectWriter]:
        """Write an object that is too large to hold, replacing what was there.

        It appears, whole, when the block is left; left by an error, nothing appears and what was
        there stays. Memory holds a few pieces of a fixed size. One thread writes.
        """

    def create(self, key: str, data: bytes) -> None:
        """Write the object if there is none; of racing creators exactly one succeeds.

        After a StoreError the object may be there or not, since an answer can get lost.

        Raises:
            ObjectExistsError: If there is one.
        """

    def replace(self, key: str, data: bytes, *, etag: str) -> str:
        """Write the object in place of one version of it; of racing replacers exactly one succeeds.

        After a StoreError it may be written or not, since an answer can get lost.

        Args:
            key: Of an object that is there.
            data: What to write.
            etag: Of the version that it takes the place of.

        Returns:
            The etag of what was written.

        Raises:
            ObjectChangedError: If the object has another etag, or is no longer there.
        """

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; a key without an object is no error."""
