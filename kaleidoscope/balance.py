"""Class balance: how many images of each source a run makes, so that classes come out alike.

A class fills up to its number of images, its sources with the fewest first, so that no source is
repeated twice before every other is repeated once. What is there counts, and nothing is ever
taken away or invented: a class that is full takes no more sources, and one whose trees hold too
few nodes stays short. Only a count for each class and number of images is kept in memory.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from kaleidoscope.recipe import Balance, Recipe
from kaleidoscope.seeding import named_rng
from kaleidoscope.tree import ROOT, Tree

Label: TypeAlias = str | None
"""The class of a source; sources without one are a class of their own."""


@dataclass(frozen=True, slots=True)
class ClassShare:
    """What a class has when a run has ended, if no source fails."""

    label: Label
    num_sources: int
    """Sources of the class, without those that failed and are left alone."""
    num_made: int
    """Images that earlier runs made of these sources."""
    num_images: int
    """Images that there are in the end."""
    num_wanted: int
    """Images that the recipe asks for."""

    @property
    def num_short(self) -> int:
        """Images that the trees of these sources do not hold, or the cap of a source forbids."""
        return max(0, self.num_wanted - self.num_images)


class Balancer:
    """Says which nodes a source is to have, one source after another in key order.

    The same keys with the same images made get the same nodes, on whatever machine.
    """

    def __init__(
        self,
        recipe: Recipe,
        balance: Balance,
        made: Mapping[Label, Counter[int]],
    ) -> None:
        """Share the images out.

        Args:
            recipe: Its tree bounds what a source can give.
            balance: What the recipe asks for.
            made: For each class, how many sources have how many images already.

        Raises:
            RecipeError: If the recipe's selection leaves no node at all.
        """
        self._seed = recipe.seed
        tree = Tree(recipe)
        self._names = tuple(name for name in tree.selected if name != ROOT)
        self._first = (ROOT,) if ROOT in tree.selected else ()
        self._every = frozenset(tree.selected)
        self._restricted = {
            label: frozenset(tree.selected_for(label)) for label in recipe.forbidden_labels
        }
        cap = balance.max_per_source or len(self._every)
        self._levels = {
            label: _Level(counts, balance.images_per_class, min(len(self._possible(label)), cap))
            for label, counts in made.items()
        }

    @property
    def classes(self) -> tuple[ClassShare, ...]:
        """What each class will have, by name, sources without a class first."""
        by_name = sorted(
            self._levels.items(), key=lambda item: (item[0] is not None, item[0] or "")
        )
        return tuple(level.share(label) for label, level in by_name)

    def nodes(self, source_key: str, label: Label, made: frozenset[str]) -> frozenset[str]:
        """Return the nodes that a source is to have, those that are made among them.

        Args:
            source_key: Relative to the source prefix; with the seed it decides which nodes.
            label: The source's class.
            made: What is there of it.
        """
        level = self._levels.get(label)
        if level is None:  # It came between two listings, and waits for the next run.
            return made
        num_new = level.next(len(made)) - len(made)
        wanted = self._possible(label) - made
        return made.union([name for name in self._order(source_key) if name in wanted][:num_new])

    def _possible(self, label: Label) -> frozenset[str]:
        return self._every if label is None else self._restricted.get(label, self._every)

    def _order(self, source_key: str) -> Iterable[str]:
        rng = named_rng(self._seed, source_key, "balance")
        return *self._first, *(self._names[i] for i in rng.permutation(len(self._names)))


class _Level:
    """How far the sources of a class are filled up, the emptiest first, as water fills a vessel."""

    def __init__(self, counts: Mapping[int, int], num_wanted: int, most: int) -> None:
        self._counts = counts
        self._num_wanted = num_wanted
        self._height = 0
        left = num_wanted - self._num_made
        self._num_below = counts.get(0, 0)
        """Sources that do not stand above the height."""
        while left >= self._num_below and self._height < most:
            left -= self._num_below
            self._height += 1
            self._num_below += counts.get(self._height, 0)
        self._num_extra = max(0, left) if self._height < most else 0
        """Of those, the sources that get one image more than the others."""
        self._rank = 0

    @property
    def _num_made(self) -> int:
        return sum(num_made * count for num_made, count in self._counts.items())

    def next(self, num_made: int) -> int:
        """Return how many images the next source has in the end."""
        if num_made > self._height or not self._num_below:
            return num_made
        # Spread evenly over the sources in their order.
        before = self._rank * self._num_extra // self._num_below
        self._rank += 1
        after = self._rank * self._num_extra // self._num_below
        return max(num_made, self._height + after - before)

    def share(self, label: Label) -> ClassShare:
        """Return what the class comes to."""
        filled = sum(
            max(num_made, self._height) * count for num_made, count in self._counts.items()
        )
        return ClassShare(
            label=label,
            num_sources=sum(self._counts.values()),
            num_made=self._num_made,
            num_images=filled + self._num_extra,
            num_wanted=self._num_wanted,
        )
