"""A store in a folder of this machine or of a network file system."""

# A Path for each of a million files costs as much as the system calls that they are for.
# ruff: noqa: PTH100, PTH103, PTH105, PTH108, PTH112, PTH113, PTH114, PTH116, PTH118, PTH120, PTH123
# The file of an object that is written in pieces outlives the function that opens it.
# ruff: noqa: SIM115

import contextlib
import errno
import fcntl
import os
import stat
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from kaleidoscope.errors import (
    AccessError,
    ObjectChangedError,
    ObjectExistsError,
    ObjectMissingError,
    SettingsError,
    StoreError,
)
from kaleidoscope.model import ObjectInfo
from kaleidoscope.stores._base import ObjectWriter, SkipListener, StoredObject
from kaleidoscope.stores._keys import InvalidKeyError, check_key, find_key_defect, log_skipped

TEMPORARY_FOLDER = "_kaleidoscope/tmp"
"""Where files lie until they are whole: in the store, so that moving them is atomic."""

LINK_TO_NOTHING = "it is a link to nothing"
"""Why a listing leaves out a link, whose file may be on a disk that is away."""

LINK_TO_ITSELF = "it is a link to itself"
LINK_TO_ABOVE = "it is a link to a folder that it lies in"
NO_FILE = "it is not a file"
"""Other reasons that are none of a key's."""

_LOCK = "lock"
"""In the temporary folder: held by whoever replaces a file."""

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP)
"""What file systems without hard links answer, as exFAT and some of FUSE."""

LEFTOVER_AGE_S = 24 * 3600
"""A temporary file older than this belongs to a writer that was killed."""


