"""Names that are computed from inputs, so that the same work always gets the same name."""

import hashlib
import posixpath
from functools import lru_cache

RESERVED_FOLDER = "_kaleidoscope"
"""Where a destination keeps its manifests; no output is ever written below it."""

CARD_KEY = "README.md"
"""The data set card of a destination, beside its outputs."""

METADATA_KEY = "metadata.parquet"
"""What Hugging Face's ImageFolder reads of every output, beside them."""

_LONGEST_STEM = 160
"""Bytes. With the hash, the node and the extension a name stays below the 255 of file systems."""


@lru_cache(maxsize=1024)  # Each output of a source asks for it several times.
def source_id(source_key: str) -> str:
    """Return 16 hex digits that stand for a source wherever its data set is copied.

    Args:
        source_key: Relative to the source prefix.
    """
    return hashlib.sha256(source_key.encode()).hexdigest()[:16]


def output_id(source_key: str, node: str) -> str:
    """Return the name of an output within its data set: its source and its node."""
    return f"{source_id(source_key)}-{node}"


def output_key(source_key: str, node: str, extension: str) -> str:
    """Return where an output goes, relative to the destination.

    The folders of the source stay, so a class folder stays a class folder. Eight digits of the
    source's id tell ``rex.jpg`` from ``rex.png``. The stem has no dot, since readers of tars take
    all up to the first dot for the name of a sample.

    Args:
        source_key: Relative to the source prefix.
        node: The node's name.
        extension: With its dot.
    """
    return f"{output_stem(source_key)}-{node}{extension}"


def output_stem(source_key: str) -> str:
    """Return what the keys of all outputs of a source, and of no other, have before the node."""
    folder, name = posixpath.split(source_key)
    stem = posixpath.splitext(name)[0].replace(".", "_")
    stem = stem.encode()[:_LONGEST_STEM].decode(errors="ignore")
    return posixpath.join(folder, f"{stem}-{source_id(source_key)[:8]}")


def mask_key(folder: str, output_key: str) -> str:
    """Return where the mask of an output goes, relative to the destination.

    No output lies in ``folder``, since no source does.

    Args:
        folder: The folder of masks in the source prefix.
        output_key: Of the image; the mask has its path and name.
    """
    return f"{folder}/{posixpath.splitext(output_key)[0]}.png"


def tar_key(run_id: str, shard: int, number: int) -> str:
    """Return where a tar of outputs goes, relative to the destination.

    It follows from the run and not from who runs it when, so a shard that is run again replaces
    its own tars, and a later run none.

    Args:
        run_id: The run.
        shard: Index of the shard.
        number: Of the tar within the shard, from 0.
    """
    return f"{run_id}-{shard:05d}-{number:03d}.tar"


def label_of(source_key: str) -> str | None:
    """Return the class of a source, which is the folder it lies in; None at the top."""
    folder = posixpath.dirname(source_key)
    return posixpath.basename(folder) or None
