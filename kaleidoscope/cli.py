"""The command ``kaleidoscope``: the same work as the flows, without a server."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from kaleidoscope import api
from kaleidoscope.errors import KaleidoscopeError
from kaleidoscope.manifest import ShardStats
from kaleidoscope.memory import predict_peak_bytes
from kaleidoscope.preview import SheetFormat, SheetStyle, contact_sheet
from kaleidoscope.recipe import load_recipe, preset_names
from kaleidoscope.runs import Run
from kaleidoscope.settings import Settings, available_cpus
from kaleidoscope.stores import open_store
from kaleidoscope.summary import (
    describe_plan,
    describe_report,
    describe_transform,
    format_bytes,
)
from kaleidoscope.transfer import TransferReport, copy_objects
from kaleidoscope.transforms import TRANSFORMS

EXIT_TOO_MANY_FAILURES = 1
EXIT_BAD_INPUT = 2
EXIT_RETRY_CAN_HELP = 3

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Make a large image data set from a small one, once, with the lineage of every image.\n\n"
    "SOURCE and DESTINATION are folders or s3://bucket/prefix. Exit codes: 0 done, 1 done but too "
    "many sources failed, 2 wrong input, 3 a store failed and the same command goes on where it "
    "stopped, 130 interrupted.",
)
_console = Console(stderr=True)

_SHEET_FORMATS: dict[str, SheetFormat] = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".webp": "webp",
}

_Source = Annotated[str, typer.Argument(help="Folder or s3://bucket/prefix with images.")]
_Recipe = Annotated[
    str,
    typer.Option("--recipe", "-r", help="Preset, or path of a YAML or JSON file; see `recipe`."),
]
_Seed = Annotated[
    int | None, typer.Option(min=0, max=2**53 - 1, help="Takes the place of the recipe's seed.")
]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def _print_version(wanted: bool) -> None:  # noqa: FBT001 -- what typer calls it with.
    if wanted:
        typer.echo(metadata.version("kaleidoscope"))
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print and exit."),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; errors that users can mend are one line, without a traceback."""
    try:
        app()
    except KaleidoscopeError as error:
        _print_error(str(error))
        sys.exit(EXIT_RETRY_CAN_HELP if error.retryable else EXIT_BAD_INPUT)


@app.command()
def run(  # noqa: PLR0913 -- a command's options.
    source: _Source,
    destination: Annotated[str, typer.Argument(help="Folder or s3://bucket/prefix to write to.")],
    recipe: _Recipe = "classic",
    *,
    workers: Annotated[
        int | None, typer.Option("--workers", "-w", min=1, help="Threads. Default: all CPUs.")
    ] = None,
    seed: _Seed = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Do the sources that failed before again.")
    ] = False,
    as_json: _Json = False,
) -> None:
    """Make every image of the recipe's tree that is missing, and commit the manifest.

    Interrupted, the same command goes on where it stopped; repeated, it does only what is new.

    Example: kaleidoscope run photos/ s3://bucket/augmented --recipe classic
    """
    loaded = load_recipe(recipe, seed=seed)
    with _progress() as progress:
        bar = progress.add_task("planning", total=None, note="")
        total = ShardStats()

        plan = None

        def on_start(started: Run) -> None:
            nonlocal plan
            plan = started.plan
            progress.update(bar, total=plan.num_sources, description="sources")

        def on_progress(stats: ShardStats) -> None:
            nonlocal total
            total = ShardStats.total([total, stats])
            images = f"{total.num_outputs:,} images, {format_bytes(total.output_bytes)}"
            progress.update(bar, advance=stats.num_sources, note=images)

        report = api.run(
            source,
            destination,
            loaded,
            workers=workers,
            retry_failed=retry_failed,
            on_start=on_start,
            on_progress=on_progress,
        )
    if plan is not None and not plan.num_shards:
        _console.print(f"Nothing to do: all {plan.num_done:,} sources were done before.")
        if as_json:
            typer.echo(report.to_json())
        return
    typer.echo(report.to_json() if as_json else describe_report(report))
    limit = loaded.limits.max_error_rate
    if report.error_rate > limit:
        _print_error(
            f"{report.error_rate:.0%} of the sources failed, more than limits.max_error_rate = "
            f"{limit:.0%}; the other images are committed. Once the cause is gone, --retry-failed "
            "does those that failed again"
        )
        raise typer.Exit(EXIT_TOO_MANY_FAILURES)


