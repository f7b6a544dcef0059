"""Images for Hugging Face's ``datasets``, streamed from where a run wrote them.

Needs ``kaleidoscope[huggingface]``. A folder, or a bucket that was downloaded to one, needs nothing
of this: ``datasets`` reads the ``metadata.parquet`` that a run leaves beside its images.
"""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import numpy as np

from kaleidoscope.loaders.plain import ahead
from kaleidoscope.loaders.rows import ImageRows, class_indices, class_names, select_rows

if TYPE_CHECKING:
    import pandas as pd

MAX_SHARDS = 64
"""Parts that workers of a ``DataLoader`` can share, and that ``shuffle`` puts in another order."""

KEPT = ("output_id", "source_id", "node")
"""Columns that an example has beside its image and label, where the rows have them."""


def image_dataset(
    uri: str | Path,
    rows: "pd.DataFrame",
    *,
    split: str | None = None,
    classes: Sequence[str] | None = None,
) -> Any:
    """Return a :class:`datasets.IterableDataset` that reads objects, and members of tars by range.

    Args:
        uri: The folder or ``s3://bucket/prefix`` that a run wrote to.
        rows: Rows of its manifest.
        split: Take only those whose column ``split`` has this.
        classes: The labels in the order of their class indices; None sorts those of all rows.

    Returns:
        Examples with ``image`` (PIL, or what ``with_format`` makes of it), ``label`` (a
        ``ClassLabel``), and the columns of :data:`KEPT`.

    Raises:
        LoaderError: If there is no image of this split, or a label is missing or not among the
            classes.
    """
    selected = select_rows(rows, split)
    names = class_names(rows) if classes is None else tuple(classes)
    columns = {"label": class_indices(selected, names)}
    columns |= {name: selected[name].array for name in KEPT if name in selected.columns}
    images = ImageRows(str(uri), selected)
    bounds = np.linspace(0, len(images), min(MAX_SHARDS, len(images)) + 1).astype(int).tolist()

    def examples(spans: list[tuple[int, int]]) -> Iterator[dict[str, Any]]:
        numbers = [number for start, stop in spans for number in range(start, stop)]
        for number, data in zip(numbers, ahead(images.read, numbers), strict=True):
            own = {name: values[number] for name, values in columns.items()}
            yield {"image": {"bytes": data, "path": None}, **own}

    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(names))}
    features |= {name: datasets.Value("string") for name in columns if name != "label"}
    return datasets.IterableDataset.from_generator(
        examples,
        features=datasets.Features(features),
        gen_kwargs={"spans": list(itertools.pairwise(bounds))},
    )
