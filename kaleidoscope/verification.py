"""Whether a destination holds what its manifest says, and only that.

Everything is streamed: the manifest's objects are brought into key order outside of memory and
merged with a listing, sources with the plans of the runs; only a bounded number of images is read
ahead.
"""

import hashlib
import json
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import chain, groupby, islice
from typing import Any, Literal, TypeAlias

import numpy as np

from kaleidoscope.errors import (
    KaleidoscopeError,
    ManifestError,
    ObjectMissingError,
    SettingsError,
    StoreError,
    TarError,
)
from kaleidoscope.identity import CARD_KEY, METADATA_KEY, RESERVED_FOLDER
from kaleidoscope.increments import DoneSource, History, outdated_sources
from kaleidoscope.lineage import Lineage
from kaleidoscope.listing import SourceListing
from kaleidoscope.model import ObjectInfo
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
from kaleidoscope.runs import list_runs, load_request
from kaleidoscope.stores import Store, in_key_order
from kaleidoscope.tars import Member, padded, read_last_members, read_members

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

EXAMPLES = 10
"""Problems of each kind that a report names."""

_READ_AHEAD = 4
"""Objects or parts of tars for each worker."""

_PART_SIZE = 1024 * 1024
_MOST_IN_PART = 64
"""Bytes and files of a tar that are read together: few requests, and little memory."""

_SOURCES_HELD = 4
"""Source files in memory; the outputs of a source lie next to each other in a manifest."""

_OF_ANY_SIZE = -1

_PLACE = ("output_key", "tar_key", "offset", "length", "size", "sha256")
_MASK_PLACE = ("mask_key", "mask_offset", "mask_size", "mask_sha256")

_TO_READ = (*_PLACE, *_MASK_PLACE)

_DESCRIBED = ("output_id", "source_id", "source_key", "label", "node")
_DESCRIBED_IN_JSON = ("objects", "attributes")
"""What the JSON beside an image in a tar says, as its row does."""

_TO_REPLAY = tuple(
    dict.fromkeys(
        (
            *_TO_READ,
            *COMPARED_COLUMNS,
            *COMPARED_MASK_COLUMNS,
            "source_root",
            "source_key",
            "source_mask_key",
        )
    )
)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as the manifest says."""

    kind: ProblemKind
    key: str
    detail: str


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """What is looked at, beyond that every object is there with its size."""

    sample: float = 1.0
    """Share of the outputs that are read to compare their hash, in [0, 1]."""
    seed: int = 0
    """Which they are."""
    replays: bool = False
    """Make those that are read again from their sources, and compare."""
    repairs: bool = False
    """Make those again that are missing or damaged and no members of tars, and write them if they
    have the hash that was recorded. Every output is read for it."""
    sources: bool = True
    """Compare the sources with the versions of which the outputs were made."""
    workers: int = 16
    """Images, or parts of tars, read at a time."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What was looked at and what is wrong."""

    destination: str
    num_rows: int
    """Outputs of the manifest, all of which should have an object or lie in a tar."""
    num_read: int
    """Of these, those whose bytes were read."""
    num_repaired: int
    """Objects that were made and written again."""
    size_read: int
    """Bytes."""
    replays: Mapping[str, int]
    """Outputs that were made again, by outcome."""
    largest_difference: int
    """Of any output that was made again from its stored version, in grey levels."""
    changed_versions: Mapping[str, str]
    """Libraries of which a replay used another version than the run, with both."""
    num_problems: Mapping[str, int]
    """By kind."""
    examples: tuple[Problem, ...]
    """The first :data:`EXAMPLES` of each kind."""

    @property
    def is_whole(self) -> bool:
        """Whether nothing is wrong."""
        return not self.num_problems

    def to_json(self) -> str:
        """Return the fields as JSON."""
        return json.dumps(asdict(self), indent=2)


