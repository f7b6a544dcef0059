"""The measurements as Markdown, with the targets that they are held against."""

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path

from benchmarks.measuring import ROOT, Rounds, Spread
from benchmarks.scale import Scale
from benchmarks.scenarios import (
    BOTO3,
    CHAINS,
    CHEAPEST,
    CODEC,
    LIMIT,
    OBSTORE,
    ORIGINAL,
    ORIGINAL_TO_S3,
    OURS,
    SHARD_1,
    SHARD_2,
    TO_S3,
    TO_TARS,
    TREE,
    TWO_SHARDS,
)

_LIBRARIES = ("opencv-python-headless", "numpy", "isal", "obstore", "pyarrow")


@cache
def measured_commit() -> str:
    """Return the commit that is checked out when this is asked for the first time.

    A benchmark asks before it measures, since people go on working.
    """
    # The benchmark's own pages and plots change.
    changes = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs/benchmarks")
    return _git("rev-parse", "--short", "HEAD") + ("-dirty" if changes else "")


def describe_machine(command: str, date: str) -> str:
    """Return when, where, of what and by which command the figures are."""
    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    load = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    return (
        f"{date}, commit {measured_commit()}, `{command}`. {os.cpu_count()} CPUs of {cpu}, "
        f"{platform.system()}, Python {platform.python_version()}, {libraries}. "
        f"Load averages at the end: {load}."
    )


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    answer = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return answer.stdout.strip()


def engine_table(rounds: Rounds) -> str:
    """Return CPU time and ratios of all variants, the fastest first."""
    rows = [
        (
            name,
            f"{rounds.cpu_ms(name).median:.2f}",
            str(rounds.ratio(name, LIMIT)),
            str(rounds.ratio(name, OURS)),
            f"{rounds.peak_mb(name):.0f}",
        )
        for name in sorted(rounds.by_name, key=lambda name: rounds.ratio(name, LIMIT).median)
    ]
    head = ("variant", "CPU ms/output", "x limit", "x Kaleidoscope as given", "peak MB")
    return table(head, rows)


def s3_table(rounds: Rounds) -> str:
    """Return the client's CPU time and the wall time from S3 to S3."""
    rows = [
        (
            name,
            f"{rounds.cpu_ms(name).median:.2f}",
            f"{rounds.wall_ms(name).median:.2f}",
            str(rounds.ratio(name, LIMIT)),
            str(rounds.ratio(name, TO_S3)),
        )
        for name in rounds.by_name
    ]
    head = ("variant", "client CPU ms/output", "wall ms/output", "x limit", "x Kaleidoscope to S3")
    return table(head, rows)


def cores_table(rounds: Rounds) -> str:
    """Return what two threads do in the time of one, and what two lone processes do."""
    return table(
        ("instead of one thread", "x throughput", "x CPU for each output"),
        [
            ("two threads", str(_speedup(rounds, SHARD_2)), str(rounds.ratio(SHARD_2, SHARD_1))),
            ("two processes with a shard each", str(_speedup(rounds, TWO_SHARDS)), ""),
        ],
    )


def _speedup(rounds: Rounds, name: str) -> Spread:
    return rounds.ratio(SHARD_1, name, lambda measurement: measurement.wall_ms)


def clients_table(rounds: Rounds) -> str:
    """Return what two S3 clients take for an object."""
    rows = [
        (
            name,
            f"{rounds.cpu_ms(name).median:.3f}",
            f"{1e3 / rounds.wall_ms(name).median:,.0f}",
            str(rounds.ratio(name, OBSTORE)),
        )
        for name in (OBSTORE, BOTO3)
        if name in rounds.by_name
    ]
    return table(("client", "client CPU ms/put", "puts/s", "x obstore"), rows)


def spread_table(what: str, unit: str, spreads: Mapping[str, Spread]) -> str:
    """Return one row for each name."""
    return table((what, unit), [(name, str(spread)) for name, spread in spreads.items()])


def scale_table(what: str, scales: Sequence[Scale]) -> str:
    """Return one row for each number of keys or rows."""
    rows = [
        (
            f"{scale.number:,}",
            f"{scale.wall_s:.1f}",
            f"{scale.cpu_s:.1f}",
            f"{scale.peak_bytes / 1e6:.0f}",
            f"{(scale.peak_bytes - scale.before_bytes) / 1e6:.0f}",
        )
        for scale in scales
    ]
    return table((what, "wall s", "CPU s", "peak MB", "of it above the imports"), rows)


def targets_table(engine: Rounds, to_s3: Rounds | None, cores: Rounds | None) -> str:
    """Return each target beside what was measured."""
    rows = [
        ("engine as given / limit", "at most 1.4", str(engine.ratio(OURS, LIMIT))),
        ("engine as given / codec on the same images", "", str(engine.ratio(OURS, CODEC))),
        ("engine, cheapest order / limit", "at most 1.15", str(engine.ratio(CHEAPEST, LIMIT))),
    ]
    if CHAINS in engine.by_name:
        rows += [
            ("Albumentations, chains / engine", "at least 4", str(engine.ratio(CHAINS, OURS))),
            ("Albumentations, tree / engine", "at least 1.8", str(engine.ratio(TREE, OURS))),
            ("original / engine", "", str(engine.ratio(ORIGINAL, OURS))),
        ]
    if to_s3 is not None:
        rows.append(("to S3, client CPU / limit", "at most 1.9", str(to_s3.ratio(TO_S3, LIMIT))))
        rows.append(
            ("to tars, client CPU / limit", "at most 1.6", str(to_s3.ratio(TO_TARS, LIMIT)))
        )
        if ORIGINAL_TO_S3 in to_s3.by_name:
            ratio = to_s3.ratio(ORIGINAL_TO_S3, TO_S3)
            rows.append(("original with upload / to S3", "at least 10", str(ratio)))
    if cores is not None:
        rows.append(("two threads / one", "at least 1.85", str(_speedup(cores, SHARD_2))))
        rows.append(("two processes, a shard each / one", "", str(_speedup(cores, TWO_SHARDS))))
    return table(("ratio", "target", "measured: median (quartiles)"), rows)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose columns but the first are numbers."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))
