"""One file that a row of the manifest says was written, and whether its bytes are those."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from kaleidoscope.errors import ManifestError, ObjectMissingError, StoreError
from kaleidoscope.outputs import read_output
from kaleidoscope.replay import (
    COMPARED_COLUMNS,
    COMPARED_MASK_COLUMNS,
    Replayed,
    compare,
    compare_mask,
    replay,
    replay_mask,
)
from kaleidoscope.stores import Store

ProblemKind: TypeAlias = Literal[
    "missing",
    "wrong_size",
    "wrong_hash",
    "damaged",
    "unknown_object",
    "source_gone",
    "source_changed",
    "mask_gone",
    "mask_changed",
    "sources_unreadable",
    "not_replayable",
    "not_repairable",
    "different",
]

_PLACE = ("output_key", "tar_key", "offset", "length", "size", "sha256")
_MASK_PLACE = ("mask_key", "mask_offset", "mask_size", "mask_sha256")

TO_READ = (*_PLACE, *_MASK_PLACE)
"""Columns that tell where a row's files are, and their hashes."""

TO_REPLAY = tuple(
    dict.fromkeys(
        (
            *TO_READ,
            *COMPARED_COLUMNS,
            *COMPARED_MASK_COLUMNS,
            "source_root",
            "source_key",
            "source_mask_key",
        )
    )
)
"""Columns by which a row's files can be made again."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as the manifest says."""

    kind: ProblemKind
    key: str
    detail: str


@dataclass(frozen=True, slots=True)
class Checked:
    size: int = 0
    is_output: bool = False
    """Whether it is an image that was read, and no mask."""
    is_repaired: bool = False
    problem: Problem | None = None
    replayed: Replayed | None = None


@dataclass(frozen=True, slots=True)
class File:
    """A file that a row says was written: an output or its mask."""

    row: Mapping[str, Any]
    is_mask: bool

    @property
    def key(self) -> str:
        return str(self.row["mask_key" if self.is_mask else "output_key"])

    @property
    def place(self) -> tuple[str | None, int | None, int | None]:
        """Tar, offset and length, as :func:`~kaleidoscope.outputs.read_output` takes them."""
        offset, length = ("mask_offset", "mask_size") if self.is_mask else ("offset", "length")
        return self.row["tar_key"], self.row[offset], self.row[length]

    @property
    def start(self) -> int:
        """Bytes from its tar's start."""
        return self.place[1] or 0

    @property
    def length(self) -> int:
        return self.place[2] or 0

    @property
    def stop(self) -> int:
        return self.start + self.length

    @property
    def json_name(self) -> str:
        """Which member of its tar says what its row does."""
        return f"{self.row['output_key'].rpartition('.')[0]}.json"

    @property
    def sha256(self) -> str:
        return str(self.row["mask_sha256" if self.is_mask else "sha256"])

    @property
    def source_key(self) -> str:
        return str(self.row["source_mask_key" if self.is_mask else "source_key"])

    def compare(self, source: bytes, stored: bytes) -> Replayed:
        return (compare_mask if self.is_mask else compare)(self.row, source, stored)

    def make_again(self, source: bytes) -> bytes:
        """Return the bytes that were recorded.

        Raises:
            ManifestError: If the file lies in a tar, the source has changed, or other bytes come
                of it here.
        """
        if self.row["tar_key"] is not None:
            raise ManifestError(
                f"it is a member of {self.row['tar_key']}, which only its own run wrote; bring "
                "the tar back from a copy, or make the data set in another destination"
            )
        again = (replay_mask if self.is_mask else replay)(self.row, source)
        if hashlib.sha256(again).hexdigest() != self.sha256:
            raise ManifestError(
                "made again, it has other bytes than it had; its row names the versions that made "
                f"it, OpenCV {self.row['opencv_version']} for one, and the kind of CPU counts too"
            )
        return again


def files_of(row: Mapping[str, Any]) -> tuple[File, ...]:
    image = File(row, is_mask=False)
    return (image,) if row["mask_key"] is None else (image, File(row, is_mask=True))


def read_file(destination: Store, file: File) -> tuple[Checked, bytes | None]:
    """Read a file; without bytes if they are not the recorded ones."""
    try:
        data = read_output(destination, file.key, *file.place)
    except ObjectMissingError:
        return Checked(), None  # The listing has said so.
    except StoreError as error:
        # Only a tar that ends before its member is damage; whatever else may pass.
        if reaches(destination, file):
            raise
        return Checked(problem=Problem("wrong_hash", file.key, str(error))), None
    return judge_data(file, data)


def judge_data(file: File, data: bytes) -> tuple[Checked, bytes | None]:
    checked = Checked(len(data), is_output=not file.is_mask)
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 != file.sha256:
        detail = f"its SHA-256 is {sha256}, and was {file.sha256} when it was made"
        return replace(checked, problem=Problem("wrong_hash", file.key, detail)), None
    return checked, data


def reaches(destination: Store, file: File) -> bool:
    tar_key, offset, length = file.place
    if tar_key is None or offset is None or length is None:
        return True
    return destination.head(tar_key).size >= offset + length


def judge(file: File, checked: Checked) -> Checked:
    replayed = checked.replayed
    if replayed is None or replayed.outcome != "different":
        return checked
    return replace(checked, problem=Problem("different", file.key, str(replayed)))