class _Findings:
    """Counts rows and problems, and keeps the first of each kind."""

    def __init__(self) -> None:
        self.num_rows = 0
        self.counts: Counter[str] = Counter()
        self._examples: dict[str, list[Problem]] = defaultdict(list)

    def add(self, kind: ProblemKind, key: str, detail: str) -> None:
        self.counts[kind] += 1
        if len(self._examples[kind]) < EXAMPLES:
            self._examples[kind].append(Problem(kind, key, detail))

    @property
    def examples(self) -> tuple[Problem, ...]:
        return tuple(problem for some in self._examples.values() for problem in some)


def verify(
    destination: Store, *, options: VerifyOptions, open_source: Callable[[str], Store]
) -> Verification:
    """Compare a destination with its manifest.

    Args:
        destination: Where the runs are.
        options: What to look at.
        open_source: Opens the store of the sources, by the URI that the runs recorded.

    Raises:
        ManifestError: If nothing is committed there, or a manifest is missing or damaged.
        SettingsError: If the sample is no share, or not all of what is to be repaired.
        StoreError: If the destination cannot be read, or not be written where it is repaired.
    """
    if not 0 <= options.sample <= 1:
        raise SettingsError(f"sample is a share of the outputs, in [0, 1]; got {options.sample}")
    if options.repairs and options.sample < 1:
        raise SettingsError(f"a repair looks at every output; the sample was {options.sample}")
    lineage = Lineage(destination)
    findings = _Findings()
    replays: Counter[str] = Counter()
    size_read = largest = num_read = num_repaired = 0
    changed: dict[str, str] = {}
    for checked in _check_contents(lineage, options, open_source):
        num_read += checked.is_output
        num_repaired += checked.is_repaired
        size_read += checked.size
        if checked.problem is not None:
            findings.add(checked.problem.kind, checked.problem.key, checked.problem.detail)
        if checked.replayed is not None:
            replays[checked.replayed.outcome] += 1
            largest = max(largest, checked.replayed.largest_difference or 0)
            for name, (then, now) in checked.replayed.changed_versions.items():
                changed[name] = f"{then} made it, {now} is here"
    _check_objects(lineage, findings)  # Behind the contents, which may be repaired.
    if options.sources:
        _check_sources(lineage, open_source, findings)
    return Verification(
        destination=destination.uri,
        num_rows=findings.num_rows,
        num_read=num_read,
        num_repaired=num_repaired,
        size_read=size_read,
        replays=dict(replays),
        largest_difference=largest,
        changed_versions=changed,
        num_problems=dict(findings.counts),
        examples=findings.examples,
    )


def _check_objects(lineage: Lineage, findings: _Findings) -> None:
    there = _outputs_there(lineage.store)
    stranger = _explain_strangers(lineage)
    found = next(there, None)
    for wanted in in_key_order(_objects(lineage, findings)):
        while found is not None and found.key < wanted.key:
            findings.add("unknown_object", found.key, stranger)
            found = next(there, None)
        if found is None or found.key != wanted.key:
            findings.add("missing", wanted.key, "the manifest has it, and no object is there")
            continue
        if wanted.size not in (found.size, _OF_ANY_SIZE):
            detail = f"it has {found.size} bytes, and had {wanted.size} when it was made"
            findings.add("wrong_size", wanted.key, detail)
        found = next(there, None)
    while found is not None:
        findings.add("unknown_object", found.key, stranger)
        found = next(there, None)


def _explain_strangers(lineage: Lineage) -> str:
    unfinished = [run.run_id for run in list_runs(lineage.store) if run.run_id > lineage.runs[-1]]
    if unfinished:
        return f"no committed row has it; run {unfinished[-1]} is not finished and may have made it"
    return "no row of the manifest has it"


def _objects(lineage: Lineage, findings: _Findings) -> Iterator[ObjectInfo]:
    """Yield what should be there; a tar comes once for each of its members."""
    for row in _rows(lineage, ("output_key", "tar_key", "size", "mask_key", "mask_size")):
        findings.num_rows += 1
        if row["tar_key"] is not None:
            yield ObjectInfo(row["tar_key"], _OF_ANY_SIZE, "")
            continue
        yield ObjectInfo(row["output_key"], row["size"], "")
        if row["mask_key"] is not None:
            yield ObjectInfo(row["mask_key"], row["mask_size"], "")


