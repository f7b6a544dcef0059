"""Commands that look after a destination: how far it is, whether it is whole, what failed."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from kaleidoscope.cli._app import (
    EXIT_FOUND_WRONG,
    Json,
    Wait,
    Workers,
    app,
)
from kaleidoscope.cli._console import console, say_waiting
from kaleidoscope.cli.making import run_and_say

PANEL = "Data set"

_Destination = Annotated[str, typer.Argument(help="Folder or s3://bucket/prefix of runs.")]


@app.command(rich_help_panel=PANEL)
def status(destination: _Destination, *, as_json: Json = False) -> None:
    """Say how far the runs of a destination are, what failed, and who is at work there.

    Example: kaleidoscope status s3://bucket/augmented

    Exit codes: 0 all is finished, 1 a run was interrupted or is at work, 2 no run is there, 3 the
    store failed.
    """
    from kaleidoscope import api
    from kaleidoscope.summary import describe_status

    found = api.status(destination)
    typer.echo(found.to_json() if as_json else describe_status(found))
    if found.interrupted is not None:
        raise typer.Exit(EXIT_FOUND_WRONG)


@app.command(rich_help_panel=PANEL)
def retry(
    destination: _Destination,
    *,
    workers: Workers = None,
    wait: Wait = None,
    as_json: Json = False,
) -> None:
    """Finish what was interrupted and do again what failed.

    Source and recipe are those that the destination recorded.
    Sources that have come since are done as well, as by `run`.

    Example: kaleidoscope retry s3://bucket/augmented

    Exit codes: as those of `run`: 1 if too many sources failed again.
    """
    from kaleidoscope import api
    from kaleidoscope.lease import WAIT_S

    request, is_interrupted = api.what_to_retry(destination)
    if is_interrupted:
        console.print("finishing the run that was interrupted")
        api.run(
            request.source,
            destination,
            request.recipe,
            workers=workers,
            wait_s=WAIT_S if wait is None else wait,
            on_wait=say_waiting,
        )
    run_and_say(
        request.source,
        destination,
        request.recipe,
        workers=workers,
        retry_failed=True,
        wait_s=wait,
        as_json=as_json,
    )


@app.command(rich_help_panel=PANEL)
def prune(
    destination: _Destination,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove it, not only say so.")] = False,
    wait: Wait = None,
    as_json: Json = False,
) -> None:
    """Remove images whose source went away, was replaced or failed; by default, only say which.

    They are found through the manifest. Their rows go first, and then the objects; interrupted, the
    same command goes on.

    Examples:
        kaleidoscope prune s3://bucket/augmented
        kaleidoscope prune s3://bucket/augmented --yes

    Exit codes: 0 done or said, 2 nothing is committed, a run is to be finished first or there is no
    source at all, 3 a store failed or another run is at work there.
    """
    from kaleidoscope import api
    from kaleidoscope.lease import WAIT_S
    from kaleidoscope.summary import describe_pruning

    wait_s = WAIT_S if wait is None else wait
    found = api.prune(destination, dry_run=not yes, wait_s=wait_s, on_wait=say_waiting)
    typer.echo(found.to_json() if as_json else describe_pruning(found))
    if not (yes or found.is_empty):
        console.print("Nothing was removed; --yes does it.")


@app.command(rich_help_panel=PANEL)
def verify(  # noqa: PLR0913 -- a command's options.
    destination: _Destination,
    *,
    sample: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share of the images to read and hash; 0 lists only."),
    ] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Another seed takes another sample.")] = 0,
    replay: Annotated[
        bool, typer.Option("--replay", help="Make those again from their sources and compare.")
    ] = False,
    sources: Annotated[
        bool, typer.Option(help="Compare the sources with the versions that were used.")
    ] = True,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Make missing and damaged images again, if they get the same bytes; not in tars.",
        ),
    ] = False,
    wait: Wait = None,
    as_json: Json = False,
) -> None:
    """Compare a destination with its manifest, and repair it if asked.

    Every object is there with its size and hash, no other is, and the sources are as they were.

    Examples:
        kaleidoscope verify s3://bucket/augmented
        kaleidoscope verify s3://bucket/augmented --sample 0.01 --replay
        kaleidoscope verify s3://bucket/augmented --repair

    Exit codes: 0 all is as the manifest says, or is again, 1 something is not, 2 there is no
    manifest or it is damaged, 3 the store failed or another run is at work there.
    """
    from kaleidoscope import api
    from kaleidoscope.lease import WAIT_S
    from kaleidoscope.summary import describe_verification
    from kaleidoscope.verification import VerifyOptions

    options = VerifyOptions(
        sample=sample, seed=seed, replays=replay, sources=sources, repairs=repair
    )
    wait_s = WAIT_S if wait is None else wait
    found = api.verify(destination, options=options, wait_s=wait_s, on_wait=say_waiting)
    typer.echo(found.to_json() if as_json else describe_verification(found))
    if not found.is_whole:
        raise typer.Exit(EXIT_FOUND_WRONG)


@app.command(rich_help_panel=PANEL)
def replay(
    outputs: Annotated[
        list[str], typer.Argument(help="Paths or URIs of images, or their keys in --destination.")
    ],
    *,
    destination: Annotated[
        str | None, typer.Option("--destination", "-d", help="Where the keys are.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make images again from their sources and recorded parameters, and compare.

    `identical`: the same bytes. `equivalent`: nearly the same pixels, as another library version or
    CPU gives; the largest difference is said in grey levels. `different`: other pixels. `corrupt`:
    the stored image is not what was written.

    Examples:
        kaleidoscope replay s3://bucket/augmented/dogs/rex-1f3a9c2b-ac.jpg
        kaleidoscope replay --destination s3://bucket/augmented dogs/rex-1f3a9c2b-ac.jpg

    Exit codes: 0 all are identical or equivalent, 1 one is not, 2 no such image, 3 a store
    failed.
    """
    from kaleidoscope import api

    found = api.replay_outputs(outputs, destination)
    if as_json:
        typer.echo(json.dumps([asdict(output) for output in found], indent=2))
    else:
        typer.echo("\n".join(f"{output.output_key}: {output.detail}" for output in found))
    if not all(output.is_right for output in found):
        raise typer.Exit(EXIT_FOUND_WRONG)
