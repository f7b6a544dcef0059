"""The app that commands register on, its exit codes, and the arguments that they share."""

import sys
from importlib import metadata
from typing import Annotated

import typer

from kaleidoscope.cli._console import print_error
from kaleidoscope.errors import KaleidoscopeError

EXIT_TOO_MANY_FAILURES = 1
EXIT_FOUND_WRONG = 1
EXIT_BAD_INPUT = 2
EXIT_RETRY_CAN_HELP = 3

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Make a large image data set from a small one, once, with the lineage of every image.\n\n"
    "SOURCE and DESTINATION are folders or s3://bucket/prefix. Exit codes: 0 done, 1 done but too "
    "many sources failed, or a check found something wrong, 2 wrong input, 3 a store failed or "
    "another run is at work there: the same command goes on where it stopped, 130 interrupted.",
)

Source = Annotated[str, typer.Argument(help="Folder or s3://bucket/prefix with images.")]
RecipeName = Annotated[
    str,
    typer.Option("--recipe", "-r", help="Preset, or path of a YAML or JSON file; see `recipe`."),
]
Seed = Annotated[
    int | None, typer.Option(min=0, max=2**53 - 1, help="Takes the place of the recipe's seed.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Workers = Annotated[
    int | None, typer.Option("--workers", "-w", min=1, help="Threads. Default: all CPUs.")
]
Wait = Annotated[
    float | None,
    typer.Option(
        "--wait",
        min=0,
        help="Seconds to wait for another run that is at work in DESTINATION; 0 refuses at once. "
        "Default: ten minutes.",
    ),
]


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
        print_error(str(error))
        sys.exit(EXIT_RETRY_CAN_HELP if error.retryable else EXIT_BAD_INPUT)