class LocalStore:
    """Objects that are the files below one folder; the port says what the methods promise.

    A key is a file's path relative to the folder. Links to files and to folders are followed.
    Left out of listings, and told to the listener: names that break the rule for keys or are not
    valid UTF-8, broken links, links to a folder that they lie in, and what is not a file.

    The folder is made by the first write. A write is whole or not there, whenever this process
    dies. It is not flushed to the disk, which would cost milliseconds for each image, so a power
    cut can lose the last seconds; the hashes in the manifest tell.
    """

    def __init__(self, root: Path | str) -> None:
        """Open the store at ``root``, which need not exist; nothing is read or written yet.

        Raises:
            SettingsError: If Python takes names of files for another encoding than UTF-8, so that
                the same file would have another key here than elsewhere.
        """
        if (encoding := sys.getfilesystemencoding()) != "utf-8":
            raise SettingsError(
                f"names of files are {encoding} by the locale, and keys are UTF-8; set PYTHONUTF8=1"
            )
        # Links are not followed, so that the URI is what the user wrote.
        self._root = os.path.abspath(root)
        self._temporary_folder = os.path.join(self._root, TEMPORARY_FOLDER)
        self._has_swept = False

    @property
    def uri(self) -> str:
        """The folder's absolute path."""
        return self._root

    def list_objects(
        self, prefix: str = "", *, on_skipped: SkipListener | None = None
    ) -> Iterator[ObjectInfo]:
        """Yield the files whose key starts with ``prefix``, in key order.

        The names of one folder, and of those above it, are in memory at a time.

        Raises:
            ObjectMissingError: If ``prefix`` is empty and there is no such folder, which is most
                likely a typing error. With a prefix there is just nothing to list.
        """
        if not prefix and not os.path.isdir(self._root):
            raise ObjectMissingError(f"there is no folder {self.uri}; check its spelling")
        folder, slash, _ = prefix.rpartition("/")
        if folder:
            check_key(folder, uri=self.uri)
        above = _identities_above(f"{self._root}/{folder}")
        return self._walk(folder + slash, prefix, above, on_skipped or log_skipped(self.uri))

    def get(self, key: str) -> StoredObject:
        """Return the whole file."""
        with self._translated(key), self._opened(key) as file:
            data = file.read()
            status = os.fstat(file.fileno())
        return StoredObject(_make_info(key, status, size=len(data)), data)

    def get_range(self, key: str, *, offset: int, length: int) -> bytes:
        """Return ``length`` bytes of the file from ``offset`` on."""
        with self._translated(key), self._opened(key) as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(offset)
            data = file.read(length)
        if offset > size or len(data) < length:
            raise StoreError(
                f"{self.uri}: {key} has {size} bytes, wanted {length} from {offset} on; "
                "it was cut short or replaced"
            )
        return data

    def head(self, key: str) -> ObjectInfo:
        """Return the file's size and etag."""
        path = self._locate(key)
        with self._translated(key):
            status = _stat_file(path)
        return _make_info(key, status, size=status.st_size)

    def put(self, key: str, data: bytes) -> None:
        """Write the file elsewhere and move it to its place."""
        path = self._locate(key)
        with self._translated(key), self._written(data) as temporary:
            _with_parent(os.replace, temporary, path)

    @contextlib.contextmanager
    def write_in_pieces(self, key: str) -> Iterator[ObjectWriter]:
        """Write the file elsewhere and move it to its place when it is whole."""
        path = self._locate(key)
        with self._temporary() as temporary:
            with self._translated(key):
                file = self._begin(temporary)
            try:
                yield _LocalWriter(file, lambda: self._translated(key))
                with self._translated(key):
                    file.close()
                    _with_parent(os.replace, temporary, path)
            except BaseException:
                # Closing writes what is held, which fails again on a disk that is full.
                with contextlib.suppress(OSError):
                    file.close()
                raise

    def create(self, key: str, data: bytes) -> None:
        """Write the file elsewhere and link it to its place, which fails if that is taken.

        Where the file system has no links, creators take turns, as in :meth:`replace`.
        """
        path = self._locate(key)
        with self._translated(key), self._written(data) as temporary:
            try:
                _with_parent(os.link, temporary, path)
                os.unlink(temporary)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                with self._locked():
                    if os.path.lexists(path):
                        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
                    _with_parent(os.replace, temporary, path)

    def replace(self, key: str, data: bytes, *, etag: str) -> str:
        """Write the file elsewhere and move it to its place, if that still holds the version.

        Replacers take turns by a lock on a file, which ends with the process that holds it.
        """
        path = self._locate(key)
        changed = ObjectChangedError(f"{self.uri}: {key} is not the version {etag} any more")
        with self._translated(key), self._written(data) as temporary, self._locked():
            try:
                status = _stat_file(path)
            except FileNotFoundError:
                raise changed from None
            if _make_info(key, status, size=status.st_size).etag != etag:
                raise changed
            os.replace(temporary, path)
            status = _stat_file(path)
        return _make_info(key, status, size=status.st_size).etag

    def delete(self, keys: Iterable[str]) -> None:
        """Remove files; empty folders stay, since another writer may be about to use them."""
        for key in keys:
            path = self._locate(key)
            with self._translated(key), contextlib.suppress(FileNotFoundError, NotADirectoryError):
                os.unlink(path)

    def _locate(self, key: str) -> str:
        check_key(key, uri=self.uri)
        if key.startswith(f"{TEMPORARY_FOLDER}/"):
            raise InvalidKeyError(f"{self.uri}: {TEMPORARY_FOLDER}/ is the store's own: {key!r}")
        return f"{self._root}/{key}"

    @contextlib.contextmanager
    def _opened(self, key: str) -> Iterator[BinaryIO]:
        path = self._locate(key)
        # First, since opening a named pipe would wait for its writer.
        _stat_file(path)
        with open(path, "rb") as file:
            yield file

    @contextlib.contextmanager
    def _written(self, data: bytes) -> Iterator[str]:
        """Give a file that holds ``data`` and is to be moved; remove it if that fails."""
        with self._temporary() as temporary:
            with self._begin(temporary) as file:
                file.write(data)
            yield temporary

    @contextlib.contextmanager
    def _temporary(self) -> Iterator[str]:
        """Give a path for a file that is to be moved; remove it if that fails."""
        temporary = f"{self._temporary_folder}/{uuid.uuid4().hex}"
        try:
            yield temporary
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with open(f"{self._temporary_folder}/{_LOCK}", "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _begin(self, temporary: str) -> BinaryIO:
        try:
            file = open(temporary, "wb")
        except FileNotFoundError:
            os.makedirs(self._temporary_folder, exist_ok=True)
            file = open(temporary, "wb")
        if not self._has_swept:
            self._has_swept = True
            self._remove_leftovers(os.fstat(file.fileno()).st_mtime)
        return file

    def _remove_leftovers(self, now: float) -> None:
        """Remove what killed writers left.

        Args:
            now: Seconds, by the file system's own clock, which need not be this machine's.
        """
        with os.scandir(self._temporary_folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    if entry.name != _LOCK and now - entry.stat().st_mtime > LEFTOVER_AGE_S:
                        os.unlink(entry.path)

    def _walk(
        self,
        folder: str,
        prefix: str,
        above: tuple[tuple[int, int], ...],
        on_skipped: SkipListener,
    ) -> Iterator[ObjectInfo]:
        """Yield the files below ``folder``, which is empty or ends with ``/``."""
        with self._translated(folder):
            try:
                status = os.stat(f"{self._root}/{folder}")
                names = _list_names(f"{self._root}/{folder}")
            except (FileNotFoundError, NotADirectoryError):
                return
        identity = (status.st_dev, status.st_ino)
        if identity in above:
            on_skipped(_printable(folder), LINK_TO_ABOVE)
            return
        for name in names:
            key = folder + name
            if not name.endswith("/"):
                if key.startswith(prefix):
                    yield from self._list_file(key, on_skipped)
            elif key != f"{TEMPORARY_FOLDER}/" and (
                key.startswith(prefix) or prefix.startswith(key)
            ):
                yield from self._walk(key, prefix, (*above, identity), on_skipped)

    def _list_file(self, key: str, on_skipped: SkipListener) -> Iterator[ObjectInfo]:
        defect = find_key_defect(key)
        if defect is None:
            try:
                status = os.stat(f"{self._root}/{key}")
            except FileNotFoundError:
                if not os.path.islink(f"{self._root}/{key}"):
                    return  # It was removed after its name was read.
                defect = LINK_TO_NOTHING
            except OSError as error:
                if error.errno != errno.ELOOP:
                    # It may be there, so whoever lists must not take it for gone.
                    with self._translated(key):
                        raise
                defect = LINK_TO_ITSELF
            else:
                if stat.S_ISREG(status.st_mode):
                    yield _make_info(key, status, size=status.st_size)
                    return
                defect = NO_FILE
        on_skipped(_printable(key), defect)

    @contextlib.contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        """Turn errors of the operating system into ours."""
        try:
            yield
        except FileExistsError as error:
            if os.path.isfile(f"{self._root}/{key}"):
                raise ObjectExistsError(f"{self.uri}: there is a {key} already") from error
            raise _in_the_way(self.uri, key) from error
        except FileNotFoundError as error:
            raise ObjectMissingError(f"{self.uri}: there is no {key}") from error
        except (NotADirectoryError, IsADirectoryError) as error:
            raise _in_the_way(self.uri, key) from error
        except PermissionError as error:
            raise AccessError(
                f"{self.uri}: {error.strerror} for {key}; check who owns the folder"
            ) from error
        except OSError as error:
            kind = InvalidKeyError if error.errno == errno.ENAMETOOLONG else StoreError
            raise kind(f"{self.uri}: {error.strerror} for {key}") from error


class _LocalWriter:
    """Writes the pieces of an object to its file."""

    def __init__(
        self,
        file: BinaryIO,
        translated: Callable[[], contextlib.AbstractContextManager[None]],
    ) -> None:
        self._file = file
        self._translated = translated

    def write(self, data: bytes) -> None:
        with self._translated():
            self._file.write(data)


def _identities_above(path: str) -> tuple[tuple[int, int], ...]:
    """Return device and inode of each folder that a path lies in.

    A link to one of them would lead back to the path, and past it to whatever lies beside it.
    """
    found = []
    for folder in Path(os.path.realpath(path)).parents:
        with contextlib.suppress(OSError):
            status = os.stat(folder)
            found.append((status.st_dev, status.st_ino))
    return tuple(found)


def _with_parent(place: Callable[[str, str], None], temporary: str, path: str) -> None:
    """Put a file in its place, and make the folders above it if that is why it fails."""
    try:
        place(temporary, path)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        place(temporary, path)


def _stat_file(path: str) -> os.stat_result:
    """Look at a file; a folder, a pipe or a name below a file is as good as nothing."""
    try:
        status = os.stat(path)
    except NotADirectoryError as error:
        raise FileNotFoundError from error
    if not stat.S_ISREG(status.st_mode):
        raise FileNotFoundError
    return status


def _list_names(folder: str) -> list[str]:
    """Return the names in a folder, those of folders with a ``/`` at the end, in key order.

    With the ``/`` the order of the names is that of the keys: ``a-b`` before ``a/`` before
    ``a0``. Bytes that are not UTF-8 come as lone surrogates, as Python has them.
    """
    with os.scandir(folder) as entries:
        return sorted(f"{entry.name}/" if _is_folder(entry) else entry.name for entry in entries)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # A link to itself, for one.
        return False


def _make_info(key: str, status: os.stat_result, *, size: int) -> ObjectInfo:
    """Return what a file's status says.

    The clock of a file system may tick only every few milliseconds, so that two writes can have
    one time; the inode tells them apart, since every write of ours makes a new file.
    """
    return ObjectInfo(key, size, f"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}")


def _printable(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


def _in_the_way(uri: str, key: str) -> InvalidKeyError:
    return InvalidKeyError(
        f"{uri} cannot hold the key {key!r}: a file or folder of the same name is in the way"
    )
