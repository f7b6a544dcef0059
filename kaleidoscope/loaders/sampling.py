"""Which images to show how often, so that a large class or source does not drown the others."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kaleidoscope.errors import LoaderError
from kaleidoscope.seeding import named_rng

if TYPE_CHECKING:
    import pandas as pd


def balanced_weights(
    rows: "pd.DataFrame", by: str | Sequence[str] = "label"
) -> npt.NDArray[np.float64]:
    """Return how likely each row is to be drawn, so that all groups are equally likely.

    Args:
        rows: Those that the numbers drawn stand for, as ``dataset.rows``.
        by: A column, ``"label"`` or ``"source_id"``; or several, from the outermost group to the
            innermost: ``["label", "source_id"]`` makes classes equally likely, and in each class
            its sources. Rows without a value are a group of their own.

    Returns:
        ``(len(rows),)``, positive, with the sum 1. Goes to torch's ``WeightedRandomSampler``.

    Raises:
        LoaderError: If there is no row or no such column.
    """
    columns = [by] if isinstance(by, str) else list(by)
    if missing := [name for name in columns if name not in rows.columns]:
        raise LoaderError(f"the rows have no column {missing[0]!r}, only {list(rows.columns)}")
    if not len(rows) or not columns:
        raise LoaderError(f"{len(rows)} rows cannot be balanced by {columns}")
    weights = np.ones(len(rows))
    group: npt.NDArray[np.integer] = np.zeros(len(rows), np.int64)
    for depth in range(1, len(columns) + 1):
        inner = rows.groupby(columns[:depth], sort=False, dropna=False).ngroup().to_numpy()
        # Each group is one of so many within the group around it.
        pairs = np.unique(np.stack([group, inner]), axis=1)
        num_inner = np.bincount(pairs[0])
        weights /= num_inner[group]
        group = inner
    weights /= np.bincount(group)[group]
    normalized: npt.NDArray[np.float64] = weights / weights.sum()
    return normalized


class BalancedSampler:
    """Draws numbers of rows, with replacement, so that all groups are equally likely.

    It is a ``sampler=`` of a PyTorch ``DataLoader``, and needs no PyTorch. Each iteration is an
    epoch and draws others than the one before. The same seed and epoch draw the same numbers on
    every machine.
    """

    def __init__(
        self,
        rows: "pd.DataFrame",
        by: str | Sequence[str] = "label",
        *,
        seed: int,
        num_samples: int | None = None,
    ) -> None:
        """Take the rows that the numbers stand for.

        Args:
            rows: As ``dataset.rows``.
            by: What :func:`balanced_weights` takes.
            seed: At least 0.
            num_samples: Numbers in an epoch, at least 1; None takes as many as there are rows.

        Raises:
            LoaderError: If there is no row or no such column.
        """
        self._bounds = balanced_weights(rows, by).cumsum()
        self._seed = seed
        self._num_samples = len(rows) if num_samples is None else num_samples
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration be this epoch, from 0: a training that is taken up goes on so."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._num_samples

    def __iter__(self) -> Iterator[int]:
        """Yield one epoch's numbers."""
        epoch = self._epoch
        # A DataLoader does not count epochs for a sampler, and breaks off where a training does.
        self._epoch += 1
        draws = named_rng(self._seed, "sampler", epoch).random(self._num_samples)
        numbers = np.searchsorted(self._bounds, draws, side="right")
        # The sum may be below 1 by a rounding error.
        yield from np.minimum(numbers, len(self._bounds) - 1).tolist()
