"""What a variant is, for worker processes of every environment."""

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias

Options: TypeAlias = Mapping[str, str | int]
"""What the benchmark tells a variant, for example the endpoint of a server."""

SIDE = 400
"""Pixels; of the square that every variant makes of a photograph."""

JPEG_QUALITY = 95

NUM_TRANSFORMS = 6


class Variant(Protocol):
    """Makes all images of some photographs."""

    def prepare(self, photographs: Sequence[bytes]) -> None:
        """Do what must not be measured."""

    def run(self, photographs: Sequence[bytes]) -> int:
        """Return the number of images made."""


def all_chains(num_transforms: int = NUM_TRANSFORMS) -> list[tuple[int, ...]]:
    """Return every subset of the transforms in order, parents before children."""
    chains: list[tuple[int, ...]] = [()]
    for chain in chains:
        first = chain[-1] + 1 if chain else 0
        chains.extend((*chain, step) for step in range(first, num_transforms))
    return chains
