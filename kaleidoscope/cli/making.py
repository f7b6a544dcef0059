"""Commands that make images, or say what they would make."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kaleidoscope.cli._app import (
    EXIT_TOO_MANY_FAILURES,
    Json,
    RecipeName,
    Seed,
    Source,
    Wait,
    Workers,
    app,
)
from kaleidoscope.cli._console import console, print_error, progress_bar, say_waiting

if TYPE_CHECKING:
    from kaleidoscope.model import StoredTargets
    from kaleidoscope.preview import SheetFormat
    from kaleidoscope.recipe import Recipe
    from kaleidoscope.runs import Run

_SHEET_FORMATS: "dict[str, SheetFormat]" = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".webp": "webp",
}


@app.command()
def run(  # noqa: PLR0913 -- a command's options.
    source: Source,
    destination: Annotated[str, typer.Argument(help="Folder or s3://bucket/prefix to write to.")],
    recipe: RecipeName = "classic",
    *,
    workers: Workers = None,
    seed: Seed = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Do the sources that failed before again.")
    ] = False,
    wait: Wait = None,
    as_json: Json = False,
) -> None:
    """Make every image of the recipe's tree that is missing, and commit the manifest.

    Interrupted, the same command goes on where it stopped; repeated, it does only what is new.

    Example: kaleidoscope run photos/ s3://bucket/augmented --recipe classic
    """
    run_and_say(
        source,
        destination,
        recipe,
        seed=seed,
        workers=workers,
        retry_failed=retry_failed,
        wait_s=wait,
        as_json=as_json,
    )


def run_and_say(  # noqa: PLR0913 -- a command's options.
    source: str,
    destination: str,
    recipe: "Recipe | str",
    *,
    seed: int | None = None,
    workers: int | None = None,
    retry_failed: bool = False,
    wait_s: float | None = None,
    as_json: bool = False,
) -> None:
    """Make what is missing, with a bar for the person in front of it, and print the report.

    Raises:
        KaleidoscopeError: As :func:`kaleidoscope.api.run`.
        typer.Exit: If too many sources failed.
    """
    from kaleidoscope import api
    from kaleidoscope.lease import WAIT_S
    from kaleidoscope.manifest import ShardStats
    from kaleidoscope.recipe import load_recipe
    from kaleidoscope.summary import describe_idle, describe_report, format_bytes

    loaded = load_recipe(recipe, seed=seed)
    with progress_bar() as progress:
        bar = progress.add_task("planning", total=None, note="")
        total = ShardStats()

        plan = None

        def on_start(started: "Run") -> None:
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
            wait_s=WAIT_S if wait_s is None else wait_s,
            on_wait=say_waiting,
            on_start=on_start,
            on_progress=on_progress,
        )
    if plan is not None and not plan.num_shards:
        console.print(describe_idle(plan), markup=False, highlight=False, soft_wrap=True)
    if as_json or plan is None or plan.num_shards:
        typer.echo(report.to_json() if as_json else describe_report(report))
    limit = loaded.limits.max_error_rate
    if report.error_rate > limit:
        print_error(
            f"{report.error_rate:.0%} of the sources failed, more than limits.max_error_rate = "
            f"{limit:.0%}; the other images are committed. Once the cause is gone, "
            f"`kaleidoscope retry {destination}` does those that failed again"
        )
        raise typer.Exit(EXIT_TOO_MANY_FAILURES)


@app.command()
def plan(  # noqa: PLR0913 -- a command's options.
    source: Source,
    destination: Annotated[
        str | None, typer.Argument(help="What is done there is not done again.")
    ] = None,
    recipe: RecipeName = "classic",
    *,
    cpus: Annotated[
        int | None, typer.Option(min=1, help="For the time it takes. Default: this machine's.")
    ] = None,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Say what a run would make and cost, before anything is spent. Nothing is written.

    Example: kaleidoscope plan s3://bucket/photos --recipe recipe.yaml --cpus 64
    """
    from kaleidoscope import api
    from kaleidoscope.memory import predict_peak_bytes
    from kaleidoscope.recipe import load_recipe
    from kaleidoscope.settings import available_cpus
    from kaleidoscope.summary import describe_plan

    loaded = load_recipe(recipe, seed=seed)
    planned = api.plan(source, destination, loaded)
    cpus = cpus or available_cpus()
    largest = planned.largest_source_bytes
    peak_bytes = predict_peak_bytes(loaded, workers=cpus, largest_source_bytes=largest)
    text = describe_plan(planned, cpus=cpus, peak_bytes=peak_bytes)
    typer.echo(json.dumps(planned.to_document(), indent=2) if as_json else text)


@app.command()
def preview(
    image: Annotated[Path, typer.Argument(help="A photograph.", exists=True, dir_okay=False)],
    recipe: RecipeName = "classic",
    *,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="PNG, JPEG or WebP.", dir_okay=False)
    ] = Path("contact-sheet.png"),
    seed: Seed = None,
    label: Annotated[
        str | None,
        typer.Option(
            help="Its label, should the recipe have not_for. By default its folder, or what the "
            "recipe's table of labels in a folder above says."
        ),
    ] = None,
) -> None:
    """Draw the whole tree of one photograph as a contact sheet.

    Example: kaleidoscope preview cat.jpg --recipe light --output cat-light.png
    """
    from kaleidoscope.preview import SheetStyle, contact_sheet
    from kaleidoscope.recipe import load_recipe

    file_format = _SHEET_FORMATS.get(output.suffix.lower())
    if file_format is None:
        raise typer.BadParameter(f"--output must end with {', '.join(_SHEET_FORMATS)}: {output}")
    loaded = load_recipe(recipe, seed=seed)
    known = _find_targets(image, loaded)
    sheet = contact_sheet(
        image.read_bytes(),
        loaded,
        known=known if label is None else replace(known, label=label),
        image_name=image.name,
        recipe_name=recipe,
        style=SheetStyle(format=file_format),
    )
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_bytes(sheet.data)
    except OSError as error:
        raise typer.BadParameter(f"cannot write {output}: {error.strerror}") from error
    not_for = f", {sheet.not_for}" if sheet.not_for else ""
    typer.echo(f"{output}: {sheet.num_tiles:,} images{not_for}")


def _find_targets(image: Path, recipe: "Recipe") -> "StoredTargets":
    """Return what belongs to a photograph; the table or the masks tell where its source begins."""
    from kaleidoscope.labels import find_labels, read_targets
    from kaleidoscope.model import StoredTargets
    from kaleidoscope.stores import LocalStore

    path, targets = image.resolve(), recipe.targets
    if targets is None:
        return StoredTargets(path.parent.name or None)
    own = [name for name in (targets.labels, targets.masks) if name is not None]
    for folder in path.parents:
        if all((folder / name).exists() for name in own):
            store, key = LocalStore(folder), path.relative_to(folder).as_posix()
            return read_targets(store, find_labels(store, targets, key))
    return StoredTargets(None if targets.labels else path.parent.name or None)
