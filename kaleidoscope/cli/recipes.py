"""Commands that print what recipes and transforms there are."""

from typing import Annotated

import typer

from kaleidoscope.cli._app import app

PANEL = "Recipes"


@app.command(rich_help_panel=PANEL)
def recipe(
    name: Annotated[
        str | None, typer.Argument(help="A preset or a file; without it, presets are listed.")
    ] = None,
) -> None:
    """Print a recipe with every default written out, as a start for your own.

    Example: kaleidoscope recipe classic > recipe.yaml
    """
    from kaleidoscope.recipe import load_recipe, preset_names

    typer.echo("\n".join(preset_names()) if name is None else load_recipe(name).to_yaml().rstrip())


@app.command(rich_help_panel=PANEL)
def transforms(
    name: Annotated[str | None, typer.Argument(help="One transform; without it, all.")] = None,
) -> None:
    """List the transforms with the ranges that a recipe may give them.

    Example: kaleidoscope transforms Rotate
    """
    from kaleidoscope.summary import describe_transform
    from kaleidoscope.transforms import TRANSFORMS

    if name is not None and name not in TRANSFORMS:
        raise typer.BadParameter(f"there is no {name!r}; there are {', '.join(TRANSFORMS)}")
    shown = TRANSFORMS if name is None else {name: TRANSFORMS[name]}
    typer.echo("\n".join(describe_transform(transform) for transform in shown.values()))
