"""Which sources train, validate and test, so that no sibling leaks; and an audit of any split.

Sources are assigned, never images, so the outputs of a source stay together, and so do those of
its copies. A source keeps its split when others are added:

- Without strata a split follows from the seed and the source's key alone. That is exact whatever
  else there is; the shares are those of a draw, ``sqrt(n p (1 - p))`` sources to either side.
- With strata the sources of a stratum are numbered as they arrived (by the first run that made
  outputs of them, within it in an order drawn by the seed), and the number decides. Sources of
  later runs come behind, so nothing moves. In each stratum a split has its share to within 6
  sources, small strata included: see :data:`GOLDEN`. This is exact as long as the earlier runs
  are there; a split that is saved does not need them.
"""

import hashlib
import math
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kaleidoscope.errors import SplitError

if TYPE_CHECKING:
    import pandas as pd

SPLITS = ("train", "val", "test")

GOLDEN = (math.sqrt(5) - 1) / 2
"""Of the sequence ``frac(offset + k GOLDEN)``, every stretch fills [0, 1) evenly.

Kronecker's sequence with the number that makes it most even (Knuth, The Art of Computer
Programming 3, 6.4, theorem S): how many of the first n numbers fall in an interval differs from
its length times n by O(log n), tried with usual shares by at most 6 up to a million.
"""

_OUTPUT_NAME = re.compile(r"(?P<source>.*-[0-9a-f]{8})-(?:root|(?:[a-z][0-9]?)+)\.[A-Za-z0-9.]+")
"""The name of an output, as :func:`kaleidoscope.identity.output_key` makes it."""

_FROM_ELSEWHERE = re.compile(r"/|\.\.(?:/|$)|[A-Za-z][A-Za-z0-9+.-]*:/")
"""What begins an absolute path, a URI, or a path out of the folder."""

_MOST_SHOWN = 5


class SplitLeakError(SplitError):
    """Outputs of one source, or their like, are in more than one split.

    Attributes:
        rows: The offending ones.
    """

    def __init__(self, message: str, rows: "pd.DataFrame") -> None:
        super().__init__(message)
        self.rows = rows


@dataclass(frozen=True, slots=True)
class Shares:
    """How much of the sources each split gets; dimensionless, in [0, 1], together 1.

    Raises:
        SplitError: If they are not.
    """

    train: float = 0.8
    val: float = 0.1
    test: float = 0.1

    def __post_init__(self) -> None:
        shares = astuple(self)
        if not all(0 <= share <= 1 for share in shares) or not math.isclose(sum(shares), 1):
            raise SplitError(
                f"train, val and test must be in [0, 1] and add up to 1; got "
                f"{self.train}, {self.val} and {self.test}, which add up to {sum(shares):g}"
            )


def assign_splits(
    sources: "pd.DataFrame", shares: Shares, *, seed: int, by_stratum: bool = True
) -> "pd.Series[str]":
    """Return the split of each source.

    Args:
        sources: One row each: ``source_id``; ``run``, which sorts by when it arrived; ``stratum``,
            which may be missing; and ``group``, the ``source_id`` of the first of those that must
            stay together, itself if it stands alone.
        shares: How much each split gets.
        seed: Other seeds give other splits.
        by_stratum: Give each stratum the same shares.
    """
    import pandas as pd  # noqa: PLC0415 -- half a second, for who splits only.

    units = sources.loc[sources["group"] == sources["source_id"]]
    drawn = pd.Series(_draws(seed, "source", units["source_id"]), index=units.index)
    points = drawn
    if by_stratum:
        units = units.assign(drawn=drawn, stratum=units["stratum"].fillna("").astype(str))
        units = units.sort_values(["run", "drawn", "source_id"])
        numbers = units.groupby("stratum", sort=False).cumcount().to_numpy()
        strata = units["stratum"].unique()
        offsets = dict(zip(strata, _draws(seed, "stratum", strata), strict=True))
        offset = units["stratum"].map(offsets).to_numpy(dtype=np.float64)
        points = pd.Series((offset + numbers * GOLDEN) % 1.0, index=units.index)
    bounds = np.cumsum([shares.train, shares.val])
    chosen = np.asarray(SPLITS)[np.searchsorted(bounds, points.to_numpy(), side="right")]
    # Rounding of the sum must not fill a split that was to stay empty.
    if shares.test == 0:
        last = "val" if shares.val else "train"
        chosen = np.where(chosen == "test", last, chosen)
    by_unit = dict(zip(units["source_id"], chosen.tolist(), strict=True))
    return sources["group"].map(by_unit).rename("split")


