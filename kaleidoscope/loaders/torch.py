"""Images for PyTorch: a data set by number, over objects and over members of tars.

Needs ``kaleidoscope[torch]``. For tars read from end to end see
:mod:`kaleidoscope.loaders.webdataset`.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset

from kaleidoscope.loaders.rows import (
    ImageRows,
    class_indices,
    class_names,
    select_rows,
    to_rgb,
)
from kaleidoscope.model import BgrImage

if TYPE_CHECKING:
    import pandas as pd

READ_AT_ONCE = 16
"""Images of a batch that each worker reads at once."""


class ImageDataset(Dataset[tuple[Any, int]]):
    """The images of rows with their class, read when they are asked for.

    An image that is a member of a tar is read by a range request. Workers of a ``DataLoader`` may
    be forked or spawned; each opens the store for itself, and reads the images of a batch at once.

    Attributes:
        rows: The rows, in the order of the numbers.
        classes: The labels in the order of their class indices.
        labels: The class index of each row, ``(len(rows),)`` int64.
    """

    def __init__(
        self,
        uri: str | Path,
        rows: "pd.DataFrame",
        *,
        split: str | None = None,
        transform: Callable[[torch.Tensor], Any] | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        """Take what to read; nothing is read yet.

        Args:
            uri: The folder or ``s3://bucket/prefix`` that a run wrote to.
            rows: Rows of its manifest.
            split: Take only those whose column ``split`` has this.
            transform: Called with each image, ``(3, H, W)`` uint8, RGB, as the transforms of
                torchvision take it; what it returns takes the image's place.
            classes: The labels in the order of their class indices. None sorts those of all rows,
                of whatever split, so that all splits of the same rows number them alike.

        Raises:
            LoaderError: If there is no image of this split, or a row's label is missing or not
                among the classes.
        """
        self.rows = select_rows(rows, split)
        self.classes = class_names(rows) if classes is None else tuple(classes)
        self.labels = class_indices(self.rows, self.classes)
        self._images = ImageRows(str(uri), self.rows)
        self._transform = transform

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        """Return an image, ``(3, H, W)`` uint8, RGB, or what the transform made of it; its class.

        Raises:
            StoreError: If it cannot be read.
            CodecError: If it cannot be decoded.
        """
        return self._sample(index, self._images.decode(index))

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Any, int]]:
        """Return a batch; the ``DataLoader`` asks for one in this way."""
        if len(indices) == 1:
            return [self[indices[0]]]
        with ThreadPoolExecutor(READ_AT_ONCE) as pool:
            images = pool.map(self._images.decode, indices)
            # The transform stays in this thread: what it draws must not depend on the network.
            return [
                self._sample(index, image) for index, image in zip(indices, images, strict=True)
            ]

    def _sample(self, index: int, image: BgrImage) -> tuple[Any, int]:
        tensor = to_tensor(image)
        value = tensor if self._transform is None else self._transform(tensor)
        return value, int(self.labels[index])


def to_tensor(image: BgrImage) -> torch.Tensor:
    """Return ``(3, H, W)`` uint8, RGB, contiguous, as torchvision has images."""
    return torch.from_numpy(np.ascontiguousarray(to_rgb(image).transpose(2, 0, 1)))
