"""What is missing: what a recipe makes of the listed sources, less what earlier runs made.

The plans of committed runs say what was done. All of it is a merge of sorted streams, so neither
the listing nor the history sits in memory.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

from pydantic import BaseModel

from kaleidoscope.balance import Balancer, ClassShare, Label
from kaleidoscope.errors import ObjectMissingError, PlanError
from kaleidoscope.labels import Labels
from kaleidoscope.manifest import failed_sources, source_hashes, sources_from_parquet
from kaleidoscope.model import ObjectInfo, PlannedSource
from kaleidoscope.recipe import Balance, Recipe
from kaleidoscope.runs import Request, Run, RunKeys, load_report, load_run
from kaleidoscope.stores import Store
from kaleidoscope.tree import Tree

_NAMES_SHOWN = 10
"""Of sources that are gone, in a plan; of nodes, in an error."""

NUM_READERS = 16
"""Records of runs that are read at a time: a run every night makes hundreds in a year."""

_NO_CONTENT = ""
"""Stands where a hash would: whatever a source holds, what is made of it does not stand."""

_PARTS_KEPT = 16
"""Parts whose hashes are at hand; sources that changed lie next to each other."""


@dataclass(frozen=True, slots=True)
class DoneSource:
    """What the newest run that had a source did with it."""

    planned: PlannedSource
    nodes: frozenset[str]
    """What the data set has of it since, if it did not fail."""
    run_id: str
    shard: int


class History:
    """What committed runs did; records that only few sources ask for are read when one does."""

    def __init__(self, destination: Store, committed: Sequence[str]) -> None:
        """Take the names of the runs, the oldest first."""
        self._destination = destination
        self._committed = committed
        self._failed = lru_cache(maxsize=None)(self._read_failed)
        self._hashes = lru_cache(maxsize=_PARTS_KEPT)(self._read_hashes)

    def __iter__(self) -> Iterator[DoneSource]:
        """Yield every source that a run had, in key order, as the newest of its runs had it.

        A source that the newest of its runs planned to have no node is left out: nothing of it is
        left, so it is neither done nor gone.

        Raises:
            ManifestError: If the records of one of the runs are damaged.
        """
        with ThreadPoolExecutor(NUM_READERS) as readers:
            begun = list(readers.map(self._open, reversed(self._committed)))
        runs = [self._sources(run, first_shard) for run, first_shard in begun]
        begun.clear()
        # A stable merge: of equal keys the one of the newest run comes first.
        latest = None
        for done in heapq.merge(*runs, key=lambda done: done.planned.info.key):
            if done.planned.info.key != latest:
                latest = done.planned.info.key
                if done.nodes:
                    yield done

    def has_failed(self, done: DoneSource) -> bool:
        """Say whether something of the source could not be made."""
        return done.planned.info.key in self._failed(done.run_id)

    def made_before_failing(self, done: DoneSource) -> frozenset[str]:
        """Return what still stands of earlier runs though the newest failed."""
        sha256 = self._failed(done.run_id)[done.planned.info.key]
        # A source that could not be read leaves no row of before. If it had another version, the
        # run may have written over outputs of the one before.
        is_known = sha256 is not None and done.planned.made_sha256 is None
        return done.planned.made if is_known else frozenset()

    def was_read(self, done: DoneSource) -> bool:
        """Say whether the run read the source; of one that it could not read nothing stands."""
        return self._failed(done.run_id).get(done.planned.info.key, _NO_CONTENT) is not None

    def sha256(self, done: DoneSource) -> str | None:
        """Return the hash of what the run read; None if something of it could not be made."""
        if self.has_failed(done):
            return None
        hashes = self._hashes(done.run_id, done.shard)
        # Without a row, the content was what an earlier run had made already.
        return hashes.get(done.planned.info.key, done.planned.made_sha256)

    def _open(self, run_id: str) -> tuple[Run, Sequence[PlannedSource]]:
        run = load_run(self._destination, run_id)
        return run, self._read_shard(run, 0)

    def _sources(self, run: Run, sources: Sequence[PlannedSource]) -> Iterator[DoneSource]:
        every_node = selected_nodes(run.request.recipe)
        for shard in range(run.plan.num_shards):
            if shard:
                sources = self._read_shard(run, shard)
            for source in sources:
                nodes = every_node if source.nodes is None else source.nodes
                yield DoneSource(source, nodes, run.run_id, shard)

    def _read_shard(self, run: Run, shard: int) -> Sequence[PlannedSource]:
        return sources_from_parquet(self._destination.get(run.keys.shard(shard)).data)

    def _read_failed(self, run_id: str) -> dict[str, str | None]:
        failed: dict[str, str | None] = {}
        if load_report(self._destination, run_id).num_failed:
            for file in self._destination.list_objects(RunKeys(run_id).manifest):
                failed |= failed_sources(self._destination.get(file.key).data)
        return failed

    def _read_hashes(self, run_id: str, shard: int) -> dict[str, str]:
        try:
            return source_hashes(self._destination.get(RunKeys(run_id).part(shard)).data)
        except ObjectMissingError:  # Someone took the space back; what is not known is made again.
            return {}


class MissingSources:
    """The sources of which something is to be made, with what; iterating again reads again."""

    def __init__(
        self,
        sources: Iterable[ObjectInfo],
        history: History,
        recipe: Recipe,
        *,
        retry_failed: bool,
        labels: Labels | None = None,
    ) -> None:
        """Take what is there, what was done, and what a recipe makes.

        Args:
            sources: In key order; read twice where the recipe balances classes.
            history: What committed runs did.
            recipe: What to make.
            retry_failed: Do the sources again that failed in their newest run.
            labels: What a table says of sources; None makes folders the labels.

        Raises:
            RecipeError: If the recipe's selection leaves no node at all.
        """
        self._sources = sources
        self._history = history
        self._recipe = recipe
        self._wanted = selected_nodes(recipe)
        self._forbidden_labels = recipe.forbidden_labels
        self._retry_failed = retry_failed
        self._labels = labels or Labels()
        self.num_done = 0
        """Sources passed over so far."""
        self.num_unneeded = 0
        """Of these, those of which the recipe's balance wants no image."""
        self.classes: tuple[ClassShare, ...] = ()
        """What classes will have, where the recipe balances them."""
        self.num_gone = 0
        """Sources so far that a run had and that are no longer there."""
        self.gone: list[str] = []
        """Keys of the first of them."""

    def __iter__(self) -> Iterator[PlannedSource]:
        """Yield the sources in key order.

        Raises:
            PlanError: If a source was labelled anew and has images that are not for its label.
        """
        balancer = self._make_balancer()
        self.num_done = self.num_unneeded = 0
        for planned in self._standing():
            if planned is None:
                self.num_done += 1
                continue
            nodes = self._wanted_of(planned.info.key)
            if balancer is not None:
                key = planned.info.key
                nodes = balancer.nodes(key, self._labels.label_of(key), planned.made)
            if planned.made_sha256 is None and planned.made >= nodes:
                self.num_done += 1
                self.num_unneeded += not planned.made
            else:
                # dataclasses.replace would be slow, and there may be millions.
                yield PlannedSource(
                    planned.info,
                    nodes=None if nodes >= self._wanted else nodes,
                    made=planned.made,
                    made_sha256=planned.made_sha256,
                    labels=self._labels.of(planned.info.key),
                )

    def _wanted_of(self, source_key: str) -> frozenset[str]:
        if not self._forbidden_labels:
            return self._wanted
        label = self._labels.label_of(source_key)
        return nodes_for(self._recipe, label) if label in self._forbidden_labels else self._wanted

    def _make_balancer(self) -> Balancer | None:
        if self._recipe.balance is None:
            return None
        made: defaultdict[Label, Counter[int]] = defaultdict(Counter)
        for planned in self._standing():
            if planned is not None:
                made[self._labels.label_of(planned.info.key)][len(planned.made)] += 1
        balancer = Balancer(self._recipe, self._recipe.balance, made)
        self.classes = balancer.classes
        return balancer

    def _standing(self) -> Iterator[PlannedSource | None]:
        """Yield each source that is listed with what is made of it; None for one to leave alone."""
        self.num_gone, self.gone = 0, []
        for source, done in _pairs(self._sources, self._history):
            if source is None:
                self._count_gone(done)
            else:
                yield PlannedSource(source) if done is None else self._compare(source, done)

    def _count_gone(self, done: DoneSource | None) -> None:
        self.num_gone += 1
        if done is not None and len(self.gone) < _NAMES_SHOWN:
            self.gone.append(done.planned.info.key)

    def _compare(self, source: ObjectInfo, done: DoneSource) -> PlannedSource | None:
        """Say what is there of a source that a run had; None to leave the source alone."""
        if self._labels.of(source.key) != done.planned.labels:
            # Rows carry their labels, so all are made again: the same images, with new rows. That
            # comes before the etag, which may have changed as well while the content did not.
            return self._label_anew(source, done)
        if source.etag != done.planned.info.etag:
            # It may have been written again as it was, or in other parts, of which S3 makes etags.
            sha256 = self._history.sha256(done)
            return PlannedSource(source, None, done.nodes if sha256 else frozenset(), sha256)
        failures_matter = self._retry_failed or self._recipe.balance is not None
        if not failures_matter and done.nodes >= self._wanted_of(source.key):
            return PlannedSource(source, None, done.nodes)
        if not self._history.has_failed(done):
            return PlannedSource(source, None, done.nodes)
        if not self._retry_failed:
            return None
        return PlannedSource(source, None, self._history.made_before_failing(done))

    def _label_anew(self, source: ObjectInfo, done: DoneSource) -> PlannedSource:
        if not self._history.was_read(done):
            return PlannedSource(source)
        self._check_label(source.key, done)
        return PlannedSource(source, None, done.nodes, _NO_CONTENT)

    def _check_label(self, source_key: str, done: DoneSource) -> None:
        """Refuse a new label with which images that were made would not be made."""
        wanted = self._wanted_of(source_key)
        if done.nodes == wanted:
            return
        if self._recipe.select.max_outputs_per_source is not None:
            trouble = "not_for leaves it other nodes, of which another sample would be drawn"
        elif done.nodes <= wanted:
            return
        else:
            forbidden = min(done.nodes - wanted)
            trouble = f"it has images that not_for forbids ({forbidden}, for one)"
        raise PlanError(
            f"{source_key} is labelled {self._labels.label_of(source_key)!r} now, and {trouble}; "
            "take the label back or choose another destination"
        )


