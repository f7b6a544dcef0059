"""The tree of all chains of a recipe's transforms, grown depth first from one image.

The root is the normalised source. A node is a subset of the steps, applied in order; its parent
is the subset less its last step. So each edge is one transform call, and a tree of N steps makes
2^N images with 2^N - 1 calls. Growing it depth first keeps one image for each level alive.
"""

import fnmatch
import json
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import islice
from typing import Generic, Protocol, TypeVar

from kaleidoscope.errors import RecipeError
from kaleidoscope.model import BgrImage, NodeChoice
from kaleidoscope.recipe import Recipe, Select
from kaleidoscope.seeding import named_rng
from kaleidoscope.targets import NO_TARGETS, ImageTargets
from kaleidoscope.transforms import Operation, ParamValue

ROOT = "root"
"""The node that no transform was applied to; no chain is called so, since none repeats a letter."""

ALL_NODES = NodeChoice()
"""Whatever the recipe selects."""

_EDGES_DRAWN_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Node:
    """A place in the tree, known before any image is read."""

    name: str
    """The labels of its steps in recipe order, for example ``ac`` or ``a2c1``; or ``root``."""

    parent: str | None
    """None for the root."""

    depth: int
    """Number of transforms in its chain."""

    step: int
    """Index into the recipe of the transform that makes it of its parent; -1 for the root."""

    is_output: bool
    """False for a node that is computed only because an output descends from it."""


class Sampled(Protocol):
    """Something whose parameters are drawn, and can be recorded."""

    def params(self) -> Mapping[str, ParamValue]:
        """Return the drawn values by name."""


SampledT_co = TypeVar("SampledT_co", bound=Sampled, covariant=True)


@dataclass(frozen=True)
class Applied(Generic[SampledT_co]):
    """An edge of the tree: what was done, by name and version, with the parameters drawn."""

    name: str
    """The transform's name."""

    version: int
    """The transform's version."""

    operation: SampledT_co

    @cached_property
    def params(self) -> str:
        """The drawn parameters as JSON; every descendant's record repeats it."""
        return json.dumps(self.operation.params(), separators=(",", ":"))

    @cached_property
    def text(self) -> str:
        """Name, version and parameters as JSON; :func:`transforms.load_operation` takes them."""
        return f'{{"op":"{self.name}","version":{self.version},"params":{self.params}}}'


@dataclass(frozen=True, slots=True)
class Growth:
    """A node with its pixels."""

    node: Node
    image: BgrImage
    """``(H, W, 3)`` uint8, BGR."""

    chain: tuple[Applied[Operation], ...]
    """The edges from the root to here; the last one made this node of its parent."""

    targets: ImageTargets = NO_TARGETS
    """What belongs to the image."""


_MOST_NAMES = 8
"""Nodes that an error names."""


