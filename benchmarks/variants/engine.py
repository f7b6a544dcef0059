"""Our engine: the bytes of a photograph in memory to 64 encoded images in memory."""

from collections.abc import Sequence

from benchmarks.variants._interface import SIDE, Options, Variant
from kaleidoscope.augment import Augmenter
from kaleidoscope.planning import estimate
from kaleidoscope.recipe import Recipe

MORE_STEPS = ("VerticalFlip", "Hue", "RandomGamma", "GaussianBlur")
"""What follows the six of ``classic`` where a recipe has more."""


class _Engine:
    def __init__(self, recipe: Recipe) -> None:
        self._augmenter = Augmenter(recipe)

    def prepare(self, photographs: Sequence[bytes]) -> None:
        """Nothing has to be prepared."""

    def run(self, photographs: Sequence[bytes]) -> int:
        num_images = 0
        for data in photographs:
            root = self._augmenter.root(data)
            num_images += sum(1 for _ in self._augmenter.outputs(root))
        return num_images


def make_recipe(options: Options) -> Recipe:
    """Return ``classic`` with the order, transforms, side and container that the options name.

    ``order`` is ``given``, ``shuffled`` or ``cheapest``: the one that ``plan`` recommends.
    """
    document = Recipe.preset("classic").model_dump(mode="json")
    steps = [*document["transforms"], *({"name": name} for name in MORE_STEPS)]
    document["transforms"] = steps[: int(options.get("steps", len(document["transforms"])))]
    document["normalize"]["side"] = int(options.get("side", SIDE))
    document["output"]["container"] = str(options.get("container", "files"))
    order = options.get("order", "given")
    if order == "cheapest":
        cheapest = estimate(Recipe.from_mapping(document)).cheapest_order
        document["transforms"] = [document["transforms"][step] for step in cheapest]
    else:
        document["order"] = order
    return Recipe.from_mapping(document)


def make_variant(options: Options) -> Variant:
    """Return the engine for :func:`make_recipe`."""
    return _Engine(make_recipe(options))