def group_alike(sources: "pd.DataFrame", pairs: Iterable[tuple[int, int]]) -> "pd.Series[str]":
    """Return for each source the first of those that it must share a split with.

    Those that are joined by pairs stay together. A source never leaves the group that it had when
    it arrived: one that comes later goes to the oldest group that it is joined to, even if it
    joins two.

    Args:
        sources: With ``source_id`` and ``run``, as for :func:`assign_splits`.
        pairs: Positions of sources that are alike.
    """
    import pandas as pd  # noqa: PLC0415 -- half a second, for who splits only.

    ids, runs = sources["source_id"].tolist(), sources["run"].tolist()
    order = sorted(range(len(ids)), key=lambda position: (runs[position], ids[position]))
    joining: dict[Any, list[tuple[int, int]]] = defaultdict(list)
    for pair in pairs:
        joining[max(runs[position] for position in pair)].append(pair)
    above = list(range(len(ids)))
    groups: list[str | None] = [None] * len(ids)
    for run in sorted(set(runs)):
        for one, other in joining[run]:
            above[_top(above, one)] = _top(above, other)
        group_of: dict[int, str] = {}
        for position in order:
            if runs[position] <= run:
                top = _top(above, position)
                group_of.setdefault(top, groups[position] or ids[position])
                groups[position] = groups[position] or group_of[top]
    return pd.Series(groups, index=sources.index, name="group", dtype="str")


def _top(above: list[int], position: int) -> int:
    """Follow a forest to the root, halving the way (Tarjan and van Leeuwen, 1984)."""
    while above[position] != position:
        above[position] = above[above[position]]
        position = above[position]
    return position


def _draws(seed: int, kind: str, names: Iterable[str]) -> npt.NDArray[np.float64]:
    """Return a number in [0, 1) for each name, which depends on nothing but name and seed."""
    digests = (hashlib.sha256(f"{kind}:{seed}:{name}".encode()).digest() for name in names)
    return np.array([int.from_bytes(digest[:6]) / 2**48 for digest in digests], dtype=np.float64)


def audit_split(
    rows: "pd.DataFrame",
    *,
    column: str = "split",
    originals_only: Sequence[str] = (),
) -> None:
    """Refuse a split that tears outputs of one source apart.

    Args:
        rows: Rows of a manifest, or of any table with their ``source_id``, or with ``output_key``,
            ``file_name`` or ``path``, from whose names the sources can be told. With
            ``source_sha256``, copies of one source are found too.
        column: The one that names the split. Rows without a split are left aside.
        originals_only: Splits that may hold no augmented image; needs the column ``node``.

    Raises:
        SplitLeakError: With the offending rows, if it leaks.
        SplitError: If there is no such column, no row has a split, or a row's source cannot be
            told.
    """
    needed = {column, *(["node"] if originals_only else [])}
    if missing := sorted(needed - set(rows.columns)):
        raise SplitError(f"there is no column {missing[0]!r} to audit; there are {[*rows.columns]}")
    used = rows[rows[column].notna()]
    if used.empty:
        raise SplitError(
            f"no row has a split in {column!r}, so there is nothing to audit; there are "
            f"{len(rows):,} rows"
        )
    for names, what in _families(used):
        is_torn = used[column].groupby(names).transform("nunique") > 1
        if is_torn.any():
            torn = used[is_torn]
            raise SplitLeakError(_describe_leak(torn[column], names[is_torn], what), torn)
    if originals_only:
        augmented = used[used[column].isin(list(originals_only)) & (used["node"] != "root")]
        if len(augmented):
            raise SplitLeakError(
                f"{len(augmented):,} augmented images are in {', '.join(originals_only)}, which "
                "are to hold originals only",
                augmented,
            )


