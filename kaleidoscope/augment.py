"""The engine: the bytes of a source in, the encoded outputs of its tree out.

It does no input or output of its own and keeps nothing between sources, so a pod, a preview and
a benchmark run the same code.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from kaleidoscope.allocation import keep_freed_memory
from kaleidoscope.codecs import (
    EncodeSpec,
    ImageHeader,
    decode,
    decode_mask,
    encode,
    probe,
    reduction_for,
)
from kaleidoscope.errors import CodecError, TargetError
from kaleidoscope.model import NOTHING_KNOWN, BgrImage, NodeChoice, StoredTargets
from kaleidoscope.normalization import Normalization
from kaleidoscope.recipe import Recipe
from kaleidoscope.seeding import named_rng
from kaleidoscope.targets import NO_TARGETS, ImageTargets, MaskImage, boxes_from_json
from kaleidoscope.tree import ALL_NODES, Applied, Growth, Tree

NORMALIZE_VERSION = 1
"""Goes up when the same parameters come to mean other pixels."""


@dataclass(frozen=True, slots=True)
class Root:
    """A source, decoded and normalised: where its tree begins."""

    sha256: str
    """Of the source's bytes, as hex; every draw follows from it."""
    header: ImageHeader
    image: BgrImage
    """``(H, W, 3)`` uint8, BGR."""
    edge: Applied[Normalization]
    """What made it of the source; the first entry of every output's chain."""
    targets: ImageTargets = NO_TARGETS
    """What belongs to the image."""


def normalized(data: bytes, header: ImageHeader, normalization: Normalization) -> BgrImage:
    """Decode a source and bring it to the size at which its tree begins.

    Args:
        data: The source's bytes.
        header: What :func:`~kaleidoscope.codecs.probe` returned for them.
        normalization: With its offset drawn.

    Returns:
        ``(H, W, 3)`` uint8, BGR.

    Raises:
        CodecError: If the picture cannot be read.
    """
    # A much larger JPEG is decoded at a fraction of its size: cheaper, and nearer to an average
    # over the area than a full decode with linear interpolation.
    short_side = normalization.min_short_side(header.width, header.height)
    decoded = decode(data, header, reduction=reduction_for(header, short_side))
    return normalization.apply(decoded, source_width=header.width, source_height=header.height)


def decode_mask_of(data: bytes, header: ImageHeader) -> MaskImage:
    """Decode the mask of a source.

    Args:
        data: The mask's bytes.
        header: The source's.

    Raises:
        TargetError: If it cannot be decoded, or is of another size than the source.
    """
    width, height = header.width, header.height
    try:
        pixels = decode_mask(data, max_pixels=2 * width * height)
    except CodecError as error:
        raise TargetError(f"the mask cannot be used: {error}") from error
    if pixels.shape[:2] != (height, width):
        raise TargetError(
            f"the mask has {pixels.shape[1]} x {pixels.shape[0]} pixels and its image "
            f"{width} x {height}; they must be of one size"
        )
    return MaskImage(pixels)


@dataclass(frozen=True, slots=True)
class EncodedOutput:
    """An output of the tree as an image file."""

    growth: Growth
    spec: EncodeSpec
    data: bytes


class Augmenter:
    """Makes the outputs of sources by one recipe; any number of threads may share it."""

    def __init__(self, recipe: Recipe) -> None:
        """Lay out the recipe's tree.

        Raises:
            RecipeError: If the recipe's selection leaves no node at all.
        """
        keep_freed_memory()
        self._recipe = recipe
        self._tree = Tree(recipe)

    def root(self, data: bytes, known: StoredTargets = NOTHING_KNOWN) -> Root:
        """Decode and normalise a source.

        Args:
            data: The source's bytes.
            known: What belongs to it.

        Raises:
            CodecError: If they are not an image that can be decoded within the recipe's limits.
            TargetError: If the mask or a box does not fit the image.
        """
        sha256 = hashlib.sha256(data).hexdigest()
        header = probe(data, max_pixels=self._recipe.limits.max_pixels)
        rng = named_rng(self._recipe.seed, sha256, "normalize")
        wanted = self._recipe.normalize
        normalization = Normalization.sample(rng, mode=wanted.mode, side=wanted.side)
        targets = self._targets(known, header, normalization)
        image = normalized(data, header, normalization)
        edge = Applied("normalize", NORMALIZE_VERSION, normalization)
        return Root(sha256, header, image, edge, targets)

    def _targets(
        self, known: StoredTargets, header: ImageHeader, normalization: Normalization
    ) -> ImageTargets:
        wanted = self._recipe.targets
        if wanted is None:
            return NO_TARGETS
        size = (header.width, header.height)
        mask = boxes = None
        if known.mask is not None:
            mask = decode_mask_of(known.mask, header)
        if known.objects is not None and wanted.boxes is not None:
            boxes = boxes_from_json(known.objects, wanted.boxes, size=size)
        targets = ImageTargets(mask, boxes)
        return targets.moved(normalization, size=size, min_visibility=wanted.min_visibility)

    def output_nodes(self, root: Root, choice: NodeChoice = ALL_NODES) -> tuple[str, ...]:
        """Return the names of the outputs of a source, in the order of :meth:`outputs`."""
        nodes = self._tree.nodes(root.sha256, choice=choice)
        return tuple(node.name for node in nodes if node.is_output)

    def outputs(self, root: Root, choice: NodeChoice = ALL_NODES) -> Iterator[EncodedOutput]:
        """Yield the outputs of a source, depth first, at most depth + 1 images alive.

        Args:
            root: What :meth:`root` returned.
            choice: Which of the nodes that the recipe selects; their ancestors are computed, too.

        Raises:
            TransformError: If a transform cannot be applied to this image.
            CodecError: If an output cannot be encoded, for example for its size.
        """
        spec = self._encode_spec(root.header)
        for growth in self._tree.grow(root.image, root.sha256, choice, targets=root.targets):
            yield EncodedOutput(growth, spec, encode(growth.image, spec))

    def _encode_spec(self, header: ImageHeader) -> EncodeSpec:
        output = self._recipe.output
        file_format = header.format if output.format == "source" else output.format
        return EncodeSpec(format=file_format, quality=output.quality)