def _pairs(
    sources: Iterable[ObjectInfo], history: Iterable[DoneSource]
) -> Iterator[tuple[ObjectInfo | None, DoneSource | None]]:
    """Bring together what has the same key; None stands for what one side does not have."""
    earlier = iter(history)
    done = next(earlier, None)
    for source in sources:
        while done is not None and done.planned.info.key < source.key:
            yield None, done
            done = next(earlier, None)
        if done is not None and done.planned.info.key == source.key:
            yield source, done
            done = next(earlier, None)
        else:
            yield source, None
    if done is not None:
        yield None, done
        yield from ((None, done) for done in earlier)


def gone_sources(
    sources: Iterable[ObjectInfo], destination: Store, committed: Sequence[str]
) -> Iterator[PlannedSource]:
    """Yield the sources that committed runs had and that are no longer listed, in key order.

    Args:
        sources: What is there, in key order; see :class:`~kaleidoscope.listing.SourceListing`.
        destination: Where the runs are.
        committed: Their names, the oldest first.

    Yields:
        What the newest run that had a source planned of it.

    Raises:
        ManifestError: If the records of one of the runs are damaged.
    """
    for source, done in _pairs(sources, History(destination, committed)):
        if source is None and done is not None:
            yield done.planned


def outdated_sources(
    sources: Iterable[ObjectInfo], destination: Store, committed: Sequence[str]
) -> Iterator[tuple[DoneSource, ObjectInfo | None]]:
    """Yield the sources that committed runs had and that are other versions now, in key order.

    Args:
        sources: What is there, in key order; see :class:`~kaleidoscope.listing.SourceListing`.
        destination: Where the runs are.
        committed: Their names, the oldest first.

    Yields:
        What the newest run did, and what is there now; None for a source that is gone.

    Raises:
        ManifestError: If the records of one of the runs are damaged.
    """
    for source, done in _pairs(sources, History(destination, committed)):
        if done is not None and (source is None or source.etag != done.planned.info.etag):
            yield done, source


