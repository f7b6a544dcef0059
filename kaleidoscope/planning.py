"""Planning: what a run will make, what it will cost, and how it is cut into shards.

All of it is arithmetic on a listing; no image is read. Estimates come from rates measured on one
x86-64 core (`benchmarks/`), so they tell minutes from hours and cheap orders from dear ones, and
not more.
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

import numpy as np

from kaleidoscope.balance import ClassShare
from kaleidoscope.errors import PlanError
from kaleidoscope.model import ObjectInfo, PlannedSource
from kaleidoscope.recipe import Output, Recipe
from kaleidoscope.stores import PIECE_SIZE
from kaleidoscope.tree import Tree

DECODE_NS_PER_BYTE = 16.0
"""CPU nanoseconds to fetch and decode a byte of JPEG."""

ENCODE_NS_PER_PIXEL = {"jpeg": 2.5, "png": 8.0, "webp": 70.0, "source": 2.5}
"""CPU nanoseconds to encode and hash a pixel, by output format."""

STORE_NS_PER_OUTPUT = 200_000.0
"""CPU nanoseconds of the client to write one object."""

USD_PER_PUT = 0.005 / 1000
"""Price of a PUT request to S3 Standard in us-east-1 (https://aws.amazon.com/s3/pricing)."""

PIXELS_WHERE_UNKNOWN = 1_000_000
"""Taken for the size of a source that the recipe does not resize."""

PUTS_PER_SHARD = 2
"""Requests that write a shard's plan and its part."""

_PUTS_PER_UPLOAD = 3
"""Requests that begin a multipart upload, send its last part, which is not full, and end it."""

_MEMBERS_BYTES = 2_048
"""Bytes of a tar for each image beside its own: two headers, a JSON file, and the padding."""

MAX_SOURCES_PER_SHARD = 20_000
"""Bounds a shard's plan and its part, however cheap its sources are."""

# Bytes per pixel of photographs at 4:2:0, by JPEG quality.
_JPEG_QUALITIES = (50, 75, 85, 90, 95, 100)
_JPEG_BYTES_PER_PIXEL = (0.08, 0.11, 0.15, 0.19, 0.26, 0.6)
_WEBP_TO_JPEG = 0.7
_PNG_BYTES_PER_PIXEL = 1.4


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one source of a recipe costs, without reading and decoding it."""

    num_outputs: int
    num_calls: int
    """Transform calls, one for each edge of the tree."""
    transform_cpu_s: float
    """CPU seconds of the transforms in the recipe's order."""
    output_cpu_s: float
    """CPU seconds to encode, hash and write the outputs."""
    output_bytes: int
    """Bytes of all outputs."""
    cheapest_order: tuple[int, ...]
    """Indices of the recipe's steps in the order whose transforms cost least."""
    cheapest_transform_cpu_s: float
    """CPU seconds of the transforms in that order."""
    puts_per_output: float = 1.0
    """Requests that write; in tars, a part of an upload holds many images."""
    puts_per_shard: int = PUTS_PER_SHARD
    """Requests that write beside those for images."""

    def work_s(self, source: PlannedSource) -> float:
        """Return the CPU seconds for what is to be made of this source."""
        share = source.num_missing(self.num_outputs) / self.num_outputs
        reading_s = source.info.size * DECODE_NS_PER_BYTE / 1e9
        # Half of a tree is what an appended transform adds, and takes every call of the other
        # half; of a small sample about half the ancestors are shared.
        transform_cpu_s = self.transform_cpu_s * min(1.0, 2 * share)
        return reading_s + transform_cpu_s + self.output_cpu_s * share

    def making_s(self, source: ObjectInfo) -> float:
        """Return the CPU seconds for all of this source but those that the store's client takes."""
        storing_s = self.num_outputs * STORE_NS_PER_OUTPUT / 1e9
        return self.work_s(PlannedSource(source)) - storing_s


def estimate(recipe: Recipe) -> Estimate:
    """Estimate what a source costs.

    Raises:
        RecipeError: If the recipe's selection leaves no node at all.
    """
    tree = Tree(recipe)
    side = recipe.normalize.side
    pixels = PIXELS_WHERE_UNKNOWN if recipe.normalize.mode == "none" else side * side
    costs = [step.params.cost_ns_per_pixel for step in recipe.transforms]
    # In a whole tree a step runs more often the later it stands, whatever the copies, so the
    # dearest goes first; in a selection that is a guess, which the recipe's order may beat.
    dearest_first = tuple(sorted(range(len(costs)), key=lambda step: (-costs[step], step)))
    orders = _orders(recipe)
    calls = {order: _num_calls(tree, order) for order in (*orders, dearest_first)}
    cost_ns = {
        order: sum(count * costs[step] for step, count in by_step.items())
        for order, by_step in calls.items()
    }
    cheapest = min(cost_ns, key=cost_ns.__getitem__)
    per_output_ns = pixels * ENCODE_NS_PER_PIXEL[recipe.output.format] + STORE_NS_PER_OUTPUT
    return Estimate(
        num_outputs=tree.num_outputs,
        num_calls=round(fmean(calls[order].total() for order in orders)),
        transform_cpu_s=fmean(cost_ns[order] for order in orders) * pixels / 1e9,
        output_cpu_s=tree.num_outputs * per_output_ns / 1e9,
        output_bytes=round(tree.num_outputs * pixels * bytes_per_pixel(recipe.output)),
        cheapest_order=cheapest,
        cheapest_transform_cpu_s=cost_ns[cheapest] * pixels / 1e9,
        puts_per_output=_puts_per_output(recipe, pixels),
        puts_per_shard=_puts_per_shard(recipe.output),
    )


def _puts_per_output(recipe: Recipe, pixels: int) -> float:
    if recipe.output.container == "files":
        return 1.0 if recipe.masks_folder is None else 2.0
    return (pixels * bytes_per_pixel(recipe.output) + _MEMBERS_BYTES) / PIECE_SIZE


def _puts_per_shard(output: Output) -> int:
    return PUTS_PER_SHARD + (0 if output.container == "files" else _PUTS_PER_UPLOAD)


def _orders(recipe: Recipe) -> tuple[tuple[int, ...], ...]:
    """Return the orders to average over: the given one, or one with each step in each place."""
    given = tuple(range(len(recipe.transforms)))
    if recipe.order == "given":
        return (given,)
    return tuple(given[start:] + given[:start] for start in given)


def _num_calls(tree: Tree, order: tuple[int, ...]) -> Counter[int]:
    """Return how often each step runs for a source; any source, since only a sample differs."""
    nodes = tree.nodes(source_sha256="", order=order)
    return Counter(node.step for node in nodes if node.parent is not None)


def bytes_per_pixel(output: Output) -> float:
    """Return the bytes that a photograph takes for each pixel; noise and detail may double it."""
    if output.format == "png":
        return _PNG_BYTES_PER_PIXEL
    jpeg = float(np.interp(output.quality, _JPEG_QUALITIES, _JPEG_BYTES_PER_PIXEL))
    return jpeg * (_WEBP_TO_JPEG if output.format == "webp" else 1.0)


@dataclass(frozen=True, slots=True)
class Shard:
    """Sources that one worker augments and commits together."""

    index: int
    sources: tuple[PlannedSource, ...]


def cut_shards(
    sources: Iterable[PlannedSource], cost: Estimate, *, shard_s: float, min_shards: int
) -> Iterator[Shard]:
    """Cut sources into shards of about equal work, streamed, neighbours together.

    Args:
        sources: In the order in which the shards are to have them.
        cost: What a source costs.
        shard_s: CPU seconds of a full shard.
        min_shards: Cut a small data set into so many, if it has so many sources of about equal
            work, so that every worker has something to do. At least 1.

    Yields:
        Shards with indices from 0, each with one source at least.

    Raises:
        PlanError: If ``min_shards`` or ``shard_s`` is out of range.
    """
    if min_shards < 1 or not shard_s > 0:
        raise PlanError(f"shards need min_shards >= 1 and shard_s > 0, got {min_shards}, {shard_s}")
    stream = iter(sources)
    # Look ahead just far enough to see whether full shards would leave workers without one.
    head: list[PlannedSource] = []
    head_s = 0.0
    most = MAX_SOURCES_PER_SHARD * min_shards  # So many fill the shards however cheap they are.
    for source in itertools.islice(stream, most):
        head.append(source)
        head_s += cost.work_s(source)
        if head_s >= shard_s * min_shards:
            break
    target_s = shard_s if len(head) == most else min(shard_s, head_s / min_shards)
    batches = _batches(itertools.chain(head, stream), cost, target_s)
    for index, batch in enumerate(batches):
        yield Shard(index, batch)


def _batches(
    sources: Iterable[PlannedSource], cost: Estimate, target_s: float
) -> Iterator[tuple[PlannedSource, ...]]:
    """Close a batch whenever the work so far passes a multiple of the target."""
    batch: list[PlannedSource] = []
    done_s, boundary_s = 0.0, target_s
    for source in sources:
        work_s = cost.work_s(source)
        batch.append(source)
        done_s += work_s
        # Half a source early, so that rounding never leaves a last source on its own.
        is_full = done_s + work_s / 2 >= boundary_s
        if is_full or len(batch) >= MAX_SOURCES_PER_SHARD:
            yield tuple(batch)
            batch.clear()
            # Boundaries stay multiples, so that rounding does not add up over many batches. Only
            # what a batch closed by number is short of, or what a huge source is over, is
            # forgotten.
            boundary_s = boundary_s + target_s if is_full else done_s + target_s
            if boundary_s <= done_s:
                boundary_s = done_s + target_s
    if batch:
        yield tuple(batch)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will do, in numbers."""

    num_sources: int
    """Sources of which something is to be made."""
    num_done: int
    """Sources of which nothing is missing."""
    num_shards: int
    source_bytes: int
    """Bytes of the sources to augment."""
    num_outputs: int
    """Images to make, if no source fails; fewer if an object is new and its content is not."""
    cpu_s: float
    """CPU seconds in all."""
    left_out: Mapping[str, int]
    """Objects under the source prefix that are not sources, by reason."""
    per_source: Estimate
    """Of the whole tree of a source."""
    # Plans that were written before there were these do not have them.
    num_gone: int = 0
    """Sources of earlier runs that are no longer listed; their images stay."""
    gone: tuple[str, ...] = ()
    """Keys of the first of them."""
    classes: tuple[ClassShare, ...] = ()
    """What classes will have; empty where the recipe does not balance them."""
    lacking: Mapping[str, int] = field(default_factory=dict)
    """Sources that the table of labels or the folder of masks has nothing of, by what is not
    there."""
    largest_source_bytes: int = 0
    """Of the sources to augment."""
    num_unneeded: int = 0
    """Of the sources of which nothing is missing, those of which nothing is wanted either: their
    class has its images from others."""

    @property
    def output_bytes(self) -> int:
        """Bytes of all outputs."""
        return round(self.num_outputs * self.per_source.output_bytes / self.per_source.num_outputs)

    @property
    def num_puts(self) -> int:
        """Requests that write: images, plan, parts, manifest and marker."""
        num_images = math.ceil(self.num_outputs * self.per_source.puts_per_output)
        return num_images + self.num_shards * self.per_source.puts_per_shard + 5

    @property
    def put_usd(self) -> float:
        """Dollars for the requests that write, on S3."""
        return self.num_puts * USD_PER_PUT

    def to_document(self) -> dict[str, Any]:
        """Return all of it, what follows from the fields included, for JSON."""
        derived = ("output_bytes", "num_puts", "put_usd")
        classes = [asdict(share) | {"num_short": share.num_short} for share in self.classes]
        return asdict(self) | {name: getattr(self, name) for name in derived} | {"classes": classes}