def _outputs_there(destination: Store) -> Iterator[ObjectInfo]:
    own = (CARD_KEY, METADATA_KEY)
    for info in destination.list_objects():
        if info.key not in own and not info.key.startswith(f"{RESERVED_FOLDER}/"):
            yield info


def _check_sources(
    lineage: Lineage, open_source: Callable[[str], Store], findings: _Findings
) -> None:
    request = load_request(lineage.store, lineage.runs[-1])
    uri = request.source
    try:
        source, masks = open_source(uri), request.recipe.masks_folder
        listed = SourceListing(source, lineage.store, masks=masks)
        history = History(lineage.store, lineage.runs)
        for done, now in outdated_sources(listed, lineage.store, lineage.runs):
            key, etag = done.planned.info.key, done.planned.info.etag
            if now is None:
                findings.add("source_gone", key, f"it is no longer in {uri}")
            elif not _is_rewritten(source, history, done, now):
                detail = f"its etag is {now.etag}, and was {etag} when its outputs were made"
                findings.add("source_changed", key, detail)
        if masks is not None:
            _check_masks(history, source.list_objects(f"{masks}/"), findings)
    except (StoreError, SettingsError) as error:
        findings.add("sources_unreadable", uri, str(error))


def _is_rewritten(source: Store, history: History, done: DoneSource, now: ObjectInfo) -> bool:
    """Say whether a source of another version has the content that it had."""
    if now.size != done.planned.info.size:
        return False
    return history.sha256(done) == hashlib.sha256(source.get(now.key).data).hexdigest()


def _check_masks(history: History, listed: Iterable[ObjectInfo], findings: _Findings) -> None:
    etags = {info.key: info.etag for info in listed}
    for done in history:
        labels = done.planned.labels
        if labels is None or labels.mask_key is None:
            continue
        key, etag = labels.mask_key, etags.get(labels.mask_key)
        if etag is None:
            findings.add("mask_gone", key, f"the mask of {done.planned.info.key} is not there")
        elif etag != labels.mask_etag:
            detail = f"its etag is {etag}, and was {labels.mask_etag} when masks were made of it"
            findings.add("mask_changed", key, detail)


@dataclass(frozen=True, slots=True)
class _Checked:
    size: int = 0
    is_output: bool = False
    """Whether it is an image that was read, and no mask."""
    is_repaired: bool = False
    problem: Problem | None = None
    replayed: Replayed | None = None


def _check_contents(
    lineage: Lineage, options: VerifyOptions, open_source: Callable[[str], Store]
) -> Iterator[_Checked]:
    store = lineage.store
    stores = lru_cache(maxsize=None)(open_source)
    read_source = lru_cache(maxsize=_SOURCES_HELD)(lambda root, key: stores(root).get(key).data)

    def check(file: _File, checked: _Checked, data: bytes | None) -> _Checked:
        if not (options.repairs if data is None else options.replays):
            return checked
        try:
            source = read_source(file.row["source_root"], file.source_key)
            if data is not None:
                return _judge(file, replace(checked, replayed=file.compare(source, data)))
            again = file.make_again(source)
        except KaleidoscopeError as error:
            kind: ProblemKind = "not_replayable" if data is not None else "not_repairable"
            return replace(checked, problem=Problem(kind, file.key, str(error)))
        store.put(file.key, again)
        return _Checked(len(again), is_output=not file.is_mask, is_repaired=True)

    def check_all(found: _File | _TarPart) -> Sequence[_Checked]:
        if isinstance(found, _TarPart):
            return list(_check_part(store, found, check))
        return [check(found, *_read(store, found))]

    if options.sample > 0:
        yield from _side_by_side(check_all, _to_check(lineage, options), options.workers)


@dataclass(frozen=True, slots=True)
class _File:
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


def _files(row: Mapping[str, Any]) -> tuple[_File, ...]:
    image = _File(row, is_mask=False)
    return (image,) if row["mask_key"] is None else (image, _File(row, is_mask=True))


_Check: TypeAlias = Callable[[_File, _Checked, bytes | None], _Checked]
"""Takes a file, what was found of it and its bytes, None if they are not the recorded ones."""


