"""What a notebook or a script calls: plan, run and read, by paths and ``s3://`` URIs.

These functions put the parts together as the command line and the flows do, and read the
environment and the clock for them.
"""

import logging
import os
import socket
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from kaleidoscope import card, lineage, pipeline, pruning, verification
from kaleidoscope.errors import ManifestError, SettingsError, SplitError
from kaleidoscope.identity import RESERVED_FOLDER
from kaleidoscope.lease import WAIT_S, Holder, hold
from kaleidoscope.listing import IMAGE_EXTENSIONS, check_apart
from kaleidoscope.manifest import ShardStats
from kaleidoscope.pipeline import StartOptions
from kaleidoscope.planning import Plan
from kaleidoscope.pruning import Pruning
from kaleidoscope.recipe import Recipe, load_recipe
from kaleidoscope.runs import RUNS_PREFIX, Report, Request, Run, list_runs, load_request
from kaleidoscope.settings import Settings, available_cpus
from kaleidoscope.splits import audit_names, audit_split
from kaleidoscope.status import Status, read_status
from kaleidoscope.stores import Store, open_store
from kaleidoscope.summary import describe_plan, describe_report
from kaleidoscope.verification import ReplayedOutput, Verification, VerifyOptions

if TYPE_CHECKING:
    import pandas as pd

_logger = logging.getLogger(__name__)

_NUM_MEASURED = 2
"""Sources whose images a plan makes and throws away: how large they are, and what they take."""


def plan(
    source: str | Path,
    destination: str | Path | None = None,
    recipe: Recipe | str | Path | Mapping[str, Any] = "classic",
    *,
    seed: int | None = None,
) -> Plan:
    """Return what a run would make and cost; nothing is written.

    The images of the first sources are made and thrown away, to see what they take here.

    Args:
        source: A folder or ``s3://bucket/prefix`` with images.
        destination: Where outputs would go. What is done there is not done again.
        recipe: A recipe, the name of a preset, the path of a YAML or JSON file, or what one says.
        seed: Takes the place of the recipe's.

    Raises:
        KaleidoscopeError: If the recipe is wrong, there is no image, the destination holds another
            recipe's images, or a store cannot be read.
    """
    settings = Settings.from_environment()
    return pipeline.make_plan(
        open_store(str(source), settings=settings),
        None if destination is None else open_store(str(destination), settings=settings),
        load_recipe(recipe, seed=seed),
        options=StartOptions(num_measured=_NUM_MEASURED),
    )


def run(  # noqa: PLR0913 -- all but two have defaults that are right for most.
    source: str | Path,
    destination: str | Path,
    recipe: Recipe | str | Path | Mapping[str, Any] = "classic",
    *,
    seed: int | None = None,
    workers: int | None = None,
    retry_failed: bool = False,
    wait_s: float = WAIT_S,
    on_wait: Callable[[Holder], None] | None = None,
    on_start: Callable[[Run], None] | None = None,
    on_progress: Callable[[ShardStats], None] | None = None,
) -> Report:
    """Make every output that is missing, in this process, and commit the run.

    A run that was interrupted is resumed. What was written stays written, whatever happens.

    Args:
        source: A folder or ``s3://bucket/prefix`` with images.
        destination: A folder or ``s3://bucket/prefix`` for the outputs and their manifest.
        recipe: A recipe, the name of a preset, the path of a YAML or JSON file, or what one says.
            On a destination of earlier runs it may add to theirs: transforms behind the others,
            copies and nodes.
        seed: Takes the place of the recipe's.
        workers: Threads that transform and encode; None takes all CPUs that this process may use.
        retry_failed: Do the sources that failed in earlier runs again.
        wait_s: Seconds to wait for another run that is at work in the destination; 0 refuses at
            once.
        on_wait: Called once, with who it is, when there is another to wait for.
        on_start: Called once with the plan that is about to be done.
        on_progress: Called after each source with what it came to; shards that an interrupted run
            had done come first, whole.

    Returns:
        What the run did. If nothing was missing, what the run before did.

    Raises:
        KaleidoscopeError: If the recipe is wrong, there is no image, the destination holds another
            recipe's images, another run is at work in it, or a store keeps failing. Calling again
            goes on where it stopped.
    """
    if workers is not None and workers < 1:
        raise SettingsError(f"workers must be at least 1, or None for all CPUs; got {workers}")
    settings = Settings.from_environment()
    sources = open_store(str(source), settings=settings)
    outputs = open_store(str(destination), settings=settings)
    wanted = load_recipe(recipe, seed=seed)
    check_apart(sources, outputs)  # Before anything is written among the photographs.
    with hold(outputs, _this_process(), wait_s=wait_s, on_wait=on_wait) as lease:
        started = pipeline.start_run(
            sources,
            outputs,
            wanted,
            now=datetime.now(UTC),
            options=StartOptions(retry_failed=retry_failed),
        )
        if on_start is not None:
            on_start(started)
        pending = pipeline.pending_shards(outputs, started)
        for index in range(started.plan.num_shards):
            stats = pipeline.run_shard(
                sources,
                outputs,
                started,
                index,
                workers=workers or available_cpus(),
                now=datetime.now(UTC),
                on_progress=on_progress,
            )
            if index not in pending and on_progress is not None:
                on_progress(stats)
        lease.check()
        report = pipeline.commit_run(outputs, started, now=datetime.now(UTC))
        _refresh_card(outputs)
    return report


