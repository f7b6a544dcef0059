"""What a worker does with a source."""

from concurrent.futures import CancelledError, Future
from dataclasses import dataclass

from kaleidoscope.augment import Augmenter, Root
from kaleidoscope.errors import AccessError, ObjectMissingError, StoreError, TargetError
from kaleidoscope.labels import planned_labels, read_targets
from kaleidoscope.manifest import Record
from kaleidoscope.model import NodeChoice, PlannedSource, StoredTargets
from kaleidoscope.recipe import Targets
from kaleidoscope.shard._rows import (
    failed_record,
    output_record,
    source_facts,
    with_header,
    with_mask,
)
from kaleidoscope.shard._sinks import Made, Sink
from kaleidoscope.shard._threads import OUTPUTS_PER_WRITE
from kaleidoscope.stores import Store, StoredObject
from kaleidoscope.tree import ALL_NODES, ROOT


@dataclass(frozen=True, slots=True)
class ReadSource:
    """What was read of a source."""

    image: StoredObject
    targets: StoredTargets


def read_source(source: Store, planned: PlannedSource) -> ReadSource:
    """Read a source and its mask.

    Raises:
        StoreError: If one of them is not there or cannot be read.
    """
    return ReadSource(source.get(planned.info.key), read_targets(source, planned_labels(planned)))


@dataclass(frozen=True, slots=True)
class SourceResult:
    """What became of a source."""

    writes: tuple[Future[tuple[Record, ...]], ...]
    """Each returns the rows of some outputs once they are in the store, or why they never are."""
    failures: tuple[Record, ...]
    """The row of what could not be made, if there is such."""
    source_bytes: int


class SourceTask:
    """Makes the outputs of sources; any number of workers share it."""

    def __init__(self, augmenter: Augmenter, sink: Sink, *, targets: Targets | None) -> None:
        """Make outputs.

        Args:
            augmenter: Makes them.
            sink: Takes them.
            targets: What the recipe says of masks and boxes.
        """
        self._augmenter = augmenter
        self._sink = sink
        self._targets = targets

    def run(
        self, position: int, planned: PlannedSource, reading: Future[ReadSource]
    ) -> SourceResult:
        """Make and hand over the outputs of a source; one that cannot be used becomes a row.

        Args:
            position: Of the source in the shard, from 0.
            planned: The source, and what is to be made of it.
            reading: Returns its bytes and those of its mask.

        Raises:
            StoreError: If the store that it comes from is down.
            CancelledError: If the shard has failed elsewhere.
        """
        try:
            return self._run(position, planned, reading)
        finally:
            self._sink.end(position)

    def _run(
        self, position: int, planned: PlannedSource, reading: Future[ReadSource]
    ) -> SourceResult:
        labels = planned_labels(planned)
        facts = source_facts(planned.info, labels)
        writes: list[Future[tuple[Record, ...]]] = []
        failures: tuple[Record, ...] = ()
        size = 0
        root: Root | None = None
        choice = ALL_NODES
        num_made = 0
        made: list[Made] = []
        try:
            read = reading.result()
            facts = with_mask(source_facts(read.image.info, labels), read.targets.mask)
            size = len(read.image.data)
            self._check_mask(read.targets)
            root = self._augmenter.root(read.image.data, read.targets)
            facts = with_header(facts, root)
            choice = planned.choice(read.image.info, root.sha256)
            for output in self._augmenter.outputs(root, choice):
                mask = output.growth.targets.mask
                record = output_record(facts, root, output, self._targets)
                made.append(Made(record, output.data, None if mask is None else mask.data))
                if len(made) == OUTPUTS_PER_WRITE:
                    writes.append(self._sink.write(position, made))
                    made = []
                num_made += 1
        except (ObjectMissingError, AccessError) as error:
            # The listing was allowed, so a refusal is about this one object. Where all are
            # refused, max_error_rate speaks.
            failures = (failed_record(facts, self._missing(root, choice, num_made), error),)
        except (StoreError, CancelledError):
            raise
        except Exception as error:  # noqa: BLE001 -- one bad image never ends a shard.
            failures = (failed_record(facts, self._missing(root, choice, num_made), error),)
        if made:
            writes.append(self._sink.write(position, made))
        return SourceResult(tuple(writes), failures, size)

    def _check_mask(self, targets: StoredTargets) -> None:
        folder = None if self._targets is None else self._targets.masks
        if folder is not None and targets.mask is None:
            raise TargetError(
                f"there is no mask of it in {folder}/, called as it is but for the extension"
            )

    def _missing(self, root: Root | None, choice: NodeChoice, num_made: int) -> str:
        """Return the node that could not be made, behind ``num_made`` that could."""
        return ROOT if root is None else self._augmenter.output_nodes(root, choice)[num_made]