@dataclass(frozen=True, slots=True)
class _TarPart:
    """A part of a tar that is read in one pass."""

    tar_key: str
    start: int
    """Bytes from the tar's start to the first header."""
    files: tuple[_File, ...]
    """What lies there by the manifest, in order; nothing behind the tar's last image."""
    described: Mapping[str, Mapping[str, Any]]
    """Rows by the name of the JSON that may lie there and says the same."""


def _to_check(lineage: Lineage, options: VerifyOptions) -> Iterator[_File | _TarPart]:
    """Yield what is sampled; tars are read from end to end if that is all."""
    columns = _TO_REPLAY if options.replays or options.repairs else _TO_READ
    if options.sample >= 1:
        columns = tuple(dict.fromkeys((*columns, *_DESCRIBED, *_DESCRIBED_IN_JSON)))
        yield from _tar_parts(chain.from_iterable(map(_files, _rows(lineage, columns))))
        return
    rng = np.random.default_rng(options.seed)
    for row in _rows(lineage, columns):
        if rng.random() < options.sample:
            yield from _files(row)


def _tar_parts(files: Iterable[_File]) -> Iterator[_File | _TarPart]:
    """Yield objects as they are, and what covers each tar without a gap."""
    for tar_key, own in groupby(files, key=lambda file: file.row["tar_key"]):
        if tar_key is None:
            yield from own
        else:
            yield from _parts_of(tar_key, own)


def _parts_of(tar_key: str, files: Iterable[_File]) -> Iterator[_File | _TarPart]:
    start = end = 0
    part: list[_File] = []
    described: dict[str, Mapping[str, Any]] = {}
    for file in files:
        if file.start < end:  # No run writes its rows in another order than its members.
            yield file
            continue
        end = padded(file.stop)
        part.append(file)
        described[file.json_name] = file.row
        if end - start >= _PART_SIZE or len(part) == _MOST_IN_PART:
            yield _TarPart(tar_key, start, tuple(part), described)
            # The JSON of the last image lies behind it.
            start, part, described = end, [], {file.json_name: file.row}
    if part:
        yield _TarPart(tar_key, start, tuple(part), described)
    yield _TarPart(tar_key, end, (), described)


def _check_part(store: Store, part: _TarPart, check: _Check) -> Iterator[_Checked]:
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
        if not part.files or _reaches(store, part.files[-1]):
            raise
    for file in left.values():
        yield check(file, *_read(store, file))


def _check_members(
    store: Store, part: _TarPart, left: dict[int, _File], check: _Check
) -> Iterator[_Checked]:
    """Yield what is found in one pass, and take out of ``left`` the files that were read.

    Raises:
        TarError: If there are not members from the part's start to its end.
    """
    for member in _members(store, part):
        file, row = left.get(member.offset), part.described.get(member.name)
        if file is not None and (file.key, file.length) == (member.name, member.length):
            yield check(file, *_judge_data(file, member.read()))
            del left[member.offset]
        elif row is not None and not _describes(member.read(), row):
            yield _damaged(part, f"{member.name} says other than the manifest of its image")
    for file in left.values():
        yield _damaged(part, f"no member at byte {file.start} has the name and size of {file.key}")


def _damaged(part: _TarPart, detail: str) -> _Checked:
    return _Checked(problem=Problem("damaged", part.tar_key, detail))


def _members(store: Store, part: _TarPart) -> Iterator[Member]:
    if part.files:
        return read_members(store, part.tar_key, start=part.start, stop=part.files[-1].stop)
    size = store.head(part.tar_key).size
    return read_last_members(store, part.tar_key, start=part.start, size=size)


def _describes(data: bytes, row: Mapping[str, Any]) -> bool:
    wanted = {name: row[name] for name in _DESCRIBED}
    texts = {name: row[name] for name in _DESCRIBED_IN_JSON if row[name] is not None}
    try:
        return bool(json.loads(data) == wanted | {name: json.loads(texts[name]) for name in texts})
    except ValueError:
        return False