def _refresh_card(destination: Store) -> None:
    if (trouble := card.refresh_card(destination)) is not None:
        _logger.warning("%s", trouble)


def status(destination: str | Path) -> Status:
    """Return how far the runs of a destination are, what failed, and who is at work there.

    Raises:
        KaleidoscopeError: If there is no run, or the store cannot be read.
    """
    return read_status(open_store(str(destination), settings=Settings.from_environment()))


def what_to_retry(destination: str | Path) -> tuple[Request, bool]:
    """Return what a destination's newest run was asked, and whether it was interrupted.

    Raises:
        KaleidoscopeError: If there is no run, or the store cannot be read.
    """
    store = open_store(str(destination), settings=Settings.from_environment())
    found = read_status(store)
    planned = [entry for entry in found.runs if entry.state != "unplanned"]
    if not planned:
        raise ManifestError(
            f"no run in {store.uri} came to its first image; start it again with `run`"
        )
    return load_request(store, planned[-1].run_id), found.interrupted is not None


def prune(
    destination: str | Path,
    *,
    dry_run: bool = True,
    wait_s: float = WAIT_S,
    on_wait: Callable[[Holder], None] | None = None,
) -> Pruning:
    """Take outputs out of a data set whose source went away, was replaced or failed.

    Args:
        destination: The folder or ``s3://bucket/prefix`` that runs wrote to. Where the sources
            are, it has recorded.
        dry_run: Only say what would go.
        wait_s: Seconds to wait for a run that is at work in the destination; 0 refuses at once.
        on_wait: Called once, with who it is, when there is another to wait for.

    Raises:
        KaleidoscopeError: If nothing is committed there, a run waits to be finished, there is no
            source at all, another run is at work, or a store fails.
    """
    opened = partial(open_store, settings=Settings.from_environment())
    outputs = opened(str(destination))
    sources = opened(what_to_retry(destination)[0].source)
    if dry_run:
        return pruning.look(sources, outputs)
    with hold(outputs, _this_process(), wait_s=wait_s, on_wait=on_wait) as lease:
        done = pruning.prune(sources, outputs, now=datetime.now(UTC), lease=lease)
        _refresh_card(outputs)
        return done


def verify(
    destination: str | Path,
    *,
    options: VerifyOptions | None = None,
    wait_s: float = WAIT_S,
    on_wait: Callable[[Holder], None] | None = None,
) -> Verification:
    """Compare a destination with its manifest, and make again what is missing if that is asked.

    Args:
        destination: The folder or ``s3://bucket/prefix`` that runs wrote to.
        options: What to look at; None reads and hashes every output.
        wait_s: Seconds that a repair waits for a run that is at work in the destination.
        on_wait: Called once, with who it is, when there is another to wait for.

    Raises:
        KaleidoscopeError: If nothing is committed there, the manifest is damaged, another run is
            at work where something is to be repaired, or the store cannot be read.
    """
    opened = partial(open_store, settings=Settings.from_environment())
    outputs, wanted = opened(str(destination)), options or VerifyOptions()
    turn: AbstractContextManager[object] = nullcontext()
    if wanted.repairs:
        turn = hold(outputs, _this_process(), wait_s=wait_s, on_wait=on_wait)
    with turn:
        return verification.verify(outputs, options=wanted, open_source=opened)


def replay_outputs(
    outputs: Sequence[str], destination: str | Path | None = None
) -> tuple[ReplayedOutput, ...]:
    """Make outputs again from their sources and recorded parameters, and compare.

    Args:
        outputs: Paths or URIs of outputs; with ``destination``, their keys in it.
        destination: The folder or ``s3://bucket/prefix`` that runs wrote to. None looks for it
            above each output.

    Raises:
        KaleidoscopeError: If an output is in no manifest, or a store cannot be read.
    """
    opened = partial(open_store, settings=Settings.from_environment())
    wanted: dict[str, list[str]] = {}
    for output in outputs:
        root, key = (destination, output) if destination else _split_output(output, opened)
        wanted.setdefault(str(root), []).append(key)
    return tuple(
        replayed
        for root, keys in wanted.items()
        for replayed in verification.replay_outputs(
            lineage.Lineage(opened(root)), keys, open_source=opened
        )
    )


def _split_output(output: str, opened: Callable[[str], Store]) -> tuple[str, str]:
    """Return the destination that an output lies in, and its key there."""
    scheme, _, path = output.rpartition("://")
    prefix = f"{scheme}://" if scheme else ""
    parts = path.split("/") if scheme else Path(path).absolute().as_posix().split("/")
    for depth in range(len(parts) - 1, 0, -1):
        root = prefix + "/".join(parts[:depth])
        if root and any(True for _ in opened(root).list_objects(RUNS_PREFIX)):
            return root, "/".join(parts[depth:])
    raise ManifestError(
        f"{output} lies in no destination of runs; name that too (--destination on the command "
        "line), and the output by its key there"
    )


