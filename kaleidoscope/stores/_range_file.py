"""An object that is read in parts by what takes a file."""

import io

from kaleidoscope.stores._base import Store


class RangeFile(io.RawIOBase):
    """An object of a store as a file that is read by ranges: each read is one request."""

    def __init__(self, store: Store, key: str, size: int) -> None:
        """Stand at its begin; no request is sent yet.

        Args:
            store: Where the object is.
            key: The object's.
            size: Bytes that it has.
        """
        super().__init__()
        self._store = store
        self._key = key
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to ``offset`` bytes from where ``whence`` says, and return the position."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = start + offset
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        """Return the next ``size`` bytes, or all that are left.

        Raises:
            StoreError: If the object cannot be read.
        """
        rest = max(0, self._size - self._position)
        length = rest if size is None or size < 0 else min(size, rest)
        if not length:
            return b""
        data = self._store.get_range(self._key, offset=self._position, length=length)
        self._position += length
        return data
