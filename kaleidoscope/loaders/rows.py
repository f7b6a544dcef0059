"""The rows that a loader reads, and the bytes and pixels that they stand for."""

import json
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kaleidoscope.errors import LoaderError, ObjectMissingError
from kaleidoscope.model import BgrImage, Mask
from kaleidoscope.outputs import decode_output, decode_output_mask, read_output
from kaleidoscope.settings import Settings
from kaleidoscope.stores import Store, open_store

if TYPE_CHECKING:
    import pandas as pd


def select_rows(rows: "pd.DataFrame", split: str | None) -> "pd.DataFrame":
    """Return the rows that are images, numbered anew: of one split, or of all if it is None.

    Raises:
        LoaderError: If a column is missing, there is no such split, or no row is left.
    """
    require(rows, ["output_key", *([] if split is None else ["split"])])
    images = rows[rows["output_key"].notna()]
    if split is not None:
        selected = images[images["split"] == split]
        if selected.empty:
            names = sorted(images["split"].dropna().unique())
            raise LoaderError(
                f"no image is of the split {split!r}; the rows have {names or 'no splits'}"
            )
        images = selected
    if images.empty:
        raise LoaderError("there is no image in the rows; was a query too narrow?")
    return images.reset_index(drop=True)


def class_names(rows: "pd.DataFrame") -> tuple[str, ...]:
    """Return the labels that occur, sorted: a label's place in them is its class index.

    Raises:
        LoaderError: If there is no column ``label``.
    """
    require(rows, ["label"])
    return tuple(sorted(rows["label"].dropna().unique()))


def class_indices(rows: "pd.DataFrame", classes: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return the place of each row's label in ``classes``.

    Raises:
        LoaderError: If a row has no label, or one that is not among the classes.
    """
    require(rows, ["label"])
    places = {name: place for place, name in enumerate(classes)}
    indices = rows["label"].map(places)
    if indices.isna().any():
        row = rows[indices.isna()].iloc[0]
        if not isinstance(row["label"], str):
            raise LoaderError(
                f"{row['output_key']} has no label, and so no class; leave such rows out by "
                "rows[rows['label'].notna()], or read them with iter_images"
            )
        raise LoaderError(
            f"{row['output_key']} is labelled {row['label']!r}, which is none of the classes "
            f"{list(classes)}"
        )
    return np.array(indices, np.int64)  # A copy, since what Arrow holds cannot be written to.


def require(rows: "pd.DataFrame", columns: Sequence[str]) -> None:
    """Refuse rows without these columns.

    Raises:
        LoaderError: If one is missing.
    """
    if missing := [name for name in columns if name not in rows.columns]:
        raise LoaderError(
            f"the rows have no column {missing[0]!r}, only {list(rows.columns)}; read the "
            "manifest with it"
        )


def category_names(rows: "pd.DataFrame") -> tuple[str, ...]:
    """Return the categories of boxes that occur, sorted: the place of one is its class index.

    Raises:
        LoaderError: If there is no column ``objects``.
    """
    require(rows, ["objects"])
    texts = rows["objects"].dropna().unique()
    names = {name for text in texts for name in json.loads(text)["categories"]}
    return tuple(sorted(names - {None}))


def _arrays(rows: "pd.DataFrame", *names: str) -> dict[str, Any] | None:
    """Return those of the columns that there are, None if the first is not."""
    if names[0] not in rows.columns:
        return None
    return {name: rows[name].array for name in names if name in rows.columns}


class ImageRows:
    """Reads the images of rows by their number.

    It can be pickled, and be used in processes that were forked off: each opens the store for
    itself, when it reads its first image. Many threads may read at once.
    """

    def __init__(self, uri: str, rows: "pd.DataFrame") -> None:
        """Take rows of :func:`select_rows` and the place that their run wrote to.

        Raises:
            LoaderError: If images lie in tars, and a column that says where is missing.
        """
        self._uri = uri
        # Columns of Arrow: no Python object for each row, which a worker's copy would double.
        self._keys = rows["output_key"].array
        self._members = _arrays(rows, "tar_key", "offset", "length")
        self._masks = _arrays(rows, "mask_key", "mask_offset", "mask_size")
        if self._members is not None and rows["tar_key"].notna().any():
            require(rows, ["offset", "length"])
        self._opened: tuple[int, Store] | None = None

    def __len__(self) -> int:
        return len(self._keys)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    def read(self, index: int) -> bytes:
        """Return the encoded image: a whole object, or its range of a tar.

        Raises:
            LoaderError: If it is no object, and no column says whether it lies in a tar.
            StoreError: If it cannot be read.
        """
        return self._read(index, self._keys[index], self._members, ("offset", "length"))

    def decode(self, index: int) -> BgrImage:
        """Return the image, ``(H, W, 3)`` uint8, BGR.

        Raises:
            LoaderError: As :meth:`read`.
            StoreError: If it cannot be read.
            CodecError: If it cannot be decoded.
        """
        return decode_output(self.read(index))

    def decode_mask(self, index: int) -> Mask:
        """Return the image's mask, ``(H, W)`` or ``(H, W, C)``, uint8 or uint16.

        Raises:
            LoaderError: If the image has none, or a column that says where it lies is missing.
            StoreError: If it cannot be read.
            CodecError: If it cannot be decoded.
        """
        mask_key = None if self._masks is None else self._masks["mask_key"][index]
        if self._masks is None or not isinstance(mask_key, str):
            raise LoaderError(
                f"{self._keys[index]} has no mask; make the images with targets.masks in the "
                "recipe, and read the manifest with its columns mask_key, mask_offset and mask_size"
            )
        place = ("mask_offset", "mask_size")
        return decode_output_mask(self._read(index, mask_key, self._masks, place))

    def _read(
        self, index: int, key: str, columns: Mapping[str, Any] | None, place: tuple[str, str]
    ) -> bytes:
        """Return an object, or the member of the row's tar that two of the columns place."""
        tar_key = None if self._members is None else self._members["tar_key"][index]
        if columns is None or not isinstance(tar_key, str):
            return self._read_object(key)
        if missing := [name for name in place if name not in columns]:
            raise LoaderError(
                f"{key} lies in a tar, and the rows have no column {missing[0]!r} to say where; "
                "read the manifest with it"
            )
        offset, length = (int(columns[name][index]) for name in place)
        return read_output(self._store(), key, tar_key, offset, length)

    def _read_object(self, key: str) -> bytes:
        try:
            return read_output(self._store(), key)
        except ObjectMissingError as error:
            if self._members is not None:
                raise
            raise LoaderError(
                f"{error}; the rows have no column 'tar_key', so if it lies in a tar, read the "
                "manifest with it, offset and length"
            ) from error

    def _store(self) -> Store:
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = (os.getpid(), open_destination(self._uri))
        return self._opened[1]


def open_destination(uri: str) -> Store:
    """Return the store that runs wrote to, as the environment leads to it."""
    return open_store(uri, settings=Settings.from_environment())


def to_rgb(image: BgrImage) -> npt.NDArray[np.uint8]:
    """Return ``(H, W, 3)`` uint8 in the order red, green, blue, contiguous."""
    return np.ascontiguousarray(image[:, :, ::-1])
