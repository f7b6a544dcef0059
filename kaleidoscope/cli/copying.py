"""Commands that copy data sets between folders and S3."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kaleidoscope.cli._app import app
from kaleidoscope.cli._console import progress_bar

if TYPE_CHECKING:
    from kaleidoscope.transfer import TransferReport

PANEL = "Copy"


@app.command(rich_help_panel=PANEL)
def upload(
    folder: Annotated[Path, typer.Argument(help="Folder to read.", exists=True, file_okay=False)],
    uri: Annotated[str, typer.Argument(help="s3://bucket/prefix to write to.")],
) -> None:
    """Copy a folder to S3; what is there with the same size already is left alone.

    Example: kaleidoscope upload photos/ s3://bucket/photos
    """
    _copy(str(folder), _s3(uri))


@app.command(rich_help_panel=PANEL)
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
    from kaleidoscope.errors import SettingsError
    from kaleidoscope.settings import Settings
    from kaleidoscope.stores import open_store
    from kaleidoscope.summary import format_bytes
    from kaleidoscope.transfer import copy_objects

    settings = Settings.from_environment()
    with progress_bar() as progress:
        bar = progress.add_task("copying", total=None, note="")

        def on_progress(report: "TransferReport") -> None:
            done = report.num_copied + report.num_unchanged
            progress.update(bar, completed=done, note=format_bytes(report.size_copied))

        report = copy_objects(
            open_store(source, settings=settings),
            open_store(destination, settings=settings),
            on_progress=on_progress,
        )
    if not (report.num_copied or report.num_unchanged or report.num_skipped):
        raise SettingsError(f"there is nothing under {source}; check its spelling")
    typer.echo(
        f"{report.num_copied:,} objects copied ({format_bytes(report.size_copied)}), "
        f"{report.num_unchanged:,} were there already, {report.num_skipped:,} left out"
    )
