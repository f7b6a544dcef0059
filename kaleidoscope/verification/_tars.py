"""Tars from end to end: all members are where their rows say, and nothing between is damaged."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeAlias

from kaleidoscope.errors import ObjectMissingError, StoreError, TarError
from kaleidoscope.stores import Store
from kaleidoscope.tars import Member, padded, read_last_members, read_members
from kaleidoscope.verification._files import (
    Checked,
    File,
    Problem,
    judge_data,
    reaches,
    read_file,
)

_PART_SIZE = 1024 * 1024
_MOST_IN_PART = 64
"""Bytes and files of a tar that are read together: few requests, and little memory."""

DESCRIBED = ("output_id", "source_id", "source_key", "label", "node")
DESCRIBED_IN_JSON = ("objects", "attributes")
"""What the JSON beside an image in a tar says, as its row does."""

Check: TypeAlias = Callable[[File, Checked, bytes | None], Checked]
"""Takes a file, what was found of it and its bytes, None if they are not the recorded ones."""


@dataclass(frozen=True, slots=True)
class TarPart:
    """A part of a tar that is read in one pass."""

    tar_key: str
    start: int
    """Bytes from the tar's start to the first header."""
    files: tuple[File, ...]
    """What lies there by the manifest, in order; nothing behind the tar's last image."""
    described: Mapping[str, Mapping[str, Any]]
    """Rows by the name of the JSON that may lie there and says the same."""


def tar_parts(files: Iterable[File]) -> Iterator[File | TarPart]:
    """Yield objects as they are, and what covers each tar without a gap."""
    for tar_key, own in groupby(files, key=lambda file: file.row["tar_key"]):
        if tar_key is None:
            yield from own
        else:
            yield from _parts_of(tar_key, own)


def _parts_of(tar_key: str, files: Iterable[File]) -> Iterator[File | TarPart]:
    start = end = 0
    part: list[File] = []
    described: dict[str, Mapping[str, Any]] = {}
    for file in files:
        if file.start < end:  # No run writes its rows in another order than its members.
            yield file
            continue
        end = padded(file.stop)
        part.append(file)
        described[file.json_name] = file.row
        if end - start >= _PART_SIZE or len(part) == _MOST_IN_PART:
            yield TarPart(tar_key, start, tuple(part), described)
            # The JSON of the last image lies behind it.
            start, part, described = end, [], {file.json_name: file.row}
    if part:
        yield TarPart(tar_key, start, tuple(part), described)
    yield TarPart(tar_key, end, (), described)


def check_part(store: Store, part: TarPart, check: Check) -> Iterator[Checked]:
    """Yield what is found of each file, and of the tar where it is damaged."""
    left = {file.start: file for file in part.files}
    try:
        yield from _check_members(store, part, left, check)
    except TarError as error:
        yield _damaged(part, str(error))
    except ObjectMissingError:
        pass  # The listing has said so.
    except StoreError:
        # A tar that was cut short is damage, which its last part says; whatever else may pass.
        if not part.files or reaches(store, part.files[-1]):
            raise
    for file in left.values():
        yield check(file, *read_file(store, file))


def _check_members(
    store: Store, part: TarPart, left: dict[int, File], check: Check
) -> Iterator[Checked]:
    """Yield what is found in one pass, and take out of ``left`` the files that were read.

    Raises:
        TarError: If there are not members from the part's start to its end.
    """
    for member in _members(store, part):
        file, row = left.get(member.offset), part.described.get(member.name)
        if file is not None and (file.key, file.length) == (member.name, member.length):
            yield check(file, *judge_data(file, member.read()))
            del left[member.offset]
        elif row is not None and not _describes(member.read(), row):
            yield _damaged(part, f"{member.name} says other than the manifest of its image")
    for file in left.values():
        yield _damaged(part, f"no member at byte {file.start} has the name and size of {file.key}")


def _damaged(part: TarPart, detail: str) -> Checked:
    return Checked(problem=Problem("damaged", part.tar_key, detail))


def _members(store: Store, part: TarPart) -> Iterator[Member]:
    if part.files:
        return read_members(store, part.tar_key, start=part.start, stop=part.files[-1].stop)
    size = store.head(part.tar_key).size
    return read_last_members(store, part.tar_key, start=part.start, size=size)


def _describes(data: bytes, row: Mapping[str, Any]) -> bool:
    wanted = {name: row[name] for name in DESCRIBED}
    texts = {name: row[name] for name in DESCRIBED_IN_JSON if row[name] is not None}
    try:
        return bool(json.loads(data) == wanted | {name: json.loads(texts[name]) for name in texts})
    except ValueError:
        return False
