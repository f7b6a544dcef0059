"""The right to plan and commit runs in a destination, which one process has at a time.

The lease is an object of the destination, ``_kaleidoscope/lease.json``. Whoever holds it writes it
anew every few seconds. Whoever waits watches its etag, and takes the lease over when the etag has
not changed for as long as the lease says. That is measured by the watcher's own monotonic clock,
so the clocks of two machines are never compared. Every write is conditional on the version that
was read, so of several watchers one succeeds, and a holder that was only held up notices.

Pods that do shards hold no lease: they write bytes that depend on nothing but the plan, so one
that comes late does no harm.
"""

import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Self

from kaleidoscope.errors import (
    LeaseError,
    ManifestError,
    ObjectChangedError,
    ObjectExistsError,
    ObjectMissingError,
    StoreError,
)
from kaleidoscope.identity import RESERVED_FOLDER
from kaleidoscope.stores import Store

LEASE_KEY = f"{RESERVED_FOLDER}/lease.json"

DURATION_S = 30.0
"""How long after the last sign of life of a holder another may take the lease over."""

WAIT_S = 600.0
"""How long a run waits for another by default."""

_RENEWALS = 4
"""In the duration, so that a slow answer or two do no harm."""

_LONGEST_POLL_S = 1.0

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lease, for people who have to wait for it."""

    id: str
    """The same for every try of one piece of work: a new try need not wait for its predecessor."""
    name: str
    """What people know it by, as ``flow run photos-classic``."""
    host: str
    started_at: datetime

    def __str__(self) -> str:
        started = self.started_at.isoformat(sep=" ", timespec="seconds")
        return f"{self.name} on {self.host}, started at {started}"


@dataclass(frozen=True, slots=True)
class _Document:
    """What the object says."""

    holder: Holder
    token: str
    """One for each time that the lease is taken."""
    duration_s: float
    num_renewals: int = 0
    is_released: bool = False

    def to_json(self) -> bytes:
        document = asdict(self)
        document["holder"]["started_at"] = self.holder.started_at.isoformat()
        return json.dumps(document, indent=2).encode()

    @classmethod
    def from_json(cls, data: bytes, *, origin: str) -> Self:
        try:
            document = json.loads(data)
            holder = document.pop("holder")
            holder["started_at"] = datetime.fromisoformat(holder["started_at"])
            return cls(Holder(**holder), **document)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ManifestError(
                f"{origin} is damaged: {error!r}; delete it if no run is at work there"
            ) from error


class Lease:
    """A lease that is held and renewed by a thread until it is released."""

    def __init__(self, destination: Store, document: _Document, etag: str) -> None:
        """Take over the care of a lease that was written just now; :func:`hold` makes these."""
        self._destination = destination
        self._document = document
        self._etag = etag
        self._lost_to: str | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Make sure that nobody took the lease over; called before what only its holder may do.

        Raises:
            LeaseError: If someone did.
        """
        if self._lost_to is not None:
            raise LeaseError(
                f"{self._destination.uri} was taken over by {self._lost_to} while this run was "
                "held up; what is done is kept, and starting it again does the rest"
            )

    def join(self) -> None:
        """Wait until the lease is released or lost."""
        self._thread.join()

    def release(self) -> None:
        """Let the next one have it; nothing is raised, since an unreleased lease expires."""
        self._ended.set()
        self._thread.join()
        if self._lost_to is None:
            with suppress(StoreError):
                self._write(replace(self._document, is_released=True))

    def _renew(self) -> None:
        while not self._ended.wait(self._document.duration_s / _RENEWALS):
            document = self._document
            try:
                self._write(replace(document, num_renewals=document.num_renewals + 1))
            except ObjectChangedError:
                return
            except StoreError as error:
                _logger.warning("the lease cannot be renewed, trying again: %s", error)

    def _write(self, document: _Document) -> None:
        try:
            etag = self._destination.replace(LEASE_KEY, document.to_json(), etag=self._etag)
        except ObjectChangedError:
            etag = self._etag_of_own_write()
        self._document, self._etag = document, etag

    def _etag_of_own_write(self) -> str:
        """Return the etag of a write of ours whose answer got lost, so that it was sent again.

        Raises:
            ObjectChangedError: If the write that is there is not ours.
        """
        found = _read(self._destination)
        if found is None or found[0].token != self._document.token:
            self._lost_to = str(found[0].holder) if found else "someone who deleted the lease"
            raise ObjectChangedError(f"{self._destination.uri}: lost to {self._lost_to}")
        return found[1]