def audit_names(names: Iterable[str]) -> None:
    """Refuse a folder layout, ``train/…``, ``val/…``, that tears outputs of one source apart.

    Args:
        names: Keys or relative paths of outputs; the first folder names the split. Names that
            begin with ``_kaleidoscope/`` are left aside.

    Raises:
        SplitLeakError: With the offending names, if it leaks.
        SplitError: If there is no name, or one has no folder, is an absolute path or is not that
            of an output.
    """
    import pandas as pd  # noqa: PLC0415 -- half a second, for who audits only.

    normalized = ((name, _normalize(name)) for name in names)
    paths = [pair for pair in normalized if not pair[1].startswith("_kaleidoscope/")]
    if bare := [name for name, path in paths if "/" not in path]:
        raise SplitError(f"a split is the first folder of a name; there is none in {bare[0]!r}")
    rows = [(name, path.partition("/")[0]) for name, path in paths]
    audit_split(pd.DataFrame(rows, columns=["path", "split"], dtype="str"))


def _normalize(name: str) -> str:
    """Return a name with the slashes of keys, and with a split as its first folder.

    Raises:
        SplitError: If it does not begin at the folder of the splits.
    """
    path = posixpath.normpath(name.replace("\\", "/"))
    if _FROM_ELSEWHERE.match(path):
        raise SplitError(
            f"names must be relative to the folder of the splits, such as train/cats/…; got "
            f"{name!r}, of which no folder is known to be the split"
        )
    return path


def _sources_of(rows: "pd.DataFrame") -> "pd.Series[str]":
    if "source_id" in rows:
        if rows["source_id"].isna().any():
            raise SplitError(f"{rows['source_id'].isna().sum():,} rows have no source_id")
        return rows["source_id"]
    column = next((name for name in ("output_key", "file_name", "path") if name in rows), None)
    if column is None:
        raise SplitError(
            "an audit needs source_id, output_key, file_name or path to tell sources by; "
            f"there are {[*rows.columns]}"
        )
    # Paths of Windows have backslashes; no key has one.
    names = rows[column].astype("str").str.replace("\\", "/", regex=False).str.rpartition("/")[2]
    sources = names.str.extract(f"^{_OUTPUT_NAME.pattern}$")["source"]
    if sources.isna().any():
        unknown = rows.loc[sources.isna(), column]
        raise SplitError(
            f"{len(unknown):,} names are not those of outputs, so their sources cannot be told, "
            f"for example {unknown.iloc[0]!r}; an output's name ends like -1f3a9c2b-ac.jpg"
        )
    return sources


def _families(rows: "pd.DataFrame") -> Iterator[tuple["pd.Series[str]", str]]:
    """Yield what must stay together, as the name of each row's family, and what to call one."""
    yield _sources_of(rows), "sources"
    if "source_sha256" in rows:
        yield rows["source_sha256"], "contents, each of several sources,"


def _describe_leak(splits: "pd.Series[Any]", names: "pd.Series[str]", what: str) -> str:
    groups = list(splits.groupby(names))
    shown = "; ".join(
        f"{name} in {', '.join(sorted({str(split) for split in group}))}"
        for name, group in groups[:_MOST_SHOWN]
    )
    return (
        f"the split leaks: outputs of {len(groups):,} {what} are in more than one split "
        f"({len(splits):,} rows): {shown}{'; …' if len(groups) > _MOST_SHOWN else ''}. Split by "
        "source, as Lineage.split does"
    )