def _this_process() -> Holder:
    """Return what this process calls itself when it holds the lease of a destination."""
    name = f"process {os.getpid()}"
    return Holder(uuid.uuid4().hex, name, socket.gethostname(), datetime.now(UTC))


def describe(value: Plan | Report) -> str:
    """Return what a plan will make and cost on this machine, or what a run did, in words."""
    match value:
        case Plan():
            return describe_plan(value, cpus=available_cpus())
        case Report():
            return describe_report(value)


def read_manifest(
    destination: str | Path, *, columns: Sequence[str] | None = None
) -> "pd.DataFrame":
    """Return one row for each output of the committed runs, and one for each failed source.

    Args:
        destination: The folder or ``s3://bucket/prefix`` that runs wrote to.
        columns: Which columns to read; None reads all, a few are much faster.

    Raises:
        KaleidoscopeError: If nothing is committed there, there is no such column, or the store
            cannot be read.
    """
    store = open_store(str(destination), settings=Settings.from_environment())
    return lineage.read_manifest(store, columns=columns)


def write_card(destination: str | Path) -> str:
    """Write the data set card and the table for Hugging Face again, and return the card.

    A run does so when it commits. Needed after one that was killed in between, or after an upgrade.

    Args:
        destination: The folder or ``s3://bucket/prefix`` that runs wrote to.

    Raises:
        KaleidoscopeError: If nothing is committed there, a record is damaged, or the store cannot
            be read or written.
    """
    return card.write_card(open_store(str(destination), settings=Settings.from_environment()))


def audit_folder(folder: str | Path) -> dict[str, int]:
    """Refuse a folder layout, ``train/…``, ``val/…``, in which outputs of one source are apart.

    Args:
        folder: The folder or ``s3://bucket/prefix`` whose first folders are the splits.

    Returns:
        The number of images in each.

    Raises:
        SplitLeakError: With the offending names in ``rows``, if it leaks.
        KaleidoscopeError: If there is no image, an image is no output's, by its name, or the store
            cannot be read.
    """
    store = open_store(str(folder), settings=Settings.from_environment())
    if any(entry.is_committed for entry in list_runs(store)):
        raise SplitError(
            f"{store.uri} is a destination of runs, whose folders are those of their sources; name "
            f"a split that is saved there to audit it; there are {[*lineage.saved_names(store)]}"
        )
    suffixes = ((info.key, PurePosixPath(info.key).suffix.lower()) for info in store.list_objects())
    names = []
    for key, suffix in suffixes:
        if suffix == ".tar":
            raise SplitError(
                f"{store.uri}: what is in {key} cannot be told by its name; audit the column of "
                "the table that the tars were made by"
            )
        if suffix in IMAGE_EXTENSIONS and not key.startswith(f"{RESERVED_FOLDER}/"):
            names.append(key)
    if not names:
        raise SplitError(f"there is no image under {store.uri}; check the path")
    audit_names(names)
    return dict(sorted(Counter(name.partition("/")[0] for name in names).items()))


def audit_saved(destination: str | Path, name: str) -> dict[str, int]:
    """Refuse a saved split in which outputs of one source are apart; see :func:`audit_folder`.

    Args:
        destination: The folder or ``s3://bucket/prefix`` that runs wrote to.
        name: What the split was saved as.

    Returns:
        Images of each part.

    Raises:
        SplitLeakError: If outputs of one source are apart.
        KaleidoscopeError: If there is no such split, or something cannot be read.
    """
    columns = ["source_id", "source_sha256", "source_key", "output_key", "node"]
    rows = lineage.Lineage.open(destination).load_split(name, columns=columns)
    audit_split(rows)
    return _images_by_split(rows["split"])


def audit_table(path: Path, *, column: str) -> dict[str, int]:
    """Refuse a split in a column of a table; see :func:`audit_folder`.

    Args:
        path: A CSV or parquet file with one row for each image, that names its source by
            ``source_id``, or by an output's name in ``output_key``, ``file_name`` or ``path``.
        column: The one that names the split.

    Returns:
        Images of each part.

    Raises:
        SplitLeakError: If outputs of one source are apart.
        SplitError: If the table cannot be read, or does not say which source an image is of.
    """
    import pandas as pd  # noqa: PLC0415 -- half a second, for who audits only.

    suffix = path.suffix.lower()
    if suffix not in {".csv", ".parquet"}:
        raise SplitError(f"a table is a .csv or .parquet file; got {path}")
    try:
        rows = pd.read_csv(path) if suffix == ".csv" else pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise SplitError(f"the table {path} cannot be read: {error}") from error
    audit_split(rows, column=column)
    return _images_by_split(rows[column])


def _images_by_split(splits: "pd.Series[Any]") -> dict[str, int]:
    return {str(name): int(count) for name, count in splits.value_counts().sort_index().items()}