def read_holder(destination: Store) -> Holder | None:
    """Return who holds the lease of a destination, or died while holding it; None if nobody does.

    Raises:
        ManifestError: If the lease is damaged.
    """
    found = _read(destination)
    return None if found is None or found[0].is_released else found[0].holder


@contextmanager
def hold(
    destination: Store,
    holder: Holder,
    *,
    wait_s: float = WAIT_S,
    duration_s: float = DURATION_S,
    on_wait: Callable[[Holder], None] | None = None,
) -> Iterator[Lease]:
    """Hold the lease of a destination while the block runs.

    Args:
        destination: What is to be used by nobody else.
        holder: Who wants it.
        wait_s: Seconds to wait for another holder to end, at least 0; 0 refuses at once. A holder
            that died is only recognised by waiting.
        duration_s: Seconds without a sign of life after which others may take this lease over.
        on_wait: Called once, with who holds the lease, when there is something to wait for.

    Raises:
        LeaseError: If another still holds it after ``wait_s``; the message names it.
        ManifestError: If the lease is damaged.
        StoreError: If the store fails.
    """
    lease = _acquire(destination, _Document(holder, uuid.uuid4().hex, duration_s), wait_s, on_wait)
    try:
        yield lease
    finally:
        lease.release()


def _acquire(
    destination: Store,
    wanted: _Document,
    wait_s: float,
    on_wait: Callable[[Holder], None] | None,
) -> Lease:
    began = time.monotonic()
    seen_etag, seen_at = "", began
    has_waited = False
    while True:
        found = _read(destination)
        if found is None:
            with suppress(ObjectExistsError):
                destination.create(LEASE_KEY, wanted.to_json())
            found = _read(destination)
            if found is None:
                continue
        document, etag = found
        if document.token == wanted.token:
            return Lease(destination, wanted, etag)
        now = time.monotonic()
        if etag != seen_etag:
            seen_etag, seen_at = etag, now
        is_expired = now - seen_at >= document.duration_s
        if document.is_released or document.holder.id == wanted.holder.id or is_expired:
            if is_expired:
                _logger.warning("%s died; taking its lease over", document.holder)
            with suppress(ObjectChangedError):
                destination.replace(LEASE_KEY, wanted.to_json(), etag=etag)
            continue  # Reading it again tells who won, even if the answer got lost.
        if now - began >= wait_s:
            raise LeaseError(_refusal(destination, document, wait_s))
        if not has_waited and on_wait is not None:
            on_wait(document.holder)
        has_waited = True
        time.sleep(min(_LONGEST_POLL_S, document.duration_s / 10, wait_s))


def _refusal(destination: Store, document: _Document, wait_s: float) -> str:
    waited = f"; waited {wait_s:.0f} s for it" if wait_s else ""
    return (
        f"{destination.uri} is in use by {document.holder}{waited}. Start again when that has "
        f"ended; if it died, others may take over {document.duration_s:.0f} s after its death"
    )


def _read(destination: Store) -> tuple[_Document, str] | None:
    try:
        stored = destination.get(LEASE_KEY)
    except ObjectMissingError:
        return None
    origin = f"{destination.uri}: {LEASE_KEY}"
    return _Document.from_json(stored.data, origin=origin), stored.info.etag
