"""What a card says, counted from the manifest in one pass."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from kaleidoscope.lineage import Lineage
from kaleidoscope.runs import Report, Request, load_report, load_request

MAX_LABELS_SHOWN = 5
"""Labels of which a sample is shown."""

MAX_IMAGES_SHOWN = 8
"""Images of each sample."""

_PLACE = ("output_key", "tar_key", "offset", "length")


@dataclass(frozen=True, slots=True)
class Counts:
    """How many outputs there are of what."""

    num_images: int
    size: int
    """Bytes."""
    labels: Mapping[str, int]
    """Images by label; without one, the empty name."""
    splits: Mapping[str, int]
    """Images by split; without one, the empty name."""
    nodes: Mapping[str, int]
    """Images by node."""
    formats: Mapping[str, int]
    """Images by file format."""
    in_tars: int
    """Images that are members of tars."""

    @classmethod
    def of(cls, batches: Iterable[Any]) -> Self:
        """Count the rows of record batches; what is held grows with labels and nodes only."""
        counters: dict[str, Counter[str]] = {
            name: Counter() for name in ("label", "split", "node", "format")
        }
        num_images = size = in_tars = 0
        for batch in batches:
            num_images += batch.num_rows
            in_tars += batch.num_rows - batch.column("tar_key").null_count
            size += sum(batch.column("size").drop_null().to_pylist())
            for name, counter in counters.items():
                for entry in batch.column(name).value_counts().to_pylist():
                    counter[entry["values"] or ""] += entry["counts"]
        by_name = {name: dict(sorted(counter.items())) for name, counter in counters.items()}
        return cls(
            num_images=num_images,
            size=size,
            labels=by_name["label"],
            splits=by_name["split"],
            nodes=by_name["node"],
            formats=by_name["format"],
            in_tars=in_tars,
        )


@dataclass(frozen=True, slots=True)
class Shown:
    """An image of a sample."""

    label: str | None
    node: str
    source_key: str
    output_key: str
    place: tuple[str, str | None, int | None, int | None]
    """What :func:`kaleidoscope.outputs.read_output` takes."""


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a card says."""

    uri: str
    counts: Counts
    failures: Mapping[str, int]
    """Failed sources by reason."""
    failed_examples: tuple[tuple[str, str], ...]
    """Some of them: the source's key and the message."""
    requests: tuple[Request, ...]
    """What the runs were asked, the oldest first."""
    reports: tuple[Report, ...]
    """What they did."""
    samples: tuple[tuple[Shown, ...], ...]
    """Some images of one source for each of some labels, by depth."""
    num_outdated: int
    """Images in tars that are there and that no row stands for: of sources that were taken out or
    changed."""


def gather(lineage: Lineage) -> Facts:
    """Read what a card says of all committed runs.

    Raises:
        KaleidoscopeError: If a record is missing or damaged, or the store cannot be read.
    """
    store = lineage.store
    counts = Counts.of(lineage.scan(["label", "split", "node", "format", "size", "tar_key"]))
    failed = lineage.failures(["source_key", "error_type", "error_message"])
    examples = failed.head(MAX_LABELS_SHOWN)
    return Facts(
        uri=store.uri,
        counts=counts,
        failures={str(k): int(v) for k, v in failed["error_type"].value_counts().items()},
        failed_examples=tuple(
            (str(key), str(message))
            for key, message in zip(examples["source_key"], examples["error_message"], strict=True)
        ),
        requests=tuple(load_request(store, run_id) for run_id in lineage.runs),
        reports=tuple(load_report(store, run_id) for run_id in lineage.runs),
        samples=tuple(
            _sample(lineage, label or None) for label in list(counts.labels)[:MAX_LABELS_SHOWN]
        ),
        num_outdated=_count_outdated(lineage),
    )


def _count_outdated(lineage: Lineage) -> int:
    by_tar: Counter[str | None] = Counter()
    for batch in lineage.scan_outdated(["tar_key"]):
        by_tar.update(batch.column("tar_key").to_pylist())
    del by_tar[None]
    if not by_tar:
        return 0
    # A prune deletes tars, and their rows stay.
    return sum(by_tar[info.key] for info in lineage.store.list_objects())


def _sample(lineage: Lineage, label: str | None) -> tuple[Shown, ...]:
    """Return images of the first source with a label, those nearest to it."""
    columns = ["source_id", "source_key", "node", "depth", *_PLACE]
    # A row without a label has no value that an equality could find.
    condition = None if label is None else [("label", "=", label)]
    batches = lineage.scan([*columns, "label"], condition)
    rows = next(
        (
            found
            for batch in batches
            if (found := [row for row in batch.to_pylist() if row["label"] == label])
        ),
        [],
    )
    own = [row for row in rows if row["source_id"] == rows[0]["source_id"]]
    own.sort(key=lambda row: (row["depth"], row["node"]))
    return tuple(
        Shown(
            label,
            row["node"],
            row["source_key"],
            row["output_key"],
            tuple(row[name] for name in _PLACE),
        )
        for row in own[:MAX_IMAGES_SHOWN]
    )