class Tree:
    """The nodes of a recipe's tree, for each source in the order that it is grown in."""

    def __init__(self, recipe: Recipe) -> None:
        """Lay out the tree.

        Raises:
            RecipeError: If the recipe's selection leaves no node at all.
        """
        self._recipe = recipe
        self._given = tuple(range(len(recipe.transforms)))
        self.num_outputs = min(
            len(self.selected), recipe.select.max_outputs_per_source or len(self.selected)
        )
        """Outputs of each source, of which nothing was chosen."""
        self._given_nodes = lru_cache(maxsize=16)(self._choose_given)

    @cached_property
    def selected(self) -> tuple[str, ...]:
        """The nodes that the recipe selects, depth first, before a sample is drawn of them."""
        select = self._recipe.select
        every_name = [node.name for node in _enumerate(self._recipe, self._given)]
        for pattern in (*select.include, *select.exclude):
            if not fnmatch.filter(every_name[1:], pattern):
                raise RecipeError(
                    f"select: the pattern {pattern!r} matches no node; nodes are called "
                    f"{', '.join(every_name[1:_MOST_NAMES])} and so on, and whether the root is "
                    "kept says keep_original"
                )
        names = [name for name in every_name if _keeps(select, name)]
        if not names:
            raise RecipeError(
                "select leaves no node of the tree: "
                f"include {list(select.include)}, exclude {list(select.exclude)}, "
                f"keep_original {select.keep_original}"
            )
        return tuple(names)

    def selected_for(self, label: str | None) -> tuple[str, ...]:
        """Return the selected nodes without those of steps that are not for a label.

        Args:
            label: Of a source; None if it has none.
        """
        copies = [
            copy
            for index, step in enumerate(self._recipe.transforms)
            if label in step.not_for
            for copy in self._recipe.copy_names(index)
        ]
        # The root is no chain, though its name has letters as chains have.
        return tuple(
            name
            for name in self.selected
            if name == ROOT or not any(copy in name for copy in copies)
        )

    def _choose_given(self, choice: NodeChoice) -> tuple[Node, ...]:
        return _needed(_enumerate(self._recipe, self._given), choice.of(self.selected))

    def nodes(
        self,
        source_sha256: str,
        *,
        choice: NodeChoice = ALL_NODES,
        order: tuple[int, ...] | None = None,
    ) -> tuple[Node, ...]:
        """Return the nodes to compute for a source, each behind its parent, depth first.

        Args:
            source_sha256: Of the source's bytes, as hex; decides what is drawn by lot.
            choice: Which of the selected nodes become outputs; a sample is drawn among these.
            order: The steps' indices in the order in which chains apply them; by default the
                source's own. The outputs are the same in any order.
        """
        order = self.order(source_sha256) if order is None else order
        limit = self.num_outputs
        if limit == len(self.selected) and order == self._given:
            return self._given_nodes(choice)
        outputs = self.selected
        if limit < len(self.selected):
            among = self.selected if choice.among is None else choice.among
            possible = [name for name in self.selected if name in among]
            rng = named_rng(self._recipe.seed, source_sha256, "select")
            drawn = rng.choice(len(possible), min(limit, len(possible)), replace=False)
            outputs = tuple(possible[i] for i in drawn)
        return _needed(_enumerate(self._recipe, order), choice.of(outputs))

    def order(self, source_sha256: str) -> tuple[int, ...]:
        """Return the steps' indices in the order in which this source's chains apply them."""
        if self._recipe.order == "given":
            return self._given
        rng = named_rng(self._recipe.seed, source_sha256, "order")
        return tuple(int(step) for step in rng.permutation(len(self._given)))

    def sample(self, node: Node, source_sha256: str) -> Applied[Operation]:
        """Draw what makes ``node`` of its parent."""
        step = self._recipe.transforms[node.step]
        rng = named_rng(self._recipe.seed, source_sha256, node.name, step.name, step.params.version)
        return Applied(step.name, step.params.version, step.params.sample(rng))

    def grow(
        self,
        root: BgrImage,
        source_sha256: str,
        choice: NodeChoice = ALL_NODES,
        *,
        targets: ImageTargets = NO_TARGETS,
    ) -> Iterator[Growth]:
        """Yield the outputs of a source, depth first, at most depth + 1 images alive.

        An image is the tree's own: whoever keeps it beyond the next step copies it.

        Args:
            root: The normalised source, ``(H, W, 3)`` uint8, BGR.
            source_sha256: Of the source's bytes, as hex; every draw follows from it.
            choice: Which of the selected nodes become outputs.
            targets: What belongs to the root.

        Raises:
            TransformError: If a transform cannot be applied to this image.
        """
        images: list[BgrImage] = []
        moved: list[ImageTargets] = []
        chain: list[Applied[Operation]] = []
        for node, edge in self._with_edges(source_sha256, choice):
            del images[node.depth :], moved[node.depth :], chain[max(node.depth - 1, 0) :]
            if edge is None:
                images.append(root)
                moved.append(targets)
            else:
                chain.append(edge)
                moved.append(self._move(moved[-1], edge.operation, images[-1]))
                images.append(edge.operation.apply(images[-1]))
            if node.is_output:
                yield Growth(node, images[-1], tuple(chain), moved[-1])

    def _move(self, targets: ImageTargets, by: Operation, image: BgrImage) -> ImageTargets:
        if self._recipe.targets is None:
            return targets
        size = (image.shape[1], image.shape[0])
        return targets.moved(by, size=size, min_visibility=self._recipe.targets.min_visibility)

    def _with_edges(
        self, source_sha256: str, choice: NodeChoice
    ) -> Iterator[tuple[Node, Applied[Operation] | None]]:
        """Yield the nodes of a source, each with what makes it of its parent.

        Edges are drawn some at a time: between two images, which fill the CPU's caches, a draw
        takes three times as long.
        """
        nodes = iter(self.nodes(source_sha256, choice=choice))
        while batch := tuple(islice(nodes, _EDGES_DRAWN_AT_ONCE)):
            yield from [
                (node, None if node.parent is None else self.sample(node, source_sha256))
                for node in batch
            ]


def _enumerate(recipe: Recipe, order: tuple[int, ...]) -> Iterator[Node]:
    """Yield every node down to the deepest that is wanted, depth first."""
    deepest = min(recipe.select.max_depth or len(order), len(order))

    def descend(parent: Node, names: Mapping[int, str], start: int) -> Iterator[Node]:
        yield parent
        if parent.depth == deepest:
            return
        for position in range(start, len(order)):
            step = order[position]
            for copy in recipe.copy_names(step):
                chosen = {**names, step: copy}
                name = "".join(chosen[step] for step in sorted(chosen))
                child = Node(name, parent.name, parent.depth + 1, step, is_output=True)
                yield from descend(child, chosen, position + 1)

    return descend(Node(ROOT, None, 0, -1, is_output=True), {}, 0)


def _keeps(select: Select, name: str) -> bool:
    if name == ROOT:
        return select.keep_original
    included = not select.include or _matches(name, select.include)
    return included and not _matches(name, select.exclude)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _needed(nodes: Iterable[Node], outputs: AbstractSet[str]) -> tuple[Node, ...]:
    """Keep the outputs and their ancestors, in order."""
    needed = set(outputs)
    kept = []
    for node in reversed(tuple(nodes)):  # Children come before their parents here.
        if node.name in needed:
            needed.add(node.parent or ROOT)
            kept.append(replace(node, is_output=node.name in outputs))
    return tuple(reversed(kept))
