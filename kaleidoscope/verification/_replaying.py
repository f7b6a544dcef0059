"""Single outputs made again from their sources, and compared with what is stored."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from kaleidoscope.errors import KaleidoscopeError, ManifestError
from kaleidoscope.lineage import Lineage
from kaleidoscope.stores import Store
from kaleidoscope.verification._files import TO_REPLAY, File, files_of, read_file


@dataclass(frozen=True, slots=True)
class ReplayedOutput:
    """What came of making one output again, or its mask."""

    output_key: str
    """Of the mask, its own key."""
    outcome: Literal["identical", "equivalent", "different", "corrupt", "not_replayable"]
    """Corrupt: the stored bytes are not those that were recorded, whatever a replay gives."""
    detail: str

    @property
    def is_right(self) -> bool:
        """Whether the stored output is what its source and parameters give."""
        return self.outcome in {"identical", "equivalent"}


def replay_outputs(
    lineage: Lineage, output_keys: Iterable[str], *, open_source: Callable[[str], Store]
) -> tuple[ReplayedOutput, ...]:
    """Make outputs again, and their masks, and compare them with what is stored.

    Args:
        lineage: Of the destination that holds them.
        output_keys: Their keys in it, or in their tars.
        open_source: Opens the store of the sources, by the URI that the runs recorded.

    Raises:
        ManifestError: If the manifest has no such output.
        StoreError: If the destination cannot be read.
    """
    keys = list(output_keys)
    rows = {
        row["output_key"]: row
        for batch in lineage.scan(TO_REPLAY, [("output_key", "in", keys)])
        for row in batch.to_pylist()
    }
    if unknown := [key for key in keys if key not in rows]:
        raise ManifestError(
            f"no row of the manifest in {lineage.store.uri} has the output {unknown[0]}; an output "
            "key is relative to the destination, as in the manifest's column output_key"
        )
    files = [file for key in keys for file in files_of(rows[key])]
    return tuple(_replay_one(lineage.store, file, open_source) for file in files)


def _replay_one(
    destination: Store, file: File, open_source: Callable[[str], Store]
) -> ReplayedOutput:
    checked, data = read_file(destination, file)
    if data is None:
        problem = checked.problem
        detail = "no object is there" if problem is None else problem.detail
        return ReplayedOutput(file.key, "corrupt", detail)
    try:
        source = open_source(file.row["source_root"]).get(file.source_key).data
        replayed = file.compare(source, data)
    except KaleidoscopeError as error:
        return ReplayedOutput(file.key, "not_replayable", str(error))
    return ReplayedOutput(file.key, replayed.outcome, str(replayed))
