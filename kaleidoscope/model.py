"""Values that pass between the stages of the pipeline.

They are frozen and hold no behaviour beyond what follows from their own fields.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

BgrImage: TypeAlias = npt.NDArray[np.uint8]
"""Pixels, ``(H, W, 3)`` uint8, channels in the order blue, green, red as OpenCV has them."""


Mask: TypeAlias = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
"""What each pixel shows, ``(H, W)`` or ``(H, W, C)``; values are names and cannot be mixed."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a listing says of an object; nothing has been read of it yet."""

    key: str
    """Relative to the store's URI, with ``/`` between folders and none at the start."""

    size: int
    """Bytes."""

    etag: str
    """The store's own name for this version of the content, without quotes."""

    version_id: str | None = None
    """The S3 version of the object; None where the store keeps no versions."""


@dataclass(frozen=True, slots=True)
class NodeChoice:
    """Which of the nodes that a recipe selects become outputs of one source."""

    among: frozenset[str] | None = None
    """Only these, or a sample of these; None for all of them."""

    without: frozenset[str] = frozenset()
    """Not these, which are there already."""

    def of(self, names: Iterable[str]) -> frozenset[str]:
        """Return those of ``names`` that become outputs."""
        chosen = frozenset(names)
        return (chosen if self.among is None else chosen & self.among) - self.without


@dataclass(frozen=True, slots=True)
class SourceLabels:
    """What is known of a source beside its pixels: what a table says, and which mask it has."""

    label: str | None = None
    """Its class; None if it has none."""

    attributes: str | None = None
    """What a table says and no other field has, as a JSON object."""

    objects: str | None = None
    """Its boxes as :func:`kaleidoscope.targets.check_objects` has them; None if not known."""

    mask_key: str | None = None
    """Where its mask is, relative to the source prefix."""

    mask_etag: str | None = None
    """The version of the mask that was listed."""


@dataclass(frozen=True, slots=True)
class StoredTargets:
    """What belongs to a source beside its pixels, read from its data set."""

    label: str | None = None

    objects: str | None = None
    """Its boxes as :func:`kaleidoscope.targets.check_objects` has them."""

    mask: bytes | None = None
    """An image file."""


NOTHING_KNOWN = StoredTargets()


@dataclass(frozen=True, slots=True)
class PlannedSource:
    """A source of a shard, with what a run is to make of it."""

    info: ObjectInfo

    nodes: frozenset[str] | None = None
    """The outputs that the data set is to have of it, or of which it is to have a sample if the
    recipe says so; None for all that the recipe selects."""

    made: frozenset[str] = frozenset()
    """Those that earlier runs have made."""

    made_sha256: str | None = None
    """Of the content that they were made of; None if it was this very version of the object."""

    labels: SourceLabels | None = None
    """What is known of it; None makes its folder its label."""

    def num_missing(self, num_all: int) -> int:
        """Return how many outputs there are to make, at most; the content may be known already.

        Args:
            num_all: How many the recipe makes of a source, a sample counted as such.
        """
        num_wanted = num_all if self.nodes is None else min(num_all, len(self.nodes))
        return num_wanted - len(self.made) if self.made_sha256 is None else num_wanted

    def choice(self, read: ObjectInfo, sha256: str) -> NodeChoice:
        """Return what is to be made now that the content is known.

        Args:
            read: What was read, which may be a newer version than was planned.
            sha256: Of its bytes, as hex.
        """
        if self.made_sha256 is None:
            is_same = read.etag == self.info.etag
        else:
            is_same = self.made_sha256 == sha256
        return NodeChoice(self.nodes, self.made if is_same else frozenset())
