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
from itertools import chain, islice
from typing import Any

import numpy as np

from kaleidoscope.errors import KaleidoscopeError, SettingsError, StoreError
from kaleidoscope.identity import CARD_KEY, METADATA_KEY, RESERVED_FOLDER
from kaleidoscope.increments import DoneSource, History, outdated_sources
from kaleidoscope.lineage import Lineage
from kaleidoscope.listing import SourceListing
from kaleidoscope.model import ObjectInfo
from kaleidoscope.runs import list_runs, load_request
from kaleidoscope.stores import Store, in_key_order
from kaleidoscope.verification._files import (
    TO_READ,
    TO_REPLAY,
    Checked,
    File,
    Problem,
    ProblemKind,
    files_of,
    judge,
    read_file,
)
from kaleidoscope.verification._tars import (
    DESCRIBED,
    DESCRIBED_IN_JSON,
    TarPart,
    check_part,
    tar_parts,
)

EXAMPLES = 10
"""Problems of each kind that a report names."""

_READ_AHEAD = 4
"""Objects or parts of tars for each worker."""

_SOURCES_HELD = 4
"""Source files in memory; the outputs of a source lie next to each other in a manifest."""

_OF_ANY_SIZE = -1


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


def _check_contents(
    lineage: Lineage, options: VerifyOptions, open_source: Callable[[str], Store]
) -> Iterator[Checked]:
    store = lineage.store
    stores = lru_cache(maxsize=None)(open_source)
    read_source = lru_cache(maxsize=_SOURCES_HELD)(lambda root, key: stores(root).get(key).data)

    def check(file: File, checked: Checked, data: bytes | None) -> Checked:
        if not (options.repairs if data is None else options.replays):
            return checked
        try:
            source = read_source(file.row["source_root"], file.source_key)
            if data is not None:
                return judge(file, replace(checked, replayed=file.compare(source, data)))
            again = file.make_again(source)
        except KaleidoscopeError as error:
            kind: ProblemKind = "not_replayable" if data is not None else "not_repairable"
            return replace(checked, problem=Problem(kind, file.key, str(error)))
        store.put(file.key, again)
        return Checked(len(again), is_output=not file.is_mask, is_repaired=True)

    def check_all(found: File | TarPart) -> Sequence[Checked]:
        if isinstance(found, TarPart):
            return list(check_part(store, found, check))
        return [check(found, *read_file(store, found))]

    if options.sample > 0:
        yield from _side_by_side(check_all, _to_check(lineage, options), options.workers)


def _to_check(lineage: Lineage, options: VerifyOptions) -> Iterator[File | TarPart]:
    """Yield what is sampled; tars are read from end to end if that is all."""
    columns = TO_REPLAY if options.replays or options.repairs else TO_READ
    if options.sample >= 1:
        columns = tuple(dict.fromkeys((*columns, *DESCRIBED, *DESCRIBED_IN_JSON)))
        yield from tar_parts(chain.from_iterable(map(files_of, _rows(lineage, columns))))
        return
    rng = np.random.default_rng(options.seed)
    for row in _rows(lineage, columns):
        if rng.random() < options.sample:
            yield from files_of(row)


def _side_by_side(
    check: Callable[[File | TarPart], Sequence[Checked]],
    files: Iterable[File | TarPart],
    workers: int,
) -> Iterator[Checked]:
    """Yield what ``check`` makes of each, in order, with a bounded number under way."""
    files = iter(files)
    running: deque[Future[Sequence[Checked]]] = deque()
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