@app.command()
def plan(  # noqa: PLR0913 -- a command's options.
    source: _Source,
    destination: Annotated[
        str | None, typer.Argument(help="What is done there is not done again.")
    ] = None,
    recipe: _Recipe = "classic",
    *,
    cpus: Annotated[
        int | None, typer.Option(min=1, help="For the time it takes. Default: this machine's.")
    ] = None,
    seed: _Seed = None,
    as_json: _Json = False,
) -> None:
    """Say what a run would make and cost, before anything is spent. Nothing is written.

    Example: kaleidoscope plan s3://bucket/photos --recipe recipe.yaml --cpus 64
    """
    loaded = load_recipe(recipe, seed=seed)
    planned = api.plan(source, destination, loaded)
    cpus = cpus or available_cpus()
    text = describe_plan(planned, cpus=cpus, peak_bytes=predict_peak_bytes(loaded, workers=cpus))
    typer.echo(json.dumps(planned.to_document(), indent=2) if as_json else text)


@app.command()
def preview(
    image: Annotated[Path, typer.Argument(help="A photograph.", exists=True, dir_okay=False)],
    recipe: _Recipe = "classic",
    *,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="PNG, JPEG or WebP.", dir_okay=False)
    ] = Path("contact-sheet.png"),
    seed: _Seed = None,
) -> None:
    """Draw the whole tree of one photograph as a contact sheet.

    Example: kaleidoscope preview cat.jpg --recipe light --output cat-light.png
    """
    file_format = _SHEET_FORMATS.get(output.suffix.lower())
    if file_format is None:
        raise typer.BadParameter(f"--output must end with {', '.join(_SHEET_FORMATS)}: {output}")
    sheet = contact_sheet(
        image.read_bytes(),
        load_recipe(recipe, seed=seed),
        image_name=image.name,
        recipe_name=recipe,
        style=SheetStyle(format=file_format),
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(sheet.data)
    typer.echo(f"{output}: {sheet.num_tiles:,} images")


@app.command()
def recipe(
    name: Annotated[
        str | None, typer.Argument(help="A preset or a file; without it, presets are listed.")
    ] = None,
) -> None:
    """Print a recipe with every default written out, as a start for your own.

    Example: kaleidoscope recipe classic > recipe.yaml
    """
    typer.echo("\n".join(preset_names()) if name is None else load_recipe(name).to_yaml().rstrip())


@app.command()
def transforms(
    name: Annotated[str | None, typer.Argument(help="One transform; without it, all.")] = None,
) -> None:
    """List the transforms with the ranges that a recipe may give them.

    Example: kaleidoscope transforms Rotate
    """
    if name is not None and name not in TRANSFORMS:
        raise typer.BadParameter(f"there is no {name!r}; there are {', '.join(TRANSFORMS)}")
    shown = TRANSFORMS if name is None else {name: TRANSFORMS[name]}
    typer.echo("\n".join(describe_transform(transform) for transform in shown.values()))


@app.command()
def upload(
    folder: Annotated[Path, typer.Argument(help="Folder to read.", exists=True, file_okay=False)],
    uri: Annotated[str, typer.Argument(help="s3://bucket/prefix to write to.")],
) -> None:
    """Copy a folder to S3; what is there with the same size already is left alone.

    Example: kaleidoscope upload photos/ s3://bucket/photos
    """
    _copy(str(folder), _s3(uri))


@app.command()
def download(
    uri: Annotated[str, typer.Argument(help="s3://bucket/prefix to read.")],
    folder: Annotated[Path, typer.Argument(help="Folder to write to.", file_okay=False)],
) -> None:
    """Copy a prefix of S3 to a folder; what is there with the same size already is left alone.

    Example: kaleidoscope download s3://bucket/augmented augmented/
    """
    _copy(_s3(uri), str(folder))


def _s3(uri: str) -> str:
    if not uri.startswith("s3://"):
        raise typer.BadParameter(f"must be s3://bucket/prefix, got {uri}")
    return uri


def _copy(source: str, destination: str) -> None:
    settings = Settings.from_environment()
    with _progress() as progress:
        bar = progress.add_task("copying", total=None, note="")

        def on_progress(report: TransferReport) -> None:
            done = report.num_copied + report.num_unchanged
            progress.update(bar, completed=done, note=format_bytes(report.size_copied))

        report = copy_objects(
            open_store(source, settings=settings),
            open_store(destination, settings=settings),
            on_progress=on_progress,
        )
    typer.echo(
        f"{report.num_copied:,} objects copied ({format_bytes(report.size_copied)}), "
        f"{report.num_unchanged:,} were there already, {report.num_skipped:,} left out"
    )


def _print_error(message: str) -> None:
    # As text, since brackets in it are no markup, and on one line for whoever searches in logs.
    _console.print(Text("error: ", "red").append(message, "default"), soft_wrap=True)


@contextmanager
def _progress() -> Iterator[Progress]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=_console) as progress:
        try:
            yield progress
        except KeyboardInterrupt:
            progress.console.print("interrupted; the same command goes on where it stopped")
            raise
