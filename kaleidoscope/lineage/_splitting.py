"""Splits of a destination's outputs: made from its sources, saved beside it, read again."""

import io
import json
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from kaleidoscope.errors import CodecError, ObjectMissingError, SplitError
from kaleidoscope.fingerprints import fingerprint, near_pairs
from kaleidoscope.identity import RESERVED_FOLDER
from kaleidoscope.manifest import DAMAGE, SCHEMA
from kaleidoscope.outputs import ANY_SIZE
from kaleidoscope.splits import SPLITS, Shares, assign_splits, group_alike
from kaleidoscope.stores import Store
from kaleidoscope.tree import ROOT

if TYPE_CHECKING:
    import pandas as pd

By: TypeAlias = Literal["source", "near_duplicate"]
"""What stays together: sources of the same bytes, or all that look the same."""

OpenSource: TypeAlias = Callable[[str], Store]
"""Opens the store of the sources, given the ``source_root`` of their rows."""

_logger = logging.getLogger(__name__)

_READERS = 16

_FOLDER = f"{RESERVED_FOLDER}/splits/"
_OPTIONS = b"kaleidoscope.split"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SCHEMA = pa.schema(
    [
        pa.field("source_id", pa.string(), nullable=False),
        pa.field("source_key", pa.string(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("split", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class SplitOptions:
    """How sources are split; a saved split is only ever extended with the same ones."""

    shares: Shares
    seed: int
    by: By
    stratify: str | None
    originals_only: tuple[str, ...]
    """Splits that get the original of each source only."""

    def __post_init__(self) -> None:
        if self.by not in get_args(By):
            raise SplitError(f"by is one of {', '.join(get_args(By))}; got {self.by!r}")
        if unknown := [name for name in self.originals_only if name not in SPLITS]:
            raise SplitError(f"originals_only names splits {unknown}; there are {[*SPLITS]}")


@dataclass(frozen=True, slots=True)
class SavedSplit:
    """The split of each source, and how it was chosen."""

    options: SplitOptions
    sources: "pd.DataFrame"
    """One row each: ``source_id``, ``source_key``, ``label``, ``split``; with ``run`` and ``group``
    if it was made, and not read."""
    pairs: tuple[tuple[int, int], ...] = ()
    """Positions of sources that are alike; none if it was read."""

    def to_parquet(self) -> bytes:
        """Return the file that :meth:`from_parquet` reads."""
        table = pa.Table.from_pandas(
            self.sources[_SCHEMA.names], schema=_SCHEMA, preserve_index=False
        )
        options = json.dumps(asdict(self.options)).encode()
        buffer = io.BytesIO()
        pq.write_table(
            table.replace_schema_metadata({_OPTIONS: options}),
            buffer,
            compression="zstd",
            write_page_checksum=True,
        )
        return buffer.getvalue()

    @classmethod
    def from_parquet(cls, data: bytes, *, origin: str) -> Self:
        """Read what :meth:`to_parquet` wrote.

        Raises:
            SplitError: If it is damaged.
        """
        try:
            table = pq.read_table(pa.BufferReader(data), page_checksum_verification=True)
            document = json.loads((table.schema.metadata or {})[_OPTIONS])
            document["shares"] = Shares(**document["shares"])
            document["originals_only"] = tuple(document["originals_only"])
            return cls(SplitOptions(**document), table.select(_SCHEMA.names).to_pandas())
        except (*DAMAGE, KeyError, TypeError, ValueError) as error:
            raise SplitError(
                f"{origin} is no saved split ({len(data)} bytes): {error!r}; was it damaged?"
            ) from error


def split_key(name: str) -> str:
    """Return where a split is saved.

    Raises:
        SplitError: If the name cannot be that of a file.
    """
    if not _NAME.fullmatch(name):
        raise SplitError(
            f"a split's name is up to 100 letters, digits, '.', '_' and '-'; got {name!r}"
        )
    return f"{_FOLDER}{name}.parquet"


def saved_names(store: Store) -> tuple[str, ...]:
    """Return the names of the splits that are saved, sorted."""
    keys = (info.key.removeprefix(_FOLDER) for info in store.list_objects(_FOLDER))
    return tuple(key.removesuffix(".parquet") for key in keys if key.endswith(".parquet"))


def load_split(store: Store, name: str) -> SavedSplit:
    """Return a saved split.

    Raises:
        SplitError: If there is none of that name, or it is damaged.
    """
    key = split_key(name)
    try:
        data = store.get(key).data
    except ObjectMissingError as error:
        raise SplitError(
            f"{store.uri} has no split {name!r}; it has {[*saved_names(store)]}"
        ) from error
    return SavedSplit.from_parquet(data, origin=f"{store.uri}: {key}")


def extend_split(store: Store, name: str, made: SavedSplit) -> SavedSplit:
    """Save a split; sources that a saved one of this name has keep what they have there.

    A new one that is like such a source gets the same, or of several that of the oldest. It need
    not be what was drawn for it, since what the saved one goes by may be gone.

    Raises:
        SplitError: If the saved one was made with other options.
    """
    key = split_key(name)
    try:
        saved = SavedSplit.from_parquet(store.get(key).data, origin=f"{store.uri}: {key}")
    except ObjectMissingError:
        store.put(key, made.to_parquet())
        return made
    if saved.options != made.options:
        raise SplitError(
            f"{store.uri} has a split {name!r} with {saved.options}, and this is "
            f"{made.options}; choose another name"
        )
    before = saved.sources
    new = made.sources[~made.sources["source_id"].isin(before["source_id"])]
    split_of = dict(zip(before["source_id"], before["split"], strict=True))
    extended = saved
    if not new.empty:
        import pandas as pd  # noqa: PLC0415 -- half a second, for who splits only.

        kept = made.sources.assign(split=made.sources["source_id"].map(split_of))
        kept = kept.dropna(subset=["split"]).sort_values(["run", "source_id"])
        by_group = kept.drop_duplicates("group").set_index("group")["split"]
        new = new.assign(split=new["group"].map(by_group).fillna(new["split"]))
        split_of.update(zip(new["source_id"], new["split"], strict=True))
        extended = SavedSplit(made.options, pd.concat([before, new], ignore_index=True))
        store.put(key, extended.to_parquet())
    drawn = made.sources["split"].tolist()
    untold = [pair for pair in made.pairs if drawn[pair[0]] == drawn[pair[1]]]
    _warn_of_torn(made.sources.assign(split=made.sources["source_id"].map(split_of)), untold)
    return extended


def first_of_each(batches: Iterator[Any], columns: Sequence[str]) -> Any:
    """Return a :class:`pyarrow.Table` with a row of each source; the rest of a batch is let go."""
    firsts = []
    for batch in batches:
        source_ids = batch.column("source_id")
        firsts.append(batch.take(pc.index_in(source_ids.unique(), source_ids)))
    return pa.Table.from_batches(firsts, pa.schema([SCHEMA.field(name) for name in columns]))


def make_split(
    arrivals: Iterator[tuple[str, Any]], options: SplitOptions, *, open_source: OpenSource
) -> SavedSplit:
    """Assign every source.

    Args:
        arrivals: Runs, the oldest first, and a table of sources that each made outputs of, with
            ``source_id``, ``source_key``, ``source_sha256``, ``label``, what ``options``
            stratifies by and, to find near duplicates, ``source_root``.
        options: How.
        open_source: Called only to find near duplicates.
    """
    sources, newest = _arrivals(arrivals)
    pairs = _same(sources["source_sha256"].tolist()) + _same(newest.tolist())
    if options.by == "near_duplicate":
        pairs += _alike(sources, open_source)
    sources["group"] = group_alike(sources, pairs) if pairs else sources["source_id"]
    stratum = options.stratify
    sources["stratum"] = sources[stratum] if stratum else ""
    sources["split"] = assign_splits(
        sources, options.shares, seed=options.seed, by_stratum=stratum is not None
    )
    _warn_of_torn(sources, pairs)
    return SavedSplit(options, sources, tuple(pairs))


def _warn_of_torn(sources: "pd.DataFrame", pairs: Sequence[tuple[int, int]]) -> None:
    splits = sources["split"].tolist()
    if torn := [pair for pair in pairs if splits[pair[0]] != splits[pair[1]]]:
        keys = [sources["source_key"].iloc[position] for position in torn[0]]
        _logger.warning(
            "%d pairs of sources that are alike are in two splits, %s and %s for one: they had "
            "theirs before a source came that is like both",
            len(torn),
            *keys,
        )


def _same(contents: Sequence[str | int]) -> list[tuple[int, int]]:
    """Return positions of equal contents, the first of them with each of the others."""
    first: dict[str | int, int] = {}
    numbered = enumerate(contents)
    pairs = ((first.setdefault(content, position), position) for position, content in numbered)
    return [(one, other) for one, other in pairs if one != other]


def _alike(sources: "pd.DataFrame", open_source: OpenSource) -> list[tuple[int, int]]:
    """Return positions of sources that look the same, by what lies at their keys now."""
    stores = {root: open_source(root) for root in sources["source_root"].unique()}

    def read(root: str, key: str) -> int | None:
        try:
            return fingerprint(stores[root].get(key).data, max_pixels=ANY_SIZE)
        except (ObjectMissingError, CodecError) as error:
            _logger.warning("%s is taken to be like no other: %s", key, error)
            return None

    with ThreadPoolExecutor(_READERS, "kaleidoscope-read") as threads:
        hashes = list(threads.map(read, sources["source_root"], sources["source_key"]))
    known = [(position, found) for position, found in enumerate(hashes) if found is not None]
    values = [found for _, found in known]
    # Of many that are as good as equal, blank pages or frames of a still film, one is compared.
    distinct, first = np.unique(np.array(values, dtype=np.uint64), return_index=True)
    near = ((int(first[one]), int(first[other])) for one, other in near_pairs(distinct))
    return [(known[one][0], known[other][0]) for one, other in (*_same(values), *near)]


def _arrivals(arrivals: Iterator[tuple[str, Any]]) -> tuple["pd.DataFrame", "pd.Series[str]"]:
    """Return sources as they arrived, and the hashes of what they were last."""
    tables = [
        table.append_column("run", pa.repeat(run_id, table.num_rows)) for run_id, table in arrivals
    ]
    sources: pd.DataFrame = pa.concat_tables(tables).to_pandas()
    newest = sources.drop_duplicates("source_id", keep="last").set_index("source_id")
    first = sources.drop_duplicates("source_id", ignore_index=True)
    return first, first["source_id"].map(newest["source_sha256"])


def with_split(
    batches: Iterator[Any],
    split: SavedSplit,
    columns: Sequence[str],
    *,
    requires_originals: bool = False,
) -> Iterator[Any]:
    """Yield the rows that the split uses, with the column ``split``.

    Args:
        batches: Outputs with at least ``source_id`` and ``node``.
        split: Of all their sources.
        columns: Which to yield, ``split`` among them.
        requires_originals: Whether the outputs are all that stand, so that a split that was to hold
            originals must not be empty for want of them. One of which no source stands may.

    Raises:
        SplitError: If a source has no split, or a split has no originals.
    """
    ids = pa.array(split.sources["source_id"].tolist(), pa.string())
    chosen = pa.array(split.sources["split"].tolist(), pa.string())
    originals = pa.array(split.options.originals_only, pa.string())
    schema = pa.schema([SCHEMA.field(name) for name in columns])
    stands = np.zeros(len(ids), dtype=np.bool_)
    filled: set[str] = set()
    for batch in batches:
        places = pc.index_in(batch.column("source_id"), ids)
        if places.null_count:
            source_id = batch.column("source_id").filter(pc.is_null(places))[0]
            raise SplitError(
                f"source {source_id} came after the split was saved; call split() with its name "
                "and options to extend it"
            )
        splits = chosen.take(places)
        used = pc.or_(pc.equal(batch.column("node"), ROOT), pc.invert(pc.is_in(splits, originals)))
        stands[places.to_numpy()] = True
        filled.update(splits.filter(used).unique().to_pylist())
        arrays = [splits if name == "split" else batch.column(name) for name in columns]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema).filter(used)
    if requires_originals:
        _check_originals(split, stands, filled)


def _check_originals(split: SavedSplit, stands: npt.NDArray[np.bool_], filled: set[str]) -> None:
    """Refuse outputs in which a split that was to hold originals is empty for want of them.

    Raises:
        SplitError: If so.
    """
    for name in split.options.originals_only:
        num_sources = int(np.count_nonzero(stands & (split.sources["split"] == name).to_numpy()))
        if num_sources and name not in filled:
            raise SplitError(
                f"none of the {num_sources:,} sources of {name} has its original among the "
                "outputs; make them with select.keep_original, or pass originals_only=()"
            )