@lru_cache(maxsize=16)
def selected_nodes(recipe: Recipe) -> frozenset[str]:
    """Return the nodes that a recipe selects, before a sample is drawn of them.

    Raises:
        RecipeError: If the recipe's selection leaves no node at all.
    """
    return frozenset(Tree(recipe).selected)


@lru_cache(maxsize=64)
def nodes_for(recipe: Recipe, label: Label) -> frozenset[str]:
    """Return the selected nodes without those of steps that are not for a label.

    Raises:
        RecipeError: If the recipe's selection leaves no node at all.
    """
    return frozenset(Tree(recipe).selected_for(label))


def find_conflict(earlier: Request, recipe: Recipe) -> str | None:
    """Say in which field a recipe does more than add to what an earlier run was asked for.

    A recipe adds if every node of the earlier one is a node of this one, with the same pixels:
    transforms behind the others, more copies of a step that has several, nodes more selected, more
    images for each class.

    Returns:
        The field, with both values; None if the recipe makes the same or only adds.
    """
    before = earlier.recipe
    versions = zip(before.transforms, before.versions, earlier.transform_versions, strict=True)
    for index, (step, version, was) in enumerate(versions):
        if version != was:
            return (
                f"transforms[{index}]: {step.name} is in version {version} here, and was in {was}"
            )
    if before.digest == recipe.digest:
        return None
    return (
        _difference(before, recipe, but=_MAY_GROW)
        or _conflict_in_transforms(before, recipe)
        or _conflict_in_selection(before, recipe)
        or _conflict_in_balance(before.balance, recipe.balance)
    )


