"""Whether a destination holds what its manifest says, and only that.

Everything is streamed: the manifest's objects are brought into key order outside of memory and
merged with a listing, sources with the plans of the runs; only a bounded number of images is read
ahead.
"""

import hashlib
import json
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import chain, islice
from typing import Any, Literal, TypeAlias

import numpy as np

from kaleidoscope.errors import (
    KaleidoscopeError,
    ManifestError,
    ObjectMissingError,
    SettingsError,
    StoreError,
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

ProblemKind: TypeAlias = Literal[
    "missing",
    "wrong_size",
    "wrong_hash",
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
"""Images for each worker."""

_SOURCES_HELD = 4
"""Source files in memory; the outputs of a source lie next to each other in a manifest."""

_OF_ANY_SIZE = -1

_PLACE = ("output_key", "tar_key", "offset", "length", "size", "sha256")
_MASK_PLACE = ("mask_key", "mask_offset", "mask_size", "mask_sha256")

_TO_READ = (*_PLACE, *_MASK_PLACE)
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
    """Make those again that are missing or damaged, and write them if they have the hash that was
    recorded. Every output is read for it."""
    sources: bool = True
    """Compare the sources with the versions of which the outputs were made."""
    workers: int = 16
    """Images read at a time."""


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
    columns = _TO_REPLAY if options.replays or options.repairs else _TO_READ
    rng = np.random.default_rng(options.seed)
    sampled = (
        row
        for row in _rows(lineage, columns)
        if options.sample >= 1 or rng.random() < options.sample
    )
    stores = lru_cache(maxsize=None)(open_source)
    read_source = lru_cache(maxsize=_SOURCES_HELD)(lambda root, key: stores(root).get(key).data)

    def check(file: _File) -> _Checked:
        checked, data = _read(lineage.store, file)
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
        lineage.store.put(file.key, again)
        return _Checked(len(again), is_output=not file.is_mask, is_repaired=True)

    if options.sample > 0:
        files = chain.from_iterable(map(_files, sampled))
        yield from _side_by_side(check, files, options.workers)


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
            raise ManifestError(f"it is a member of {self.row['tar_key']}, which is written whole")
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
    check: Callable[[_File], _Checked],
    files: Iterable[_File],
    workers: int,
) -> Iterator[_Checked]:
    """Yield what ``check`` makes of each file, in order, with a bounded number under way."""
    files = iter(files)
    running: deque[Future[_Checked]] = deque()
    with ThreadPoolExecutor(workers, "kaleidoscope-verify") as threads:
        try:
            while True:
                for file in islice(files, workers * _READ_AHEAD - len(running)):
                    running.append(threads.submit(check, file))
                if not running:
                    return
                yield running.popleft().result()
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
