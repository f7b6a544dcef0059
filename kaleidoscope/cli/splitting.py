"""Commands that split a data set without leaks, and find leaks in a split."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kaleidoscope.cli._app import EXIT_FOUND_WRONG, Json, app

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kaleidoscope.splits import SplitLeakError

_MOST_ROWS = 20
"""Offending rows that are printed for a person; --json prints all."""

_SHOWN = ("split", "source_key", "output_key", "file_name", "path", "source_id", "node")


class _By(StrEnum):
    SOURCE = "source"
    NEAR_DUPLICATE = "near_duplicate"


_Share = Annotated[float, typer.Option(min=0, max=1, help="Share of the sources.")]


@app.command(rich_help_panel="Data set")
def split(  # noqa: PLR0913 -- a command's options.
    destination: Annotated[str, typer.Argument(help="Folder or s3://bucket/prefix of runs.")],
    name: Annotated[str, typer.Argument(help="What to save the split as.")] = "default",
    *,
    train: _Share = 0.8,
    val: _Share = 0.1,
    test: _Share = 0.1,
    seed: Annotated[int, typer.Option(help="Other seeds give other splits.")] = 0,
    by: Annotated[_By, typer.Option(help="What stays together.")] = _By.SOURCE,
    stratify: Annotated[
        str, typer.Option(help="Column by whose values the shares hold in each; '' for none.")
    ] = "label",
    augmented_everywhere: Annotated[
        bool,
        typer.Option(help="Give val and test all outputs, not only the originals."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Split by source, so that nothing leaks, and save it for loaders beside the data set.

    A source keeps its split: the same command after another run adds only what is new.

    Example: kaleidoscope split s3://bucket/augmented --train 0.7 --val 0.15 --test 0.15
    """
    from kaleidoscope.lineage import Lineage

    rows = Lineage.open(destination).split(
        train,
        val,
        test,
        by=by.value,
        stratify=stratify or None,
        seed=seed,
        originals_only=() if augmented_everywhere else ("val", "test"),
        save_as=name,
        columns=["source_id", "label"],
    )
    counts = rows.fillna({"label": ""}).groupby(["split", "label"])["source_id"]
    sources, images = counts.nunique(), counts.size()
    lines = [
        {"split": key[0], "label": key[1], "sources": int(sources[key]), "images": int(images[key])}
        for key in sources.index
    ]
    typer.echo(json.dumps(lines, indent=2) if as_json else _describe_split(lines))


@app.command(rich_help_panel="Data set")
def audit(
    place: Annotated[
        str, typer.Argument(help="Folder or s3://bucket/prefix; or a table, with --column.")
    ],
    *,
    name: Annotated[
        str | None, typer.Option(help="Audit the split that was saved in PLACE as this.")
    ] = None,
    column: Annotated[
        str | None,
        typer.Option(help="Audit this column of PLACE, a local .csv or .parquet with output_key."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say whether a split leaks: whether images of one source are in more than one split.

    Without options the first folders below PLACE are the splits: train/…, val/…, test/….
    A leak ends with exit code 1 and the images that leak.

    Example: kaleidoscope audit s3://bucket/split-by-hand
    """
    from kaleidoscope import api
    from kaleidoscope.splits import SplitLeakError

    if name is not None and column is not None:
        raise typer.BadParameter("a saved split has no --column; give one of --name and --column")
    if column is None and place.lower().endswith((".csv", ".parquet")):
        raise typer.BadParameter(f"give --column, which names the splits in the table {place}")
    if column is not None and "://" in place:
        raise typer.BadParameter(f"a table is a local file; download {place} first")
    try:
        if column is not None:
            counts = api.audit_table(Path(place), column=column)
        else:
            counts = api.audit_folder(place) if name is None else api.audit_saved(place, name)
    except SplitLeakError as error:
        typer.echo(
            error.rows.to_json(orient="records", date_format="iso", indent=2)
            if as_json
            else _describe_leak(error)
        )
        raise typer.Exit(EXIT_FOUND_WRONG) from error
    found = ", ".join(f"{split} {count:,}" for split, count in counts.items())
    typer.echo(json.dumps(counts) if as_json else f"No leak. Images: {found}")


def _describe_split(lines: "Sequence[Mapping[str, Any]]") -> str:
    text = ["split      sources       images"]
    for name in ("train", "val", "test"):
        own = [line for line in lines if line["split"] == name]
        sources, images = (sum(line[what] for line in own) for what in ("sources", "images"))
        text.append(f"{name:<6} {sources:>11,} {images:>12,}")
    return "\n".join(text)


def _describe_leak(error: "SplitLeakError") -> str:
    shown = error.rows[[name for name in _SHOWN if name in error.rows]].head(_MOST_ROWS)
    more = len(error.rows) - len(shown)
    text = f"{error}\n\n{shown.to_string(index=False)}"
    return f"{text}\n… and {more:,} more; --json prints all" if more else text
