"""Tars read from end to end, for PyTorch: the way that a network and a disk like best.

Needs ``kaleidoscope[webdataset]``. For single images out of tars see
:class:`kaleidoscope.loaders.torch.ImageDataset`.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
import webdataset as wds

from kaleidoscope.errors import LoaderError, TarError
from kaleidoscope.loaders.rows import (
    class_indices,
    class_names,
    open_destination,
    require,
    select_rows,
)
from kaleidoscope.loaders.torch import to_tensor
from kaleidoscope.outputs import decode_output
from kaleidoscope.stores import Store
from kaleidoscope.tars import read_members

if TYPE_CHECKING:
    import pandas as pd

READ_SIZE = 8 * 1024 * 1024
"""Bytes of a tar that are asked for at once; training reads all of them."""


def tar_images(  # noqa: PLR0913 -- where, what, and how; all but two have defaults.
    uri: str | Path,
    rows: "pd.DataFrame",
    *,
    split: str | None = None,
    transform: Callable[[torch.Tensor], Any] | None = None,
    classes: Sequence[str] | None = None,
    shuffle: int = 0,
    seed: int = 0,
) -> Any:
    """Return a :class:`webdataset.DataPipeline` over images with their class.

    It is an ``IterableDataset``, and takes more stages by ``.compose``. Each tar goes to one worker
    of one node; members that are not among the rows are passed over, so a split that is no split of
    tars reads all of them.

    Args:
        uri: The folder or ``s3://bucket/prefix`` that a run wrote to.
        rows: Rows of its manifest, with the columns ``tar_key``, ``offset`` and ``length``.
        split: Take only those whose column ``split`` has this.
        transform: Called with each image, ``(3, H, W)`` uint8, RGB; what it returns
            takes its place.
        classes: The labels in the order of their class indices; None sorts those of all rows.
        shuffle: How many images to hold and draw from; 0 keeps the order of tars and members.
        seed: Of the order of tars and of the draws; take another for each epoch.

    Returns:
        A pipeline of ``(image, class index)``.

    Raises:
        LoaderError: If there is no image of this split, an image is in no tar, a column is missing,
            or a label is missing or not among the classes.
    """
    selected = select_rows(rows, split)
    require(selected, ["tar_key", "offset", "length"])
    if selected["tar_key"].isna().any():
        raise LoaderError(
            "some images are objects of their own and not members of tars; read them with "
            "kaleidoscope.loaders.torch.ImageDataset, or make them with output.container webdataset"
        )
    labels = class_indices(selected, class_names(rows) if classes is None else classes)
    tars = sorted(selected["tar_key"].unique())
    draws = random.Random(seed)  # noqa: S311 -- an order, no secret.
    if shuffle:
        draws.shuffle(tars)
    stages = [
        wds.SimpleShardList(tars),
        wds.split_by_node,
        wds.split_by_worker,
        _TarReader(str(uri), selected, labels, transform),
    ]
    if shuffle:
        stages.append(wds.shuffle(shuffle, rng=draws))
    return wds.DataPipeline(*stages)


class _TarReader:
    """The stage that turns the names of tars into images."""

    def __init__(
        self,
        uri: str,
        rows: "pd.DataFrame",
        labels: npt.NDArray[np.int64],
        transform: Callable[[torch.Tensor], Any] | None,
    ) -> None:
        self._uri = uri
        self._transform = transform
        # By where the data of a member begins, since a sample has other members beside its image.
        self._labels = {
            tar_key: dict(zip(own["offset"].astype(int), labels[own.index], strict=True))
            for tar_key, own in rows.groupby("tar_key")
        }
        ends = rows["offset"] + rows["length"]
        self._stops = ends.groupby(rows["tar_key"]).max().astype(int).to_dict()

    def __call__(self, tars: Iterable[dict[str, str]]) -> Iterator[tuple[Any, int]]:
        store = open_destination(self._uri)  # In the worker that reads.
        for tar in tars:
            yield from self._read(store, tar["url"])

    def _read(self, store: Store, tar_key: str) -> Iterator[tuple[Any, int]]:
        labels, stop = self._labels[tar_key], self._stops[tar_key]
        num_left = len(labels)
        with suppress(TarError):  # What it says is said below, with what the manifest has of it.
            for member in read_members(store, tar_key, start=0, stop=stop, read_size=READ_SIZE):
                label = labels.get(member.offset)
                if label is None:
                    continue
                image = to_tensor(decode_output(member.read()))
                yield image if self._transform is None else self._transform(image), int(label)
                num_left -= 1
        if num_left:
            raise LoaderError(
                f"{store.uri}: {tar_key} has no members where the manifest says of {num_left} "
                "images that they lie; was it replaced?"
            )
