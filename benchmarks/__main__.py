"""Run the benchmark: ``python -m benchmarks [--quick]`` from the repository's folder."""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import cv2

from benchmarks import scale, scenarios, stages, tables
from benchmarks.measuring import ROOT, Rounds
from benchmarks.photographs import make_photographs
from benchmarks.scenarios import Effort
from kaleidoscope.settings import Settings
from tools.seaweedfs import SeaweedFS

T = TypeVar("T")

OUTPUT = ROOT / "docs" / "benchmarks"
NUM_PHOTOGRAPHS = 120


def main() -> None:
    """Measure, print, and unless it is quick write ``docs/benchmarks``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the main ratios, in three minutes")
    parser.add_argument("--without-peers", action="store_true", help="install nothing")
    arguments = parser.parse_args()
    tables.measured_commit()
    cv2.setNumThreads(1)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    photographs = make_photographs(
        ROOT / "examples" / "photos",
        ROOT / ".cache" / "benchmarks" / "photographs",
        number=NUM_PHOTOGRAPHS,
    )
    peers = None if arguments.without_peers else scenarios.peers_python()
    if arguments.quick:
        _measure_quickly(photographs, peers)
    else:
        _measure_all(photographs, peers)


def _measure_quickly(photographs: list[Path], peers: str | None) -> None:
    engine = _timed("engines", lambda: scenarios.engines(photographs, Effort(5, 4), peers))
    print(tables.engine_table(engine), "\n", flush=True)
    to_s3 = _timed("S3", lambda: scenarios.end_to_end(photographs, Effort(4, 8), peers))
    print(tables.s3_table(to_s3), "\n", flush=True)
    cores = _timed("cores", lambda: scenarios.cores(photographs, Effort(5, 16)))
    print(tables.cores_table(cores), "\n", flush=True)
    plans = [_timed("planning", lambda: scale.measure("plan", 100_000))]
    print(tables.scale_table("keys listed and planned", plans), "\n")
    merged = [_timed("manifest", lambda: scale.measure("manifest", 200_000))]
    print(tables.scale_table("rows written and merged", merged), "\n")
    print(tables.targets_table(engine, to_s3, cores), "\n")
    print(tables.describe_machine("make bench-quick", f"{datetime.now(UTC):%d %B %Y}"))


def _measure_all(photographs: list[Path], peers: str | None) -> None:
    from benchmarks import plots  # noqa: PLC0415 -- a quick run does without matplotlib.

    OUTPUT.mkdir(parents=True, exist_ok=True)
    engine = _timed("engines", lambda: scenarios.engines(photographs, Effort(11, 6), peers))
    to_s3 = _timed("S3", lambda: scenarios.end_to_end(photographs, Effort(9, 8), peers))
    cores = _timed("cores", lambda: scenarios.cores(photographs, Effort(15, 12)))
    clients = _timed("clients", lambda: scenarios.s3_clients(photographs, Effort(9, 4)))
    steps = _timed("N", lambda: scenarios.by_number_of_steps(photographs, Effort(5, 4)))
    sizes = _timed("sizes", lambda: scenarios.by_size(photographs, Effort(5, 4)))
    by_stage = _timed("stages", lambda: stages.measure_stages(photographs[:24]))
    by_transform = _timed(
        "transforms", lambda: stages.measure_transforms(photographs, num_rounds=60)
    )
    by_encoder = _timed("encoders", lambda: stages.measure_encoders(photographs[:40]))
    plans = [_timed(f"plan {n:,}", _planning(n)) for n in (10**4, 10**5, 10**6)]
    listings = [_timed("list S3", lambda: _list_s3(100_000))]
    merged = [_timed(f"merge {n:,}", _merging(n)) for n in (10**5, 10**6, 10**7)]
    classes = [_timed(f"read {n:,}", _reading(n)) for n in (10**5, 10**6, 10**7)]
    plots.plot_engines(engine, OUTPUT / "engines.png")
    plots.plot_curve(
        {int(name): steps.cpu_ms(name) for name in steps.by_name},
        OUTPUT / "steps.png",
        x="transforms in the recipe",
        y="CPU ms for each output",
    )
    plots.plot_curve(
        {int(name): sizes.cpu_ms(name) for name in sizes.by_name},
        OUTPUT / "sizes.png",
        x="pixels a side",
        y="CPU ms for each output",
    )
    plots.plot_scale(plans, OUTPUT / "planning.png", x="keys")
    plots.plot_scale(merged, OUTPUT / "manifest.png", x="rows")
    sections = {
        "Targets": tables.targets_table(engine, to_s3, cores),
        "Engine": f"{_ENGINE}\n\n{tables.engine_table(engine)}\n\n![](engines.png)",
        "From S3 to S3": f"{_S3}\n\n{tables.s3_table(to_s3)}",
        "Cores": tables.cores_table(cores),
        "S3 clients, objects of 40 KB": tables.clients_table(clients),
        "Stages": tables.spread_table("stage", "CPU ms/output", by_stage),
        "Transforms": tables.spread_table("transform", "CPU ns/pixel", by_transform),
        "Formats": "\n\n".join(
            tables.spread_table("format", what, spreads)
            for what, spreads in zip(("CPU ns/pixel", "bytes/pixel"), by_encoder, strict=True)
        ),
        "Number of transforms": f"{_curve(steps, 'transforms')}\n\n![](steps.png)",
        "Size of outputs": f"{_curve(sizes, 'side')}\n\n![](sizes.png)",
        "Planning": f"{tables.scale_table('keys', plans)}\n\n![](planning.png)",
        "Listing from S3": tables.scale_table("keys", listings),
        "Manifest": f"{tables.scale_table('rows', merged)}\n\n![](manifest.png)",
        "One class of a manifest": f"{_CLASS}\n\n{tables.scale_table('rows', classes)}",
    }
    machine = tables.describe_machine("make bench", f"{datetime.now(UTC):%d %B %Y}")
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
    print(body)
    if peers is None:
        print("The peers are missing, so docs/benchmarks/README.md stays as it is.")
    else:
        page = f"# Benchmarks\n\n{machine}\n\n{_METHOD}\n\n{body}\n"
        (OUTPUT / "README.md").write_text(page)


_METHOD = """Each round runs every variant once, in random order, on the same photographs, each in
a process of its own that lives through all rounds. Ratios are of CPU time, within a round; their
medians and quartiles are shown. CPU time counts all threads and child processes. All programs use
one thread but where it says otherwise. The slowest get a quarter of a round's photographs. All are
crops of `examples/photos` from 500 x 375 to 1280 x 960 pixels; outputs are 400 x 400 pixels, JPEG,
quality 95, but where a table says otherwise."""

_ENGINE = """From the bytes of a photograph in memory to 64 encoded images in memory. The limit
encodes the resized photograph 64 times. Images with noise and strong contrast cost an encoder more,
so the second line encodes the very images that `classic` makes; less than that needs another codec.
The original draws its order by lot, as it did; the others take the order of the recipe, but for two
of ours."""

_S3 = """One S3 server on the same machine holds photographs and outputs. Ours reads, hashes, writes
and records with two threads that transform and twelve that write; the original uploads the images
of each photograph by one process of the `aws` program. CPU is the client's alone."""