_MAY_GROW = ("transforms", "select", "balance", "limits")
_SELECT_NODES = ("max_depth", "include", "exclude", "max_outputs_per_source", "keep_original")
"""Fields of the selection of which all that matters is which nodes they select."""


def _difference(before: BaseModel, after: BaseModel, *, but: Collection[str]) -> str | None:
    """Name the first field that differs, with both values."""
    for name in type(before).model_fields:
        was, now = getattr(before, name), getattr(after, name)
        if name not in but and was != now:
            return f"{name}: {_text(now)}, and was {_text(was)}"
    return None


def _conflict_in_transforms(before: Recipe, recipe: Recipe) -> str | None:
    for index, was in enumerate(before.transforms):
        if index >= len(recipe.transforms):
            return f"transforms: {was.name} at the end was taken away"
        step = recipe.transforms[index]
        if step.model_copy(update={"copies": was.copies}) != was:
            return f"transforms[{index}]: {_text(step)}, and was {_text(was)}"
        if not set(before.copy_names(index)) <= set(recipe.copy_names(index)):
            return f"transforms[{index}].copies: {step.copies}, and was {was.copies}"
    if recipe.order == "shuffled" and len(recipe.transforms) > len(before.transforms):
        return "transforms: one more, while order: shuffled draws every order anew"
    return None


def _conflict_in_selection(before: Recipe, recipe: Recipe) -> str | None:
    samples = [made.select.max_outputs_per_source for made in (before, recipe)]
    if samples != [None, None]:
        return (
            f"select.max_outputs_per_source: {samples[1]}, and was {samples[0]}; another tree "
            "or number draws another sample"
        )
    if (other := _difference(before.select, recipe.select, but=_SELECT_NODES)) is not None:
        return f"select.{other}"
    lost = sorted(
        selected_nodes(before) - selected_nodes(recipe), key=lambda name: (len(name), name)
    )
    if lost:
        names = ", ".join(islice(lost, _NAMES_SHOWN))
        return f"select: leaves out {len(lost)} nodes that were made ({names})"
    return None


def _conflict_in_balance(before: Balance | None, balance: Balance | None) -> str | None:
    if balance is None:
        return None
    if before is None:
        return f"balance: {_text(balance)}, and was None, so every node was made"
    wanted, was_wanted = balance.images_per_class, before.images_per_class
    if wanted < was_wanted:
        return f"balance.images_per_class: {wanted}, and was {was_wanted}"
    most, was = balance.max_per_source, before.max_per_source
    if most is not None and (was is None or most < was):
        return f"balance.max_per_source: {most}, and was {was}"
    return None


def _text(value: object) -> str:
    return str(value.model_dump(mode="json") if isinstance(value, BaseModel) else value)
