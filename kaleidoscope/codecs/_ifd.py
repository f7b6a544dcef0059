"""Image file directories: the tags of a TIFF, and of the EXIF block in every other format.

Pillow reads them too, but it warns through the warnings module, it keeps a decoder's state, and
it does not say where a tag stands, which is needed to take an orientation out of a TIFF. Only
integer tags are read here. What lies beyond the end of the data is a ``struct.error``.
"""

import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass

ORIENTATION = 274

_LAYOUTS = {b"II*\0": "<", b"MM\0*": ">", b"II+\0": "<", b"MM\0+": ">"}
_BIG_TIFF = (b"II+\0", b"MM\0+")
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}


@dataclass(frozen=True, slots=True)
class Directory:
    """Integer tags of one directory."""

    tags: Mapping[int, tuple[int, ...]]

    positions: Mapping[int, tuple[int, str]]
    """Byte offset of each tag's values and the struct format of one value."""

    next_offset: int
    """Bytes from the start to the next directory; 0 if this is the last one."""


@dataclass(frozen=True, slots=True)
class DirectoryReader:
    """Reads directories of one block of bytes."""

    data: bytes
    order: str
    """``<`` or ``>``."""

    is_big: bool
    """BigTIFF: counts and offsets have 8 bytes."""

    first_offset: int

    @classmethod
    def of(cls, data: bytes) -> "DirectoryReader | None":
        """Return a reader, or None if the bytes do not begin as a TIFF does."""
        order = _LAYOUTS.get(data[:4])
        if order is None:
            return None
        is_big = data[:4] in _BIG_TIFF
        (first,) = struct.unpack_from(f"{order}{'Q' if is_big else 'I'}", data, 8 if is_big else 4)
        return cls(data, order, is_big, first)

    def read(self, offset: int, wanted: Collection[int]) -> Directory:
        """Read the wanted integer tags of the directory at ``offset``."""
        word, entry_size, count_size = ("Q", 20, 8) if self.is_big else ("I", 12, 2)
        (count,) = struct.unpack_from(
            f"{self.order}{'Q' if self.is_big else 'H'}", self.data, offset
        )
        end = offset + count_size + count * entry_size
        # Read first, so that an absurd count fails before it is looped over.
        (next_offset,) = struct.unpack_from(f"{self.order}{word}", self.data, end)
        tags, positions = {}, {}
        for position in range(offset + count_size, end, entry_size):
            tag, kind, num = struct.unpack_from(f"{self.order}HH{word}", self.data, position)
            if tag in wanted and kind in _INTEGERS and num:
                values = struct.Struct(f"{self.order}{num}{_INTEGERS[kind]}")
                at = position + entry_size - struct.calcsize(word)
                if values.size > struct.calcsize(word):
                    (at,) = struct.unpack_from(f"{self.order}{word}", self.data, at)
                tags[tag] = values.unpack_from(self.data, at)
                positions[tag] = (at, f"{self.order}{_INTEGERS[kind]}")
        return Directory(tags, positions, next_offset)

    def count(self) -> int:
        """Return how many directories are chained, each counted once."""
        seen, offset = set[int](), self.first_offset
        while offset and offset not in seen:
            seen.add(offset)
            offset = self.read(offset, ()).next_offset
        return len(seen)


def orientation_of(exif: bytes) -> int:
    """Return the orientation in an EXIF block, 1 to 8.

    A block that is damaged or says nothing counts as upright, as every viewer takes it.

    Args:
        exif: The block from its byte order mark on.
    """
    try:
        reader = DirectoryReader.of(exif)
        if reader is None:
            return 1
        return orientation_in(reader.read(reader.first_offset, (ORIENTATION,)))
    except struct.error:
        return 1


def orientation_in(directory: Directory) -> int:
    """Return the orientation that a directory states, or 1 if it states none from 1 to 8."""
    value = directory.tags.get(ORIENTATION, (1,))[0]
    return value if 1 <= value <= 8 else 1  # noqa: PLR2004
