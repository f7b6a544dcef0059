"""The command that writes what describes a data set."""

from typing import Annotated

import typer

from kaleidoscope.cli._app import app


@app.command(rich_help_panel="Data set")
def card(
    destination: Annotated[str, typer.Argument(help="Folder or s3://bucket/prefix of runs.")],
) -> None:
    """Write the data set card (README.md) and metadata.parquet again, and print the card.

    Example: kaleidoscope card s3://bucket/augmented
    """
    from kaleidoscope import api

    typer.echo(api.write_card(destination).rstrip())
