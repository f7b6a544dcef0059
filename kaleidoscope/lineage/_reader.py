"""The reader of committed runs: their rows, the walks between them, and their splits."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from kaleidoscope.lineage._files import ManifestFile, each
from kaleidoscope.lineage._latest import read_batches
from kaleidoscope.lineage._rows import FAILED, MADE, Filter, Rows, check_columns, to_frame
from kaleidoscope.lineage._splitting import (
    By,
    OpenSource,
    SavedSplit,
    SplitOptions,
    extend_split,
    first_of_each,
    load_split,
    make_split,
    saved_names,
    with_split,
)
from kaleidoscope.lineage._walks import Walks
from kaleidoscope.settings import Settings
from kaleidoscope.splits import Shares
from kaleidoscope.stores import Store, open_store

if TYPE_CHECKING:
    import pandas as pd


class Lineage(Walks):
    """The outputs of the committed runs of a destination, and where each came from.

    A row is an output, with the columns of :data:`kaleidoscope.manifest.SCHEMA`; sources that
    failed are apart, in :meth:`failures`. Of an output that several runs made, the row of the last
    stands; of a source that changed, only rows of its newest content.

    Nothing is held but a few numbers for each file, and some for each source that more than one run
    did. Rows are read when they are asked for, by range requests, in parts that a filter can skip:
    rows lie in the order of their source's key, so filters by ``label``, ``source_key`` or
    ``output_key`` read little.
    """

    def __init__(
        self,
        destination: Store,
        *,
        runs: Sequence[str] | None = None,
        open_source: OpenSource = open_store,
    ) -> None:
        """Look which runs are committed, and whether all their files are there.

        Args:
            destination: Where the runs are.
            runs: The names of those to read; None reads all.
            open_source: Opens the store of the sources, by the ``source_root`` of their rows.

        Raises:
            ManifestError: If nothing is committed there, one of ``runs`` is not, or a file of a
                manifest is missing or damaged.
        """
        super().__init__(destination, runs=runs)
        self._open_source = open_source

    @classmethod
    def open(
        cls,
        uri: str | Path,
        *,
        runs: Sequence[str] | None = None,
        settings: Settings | None = None,
    ) -> Self:
        """Open the lineage of a destination.

        Args:
            uri: The folder or ``s3://bucket/prefix`` that runs wrote to.
            runs: The names of the runs to read; None reads all that are committed.
            settings: For S3; None takes them from the environment.

        Raises:
            KaleidoscopeError: If nothing is committed there, a file of a manifest is missing or
                damaged, or the store cannot be read.
        """
        settings = Settings.from_environment() if settings is None else settings
        opened = partial(open_store, settings=settings)
        return cls(opened(str(uri)), runs=runs, open_source=opened)

    def split(  # noqa: PLR0913 -- all have defaults that are right for most.
        self,
        train: float = 0.8,
        val: float = 0.1,
        test: float = 0.1,
        *,
        by: By = "source",
        stratify: str | None = "label",
        seed: int = 0,
        originals_only: Sequence[str] = ("val", "test"),
        save_as: str | None = None,
        columns: Sequence[str] | None = None,
        filter: Filter = None,  # noqa: A002 -- pyarrow's.
    ) -> "pd.DataFrame":
        """Return the outputs with a column ``split`` in which no source is in two splits.

        A source keeps its split when runs add others; :mod:`kaleidoscope.splits` says how.

        Args:
            train: Share of the sources, dimensionless, in [0, 1]; the three add up to 1.
            val: The same, for validation.
            test: The same, for the test.
            by: What stays together: a ``source``, and others of the same bytes, or with
                ``near_duplicate`` all that look the same. For that every source is read again; one
                that is gone is like no other.
            stratify: A column by whose values the shares hold in each; None for none.
            seed: Other seeds give other splits.
            originals_only: Splits that get the original of each source, and nothing made of it.
            save_as: Keep the split beside the data set under this name, for :meth:`load_split`. One
                that is there already is extended by the sources that are new.
            columns: Which to return beside ``split``, in this order; None returns all.
            filter: Which rows to return; sources are split without regard to it.

        Raises:
            SplitError: If the shares do not add up to 1, a split has no originals, or the saved one
                was made with other options.
            ManifestError: If there is no such column, the filter does not fit, or a file is
                damaged.
        """
        options = SplitOptions(Shares(train, val, test), seed, by, stratify, tuple(originals_only))
        check_columns([] if stratify is None else [stratify])
        split = make_split(self._arrivals(options), options, open_source=self._open_source)
        if save_as is not None:
            split = extend_split(self._store, save_as, split)
        return self._with_split(split, columns, filter)

    def load_split(
        self,
        name: str,
        *,
        columns: Sequence[str] | None = None,
        filter: Filter = None,  # noqa: A002 -- pyarrow's.
    ) -> "pd.DataFrame":
        """Return the outputs with the column ``split`` of a split that was saved.

        Args:
            name: What :meth:`split` saved it as.
            columns: Which to return beside ``split``; None returns all.
            filter: Which rows to return.

        Raises:
            SplitError: If there is none of that name, or sources have come since it was saved.
            ManifestError: If there is no such column, the filter does not fit, or a file is
                damaged.
        """
        return self._with_split(load_split(self._store, name), columns, filter)

    def saved_splits(self) -> tuple[str, ...]:
        """Return the names that :meth:`load_split` takes."""
        return saved_names(self.store)

    def _with_split(
        self,
        split: SavedSplit,
        columns: Sequence[str] | None,
        filter: Filter,  # noqa: A002 -- pyarrow's.
    ) -> "pd.DataFrame":
        wanted = [*(name for name in check_columns(columns) if name != "split"), "split"]
        needed = [*wanted[:-1], *(n for n in ("source_id", "node") if n not in wanted)]
        batches = self.scan(needed, filter)
        used = with_split(batches, split, wanted, requires_originals=filter is None)
        return to_frame(used, wanted)

    def _arrivals(self, options: SplitOptions) -> Iterator[tuple[str, Any]]:
        """Yield the sources of every file, of outdated rows too, and the run of which they are."""
        columns = ["source_id", "source_key", "source_sha256", "label"]
        if options.stratify not in (None, *columns):
            columns.append(str(options.stratify))
        if options.by == "near_duplicate" and "source_root" not in columns:
            columns.append("source_root")

        def read(file: ManifestFile) -> tuple[str, Any]:
            batches = read_batches(self._store, [file], columns, MADE)
            return file.run_id, first_of_each(batches, columns)

        return each(read, self._files)


def read_manifest(destination: Store, *, columns: Sequence[str] | None = None) -> "pd.DataFrame":
    """Return one row for each output, and one for each source that failed.

    Only committed runs count. Where a later run made an output again, or did a source that had
    failed before, the later row stands. Of a source that changed, the rows of its newest content
    stand, and none if that failed but the row that says so.

    Args:
        destination: Where the runs are.
        columns: Which of :data:`kaleidoscope.manifest.SCHEMA` to read, in this order; None reads
            all. A few are much faster than all.

    Raises:
        ManifestError: If nothing is committed there, there is no such column, or a file of the
            manifest is missing or damaged.
    """
    wanted = check_columns(columns)
    return to_frame(Rows(destination).read_all(wanted, MADE | FAILED), wanted)
