"""Samples as members of tars, as WebDataset lays them out.

All members of a sample stand together and are named by the sample's key and an extension; the key
has no dot behind its last slash, since readers take all up to the first for it. The same samples
in the same order give the same bytes: no member has an owner, and all are of 1970.

Layout of a tar: POSIX.1-2001, "pax Interchange Format", https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html.
"""

import tarfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from kaleidoscope.errors import TarError
from kaleidoscope.stores import ObjectWriter, RangeFile, Store

MAX_TAR_SIZE = 512 * 1024 * 1024
"""Bytes after which the next sample begins another tar: few enough to be shuffled as files, many
enough to be read in one go."""

READ_SIZE = 1024 * 1024
"""Bytes of a tar that are asked for at once, at most, if nobody says otherwise."""

_BLOCK = tarfile.BLOCKSIZE
_END = bytes(2 * _BLOCK)

_NAME = slice(0, 100)
_SIZE = slice(124, 135)
_CHECKSUM = slice(148, 156)
_MODE = 0o644


@dataclass(frozen=True, slots=True)
class Place:
    """Where the bytes of a member lie: a range request for them gives just its data."""

    tar_key: str
    offset: int
    """Bytes from the start of the tar to the member's data."""
    length: int
    """Bytes of the data."""


class TarSeries:
    """Writes samples into tars, one after the other; no tar is held in memory or on a disk.

    Used as a context manager. A tar appears in the store when it is full, the last one when the
    block is left, and none that was begun when it is left by an error.
    """

    def __init__(
        self,
        store: Store,
        key_of: Callable[[int], str],
        *,
        check: Callable[[], None] = lambda: None,
        max_size: int = MAX_TAR_SIZE,
    ) -> None:
        """Write nothing yet: there is no tar without a sample.

        Args:
            store: Where the tars go.
            key_of: The key of each tar, by its number from 0.
            check: Called before a tar appears, which an error of it prevents.
            max_size: Bytes of samples after which the next one begins another tar, at least 1.
        """
        self._store = store
        self._key_of = key_of
        self._check = check
        self._max_size = max_size
        self._stack = ExitStack()
        self._writer: ObjectWriter | None = None
        self._num_begun = 0
        self._key = ""
        self._size = 0

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Finish the tar that is open; give it up after an error."""
        if kind is None:
            self._finish()
        else:
            self._stack.__exit__(kind, error, traceback)

    def add(self, key: str, members: Sequence[tuple[str, bytes]]) -> tuple[Place, ...]:
        """Write a sample.

        Args:
            key: Of the sample; no dot behind its last slash.
            members: Extension, without a dot at its start, and data of each.

        Returns:
            Where each member lies.

        Raises:
            StoreError: If the store is down or keeps failing.
        """
        if self._size >= self._max_size:
            self._finish()
        writer = self._writer or self._begin()
        places = []
        for extension, data in members:
            header = _header(f"{key}.{extension}", len(data))
            places.append(Place(self._key, self._size + len(header), len(data)))
            padding = bytes(-len(data) % _BLOCK)
            writer.write(b"".join((header, data, padding)))
            self._size += len(header) + len(data) + len(padding)
        return tuple(places)

    def _begin(self) -> ObjectWriter:
        self._key = self._key_of(self._num_begun)
        self._num_begun += 1
        self._size = 0
        self._writer = self._stack.enter_context(self._store.write_in_pieces(self._key))
        return self._writer

    def _finish(self) -> None:
        if self._writer is not None:
            with self._stack:  # Left without an error, it makes the tar appear.
                self._check()
                self._writer.write(_end(self._size))
            self._writer = None


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a tar that is being read."""

    name: str
    offset: int
    """Bytes from the start of the tar to the member's data."""
    length: int
    """Bytes of the data."""
    _tar: tarfile.TarFile
    _info: tarfile.TarInfo

    def read(self) -> bytes:
        """Return the data, as long as the next member was not asked for.

        Raises:
            TarError: If the tar ends before.
            StoreError: If it cannot be read.
        """
        try:
            content = self._tar.extractfile(self._info)
            return b"" if content is None else content.read()
        except tarfile.TarError as error:
            raise TarError(f"the data of {self.name} are cut short: {error}") from error


def read_members(
    store: Store, tar_key: str, *, start: int, stop: int, read_size: int = READ_SIZE
) -> Iterator[Member]:
    """Yield the members of a part of a tar, in one pass and in little memory.

    Args:
        store: Where the tar is.
        tar_key: The tar's.
        start: Bytes from its start to the header of a member.
        stop: Bytes to the end of a member's data; the tar has at least so many.
        read_size: Bytes to ask for at once, at most.

    Raises:
        TarError: If a header is damaged.
        StoreError: If it cannot be read.
    """
    position = yield from _walk(store, tar_key, start, stop, read_size)
    if position < stop:
        raise TarError(f"there is no whole header at byte {position}")


def read_last_members(store: Store, tar_key: str, *, start: int, size: int) -> Iterator[Member]:
    """Yield the members from a byte on, and look whether the tar then ends as it was written.

    Args:
        store: Where the tar is.
        tar_key: The tar's.
        start: Bytes from its start to the header of a member, or to the end behind the last.
        size: Bytes of the tar.

    Raises:
        TarError: If a header is damaged, or the end is not there.
        StoreError: If it cannot be read.
    """
    position = yield from _walk(store, tar_key, start, size, READ_SIZE)
    end = _end(position)
    rest = size - position
    if rest != len(end) or store.get_range(tar_key, offset=position, length=rest) != end:
        raise TarError(f"there is neither a whole header nor the tar's end at byte {position}")


def _walk(
    store: Store, tar_key: str, start: int, stop: int, read_size: int
) -> Generator[Member, None, int]:
    """Yield members, and return where the next should begin."""
    file = RangeFile(store, tar_key, stop)
    position = file.seek(start)
    try:
        with tarfile.open(fileobj=file, mode="r|", bufsize=read_size) as tar:
            # To tarfile a damaged header is the end, unless it is the first.
            while position < stop and (info := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined] # else it holds all headers.
                yield Member(info.name, start + info.offset_data, info.size, tar, info)
                position = start + tar.offset
    except (tarfile.TarError, ValueError) as error:
        raise TarError(f"there is no whole header at byte {position}: {error}") from error
    return position


def padded(size: int) -> int:
    """Return how many bytes of a tar so many bytes of data take."""
    return size + -size % _BLOCK


def _end(size: int) -> bytes:
    """Return what ends a tar with so many bytes of members."""
    return _END + bytes(-(size + len(_END)) % tarfile.RECORDSIZE)


def _header(name: str, size: int) -> bytes:
    """Return what stands before the data of a member."""
    if len(name) > _NAME.stop or not name.isascii():
        return _info(name, size).tobuf(tarfile.PAX_FORMAT)
    # tarfile takes four times as long, which would be a tenth of what it takes to make an image.
    header = bytearray(_TEMPLATE)
    header[_NAME] = name.encode().ljust(_NAME.stop, b"\0")
    header[_SIZE] = b"%011o" % size
    header[_CHECKSUM] = b"%06o\0 " % (sum(header) - sum(header[_CHECKSUM]) + _BLANK_CHECKSUM)
    return bytes(header)


def _info(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, _MODE
    return info


_TEMPLATE = _info("", 0).tobuf(tarfile.PAX_FORMAT)
_BLANK_CHECKSUM = 8 * ord(" ")
"""The checksum counts its own eight bytes as spaces."""
