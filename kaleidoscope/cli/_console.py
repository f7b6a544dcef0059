"""What commands tell the person in front of them, apart from their output."""

from collections.abc import Iterator
from contextlib import contextmanager

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

console = Console(stderr=True)


def print_error(message: str) -> None:
    """Print an error as it is, brackets included, on one line for whoever searches in logs."""
    console.print(Text("error: ", "red").append(message, "default"), soft_wrap=True)


def say_waiting(holder: object) -> None:
    """Say who holds the lease that a command has to wait for."""
    console.print(Text(f"waiting for {holder}"), soft_wrap=True)


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """Show a bar, with a field ``note`` beside it, while the block runs."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        try:
            yield progress
        except KeyboardInterrupt:
            progress.console.print("interrupted; the same command goes on where it stopped")
            raise
