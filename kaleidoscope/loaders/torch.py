"""Images for PyTorch: data sets by number, over objects and over members of tars.

Needs ``kaleidoscope[torch]``. For tars read from end to end see
:mod:`kaleidoscope.loaders.webdataset`.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset

from kaleidoscope.errors import LoaderError
from kaleidoscope.loaders.rows import (
    ImageRows,
    category_names,
    class_indices,
    class_names,
    select_rows,
    to_rgb,
)
from kaleidoscope.model import BgrImage, Mask
from kaleidoscope.targets import Box, read_objects

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


class TargetDataset(Dataset[tuple[Any, Any]]):
    """The images of rows with their masks and boxes, for segmentation and detection.

    It reads as :class:`ImageDataset` does. Boxes differ in number, so that a ``DataLoader`` needs
    a ``collate_fn`` for them, such as ``lambda batch: tuple(zip(*batch))``.

    Attributes:
        rows: The rows, in the order of the numbers.
        categories: The categories of boxes in the order of their class indices.
    """

    def __init__(
        self,
        uri: str | Path,
        rows: "pd.DataFrame",
        *,
        split: str | None = None,
        transform: Callable[[torch.Tensor, dict[str, torch.Tensor]], Any] | None = None,
        categories: Sequence[str] | None = None,
    ) -> None:
        """Take what to read; nothing is read yet.

        Args:
            uri: The folder or ``s3://bucket/prefix`` that a run wrote to.
            rows: Rows of its manifest.
            split: Take only those whose column ``split`` has this.
            transform: Called with each image, ``(3, H, W)`` uint8, RGB, and its target; what it
                returns takes the place of both.
            categories: Of boxes, in the order of their class indices. None sorts those of all
                rows, of whatever split.

        Raises:
            LoaderError: If there is no image of this split, or not all of its images have masks,
                or not all have boxes that are known.
        """
        self.rows = select_rows(rows, split)
        self._has_masks = _all_have(self.rows, "mask_key")
        has_boxes = _all_have(self.rows, "objects")
        if not (self._has_masks or has_boxes):
            raise LoaderError(
                "the rows have neither mask_key nor objects; make the images with targets.masks "
                "or targets.boxes in the recipe, or take ImageDataset for images with a class"
            )
        if categories is None:
            categories = category_names(rows) if has_boxes else ()
        self.categories = tuple(categories)
        self._places = {name: place for place, name in enumerate(self.categories)}
        self._images = ImageRows(str(uri), self.rows)
        self._objects = self.rows["objects"].array if has_boxes else None
        self._transform = transform

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """Return an image, ``(3, H, W)`` uint8, RGB, and its target, as torchvision names it.

        Returns:
            The target has ``mask``, ``(H, W)`` or ``(C, H, W)`` int64 with the values of the
            source's mask, if images have masks; and if they have boxes, ``boxes``, ``(N, 4)``
            float32, left, top, right and bottom in pixels, with ``labels``, ``(N,)`` int64.

        Raises:
            StoreError: If it cannot be read.
            CodecError: If it cannot be decoded.
            LoaderError: If a box is of none of the categories.
        """
        mask = self._images.decode_mask(index) if self._has_masks else None
        return self._sample(index, self._images.decode(index), mask)

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Any, Any]]:
        """Return a batch; the ``DataLoader`` asks for one in this way."""
        if len(indices) == 1:
            return [self[indices[0]]]
        with ThreadPoolExecutor(READ_AT_ONCE) as pool:
            images = pool.map(self._images.decode, indices)
            masks: Iterable[Mask | None] = repeat(None, len(indices))
            if self._has_masks:
                masks = pool.map(self._images.decode_mask, indices)
            # In this thread, as in ImageDataset.
            return [self._sample(*one) for one in zip(indices, images, masks, strict=True)]

    def _sample(self, index: int, image: BgrImage, values: Mask | None) -> tuple[Any, Any]:
        target: dict[str, torch.Tensor] = {}
        if values is not None:
            mask = torch.from_numpy(values.astype(np.int64))
            target["mask"] = mask if mask.ndim == 2 else mask.permute(2, 0, 1)  # noqa: PLR2004
        if self._objects is not None:
            boxes = read_objects(self._objects[index], size=(image.shape[1], image.shape[0]))
            target |= self._to_tensors(index, boxes)
        tensor = to_tensor(image)
        return (tensor, target) if self._transform is None else self._transform(tensor, target)

    def _to_tensors(self, index: int, boxes: Sequence[Box]) -> dict[str, torch.Tensor]:
        if unknown := [box.label for box in boxes if box.label not in self._places]:
            raise LoaderError(
                f"{self.rows['output_key'].iloc[index]} has a box of {unknown[0]!r}, which is none "
                f"of the categories {list(self.categories)}"
            )
        edges = [(box.left, box.top, box.right, box.bottom) for box in boxes]
        places = [self._places[str(box.label)] for box in boxes]
        return {
            "boxes": torch.tensor(edges, dtype=torch.float32).reshape(-1, 4),
            "labels": torch.tensor(places, dtype=torch.int64),
        }


def _all_have(rows: "pd.DataFrame", column: str) -> bool:
    """Say whether all rows have a value, or none has one.

    Raises:
        LoaderError: If some have.
    """
    if column not in rows.columns:
        return False
    have = rows[column].notna()
    if have.any() and not have.all():
        row = rows[~have].iloc[0]
        raise LoaderError(
            f"{row['output_key']} has no {column} and others have; leave such rows out by "
            f"rows[rows[{column!r}].notna()]"
        )
    return bool(have.all())


def to_tensor(image: BgrImage) -> torch.Tensor:
    """Return ``(3, H, W)`` uint8, RGB, contiguous, as torchvision has images."""
    return torch.from_numpy(np.ascontiguousarray(to_rgb(image).transpose(2, 0, 1)))