def _read(destination: Store, file: _File) -> tuple[_Checked, bytes | None]:
    """Read a file; without bytes if they are not the recorded ones."""
    try:
        data = read_output(destination, file.key, *file.place)
    except ObjectMissingError:
        return _Checked(), None  # The listing has said so.
    except StoreError as error:
        # Only a tar that ends before its member is damage; whatever else may pass.
        if _reaches(destination, file):
            raise
        return _Checked(problem=Problem("wrong_hash", file.key, str(error))), None
    return _judge_data(file, data)


def _judge_data(file: _File, data: bytes) -> tuple[_Checked, bytes | None]:
    checked = _Checked(len(data), is_output=not file.is_mask)
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 != file.sha256:
        detail = f"its SHA-256 is {sha256}, and was {file.sha256} when it was made"
        return replace(checked, problem=Problem("wrong_hash", file.key, detail)), None
    return checked, data


def _reaches(destination: Store, file: _File) -> bool:
    tar_key, offset, length = file.place
    if tar_key is None or offset is None or length is None:
        return True
    return destination.head(tar_key).size >= offset + length


def _judge(file: _File, checked: _Checked) -> _Checked:
    replayed = checked.replayed
    if replayed is None or replayed.outcome != "different":
        return checked
    return replace(checked, problem=Problem("different", file.key, str(replayed)))


def _side_by_side(
    check: Callable[[_File | _TarPart], Sequence[_Checked]],
    files: Iterable[_File | _TarPart],
    workers: int,
) -> Iterator[_Checked]:
    """Yield what ``check`` makes of each, in order, with a bounded number under way."""
    files = iter(files)
    running: deque[Future[Sequence[_Checked]]] = deque()
    with ThreadPoolExecutor(workers, "kaleidoscope-verify") as threads:
        try:
            while True:
                for file in islice(files, workers * _READ_AHEAD - len(running)):
                    running.append(threads.submit(check, file))
                if not running:
                    return
                yield from running.popleft().result()
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise


def _rows(lineage: Lineage, columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    for batch in lineage.scan(columns):
        yield from batch.to_pylist()


@dataclass(frozen=True, slots=True)
class ReplayedOutput:
    """What came of making one output again, or its mask."""

    output_key: str
    """Of the mask, its own key."""
    outcome: Literal["identical", "equivalent", "different", "corrupt", "not_replayable"]
    """Corrupt: the stored bytes are not those that were recorded, whatever a replay gives."""
    detail: str

    @property
    def is_right(self) -> bool:
        """Whether the stored output is what its source and parameters give."""
        return self.outcome in {"identical", "equivalent"}


def replay_outputs(
    lineage: Lineage, output_keys: Iterable[str], *, open_source: Callable[[str], Store]
) -> tuple[ReplayedOutput, ...]:
    """Make outputs again, and their masks, and compare them with what is stored.

    Args:
        lineage: Of the destination that holds them.
        output_keys: Their keys in it, or in their tars.
        open_source: Opens the store of the sources, by the URI that the runs recorded.

    Raises:
        ManifestError: If the manifest has no such output.
        StoreError: If the destination cannot be read.
    """
    keys = list(output_keys)
    rows = {
        row["output_key"]: row
        for batch in lineage.scan(_TO_REPLAY, [("output_key", "in", keys)])
        for row in batch.to_pylist()
    }
    if unknown := [key for key in keys if key not in rows]:
        raise ManifestError(
            f"no row of the manifest in {lineage.store.uri} has the output {unknown[0]}; an output "
            "key is relative to the destination, as in the manifest's column output_key"
        )
    files = [file for key in keys for file in _files(rows[key])]
    return tuple(_replay_one(lineage.store, file, open_source) for file in files)


def _replay_one(
    destination: Store, file: _File, open_source: Callable[[str], Store]
) -> ReplayedOutput:
    checked, data = _read(destination, file)
    if data is None:
        problem = checked.problem
        detail = "no object is there" if problem is None else problem.detail
        return ReplayedOutput(file.key, "corrupt", detail)
    try:
        source = open_source(file.row["source_root"]).get(file.source_key).data
        replayed = file.compare(source, data)
    except KaleidoscopeError as error:
        return ReplayedOutput(file.key, "not_replayable", str(error))
    return ReplayedOutput(file.key, replayed.outcome, str(replayed))