_CLASS = f"""All columns of one class of {scale.SOURCES_PER_CLASS:,} photographs with {scale.NODES}
images each, as a data frame, from the manifest of {scale.NUM_RUNS} runs on a disk that each have a
part of every class, and of which each made some images of those before it again."""


def _curve(rounds: Rounds, what: str) -> str:
    spreads = {name: rounds.cpu_ms(name) for name in rounds.by_name}
    return tables.spread_table(what, "CPU ms/output", spreads)


def _planning(number: int) -> Callable[[], scale.Scale]:
    return lambda: scale.measure("plan", number)


def _merging(number: int) -> Callable[[], scale.Scale]:
    return lambda: scale.measure("manifest", number)


def _reading(number: int) -> Callable[[], scale.Scale]:
    def read() -> scale.Scale:
        with tempfile.TemporaryDirectory() as folder:
            scale.measure("fill", number, environment={"URI": folder})
            return scale.measure("label", number, environment={"URI": folder})

    return read


def _list_s3(number: int) -> scale.Scale:
    with SeaweedFS() as server:
        server.create_bucket("benchmark")
        environment = {**scenarios.s3_environment(server), "URI": "s3://benchmark/many"}
        os.environ.update(environment)
        scale.fill_s3(environment["URI"], Settings.from_environment(), number)
        return scale.measure("s3", number, environment=environment)


def _timed(what: str, work: Callable[[], T]) -> T:
    print(f"{what} ...", flush=True)
    started_s = time.perf_counter()
    result = work()
    print(f"{what}: {time.perf_counter() - started_s:.0f} s", flush=True)
    return result


if __name__ == "__main__":
    main()
