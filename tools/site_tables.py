"""Tables of the documentation that are made from the code: a hook of MkDocs.

A page asks for one with ``<!-- table: transforms -->`` on a line of its own.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import typer.cli
from pydantic import BaseModel
from typer.main import get_command

from flows.markdown import table
from kaleidoscope.cli import app
from kaleidoscope.manifest import SCHEMA
from kaleidoscope.recipe import Recipe, preset_names
from kaleidoscope.transforms import TRANSFORMS, Bounds, Transform

_MARKER = re.compile(r"^<!-- table: (\w+) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return a page with its tables in place; MkDocs calls this.

    Raises:
        KeyError: If a page asks for a table that does not exist, which ends the build.
    """
    return _MARKER.sub(lambda match: _TABLES[match[1]](), markdown)


def _transforms() -> str:
    return "\n\n".join(_transform(transform) for transform in TRANSFORMS.values())


def _transform(transform: type[Transform]) -> str:
    kind = "moves pixels" if transform.geometric else "leaves every pixel in its place"
    text = f"## {transform.__name__}\n\n{inspect.getdoc(transform) or ''}\n\nIt {kind}.\n"
    rows = [
        (
            f"`{name}`",
            f"`{_plain(field.default)}`",
            "; ".join(_limit(limit) for limit in field.metadata if _limit(limit)),
            field.description or "",
        )
        for name, field in transform.model_fields.items()
    ]
    return f"{text}\n{table(('Parameter', 'Default', 'Within', ''), rows)}" if rows else text


def _limit(metadata: object) -> str:
    if isinstance(metadata, Bounds):
        return f"{metadata.low:g} to {metadata.high:g} {metadata.unit}".strip()
    words = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
    return " and ".join(
        f"{word} {getattr(metadata, bound)}"
        for bound, word in words.items()
        if getattr(metadata, bound, None) is not None
    )


def _plain(value: object) -> str:
    return str(list(value) if isinstance(value, tuple) else value)


def _recipe() -> str:
    sections = {
        name: field.annotation
        for name, field in Recipe.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }
    tables = [_fields(Recipe, leave_out=sections)]
    tables += [
        f"### `{name}`\n\n{inspect.getdoc(model) or ''}\n\n{_fields(model)}"
        for name, model in sections.items()
    ]
    return "\n\n".join(tables)


def _fields(model: type[BaseModel], leave_out: Iterable[str] = ()) -> str:
    rows = [
        (
            f"`{name}`",
            "required" if field.is_required() else f"`{_plain(field.get_default())}`",
            "; ".join(_limit(limit) for limit in field.metadata if _limit(limit)),
            field.description or "",
        )
        for name, field in model.model_fields.items()
        if name not in set(leave_out)
    ]
    return table(("Field", "Default", "Within", ""), rows)


def _presets() -> str:
    rows = []
    for name in preset_names():
        recipe = Recipe.preset(name)
        steps = ", ".join(step.name for step in recipe.transforms)
        rows.append((f"`{name}`", steps, f"{recipe.num_nodes:,}"))
    return table(("Preset", "Transforms, in order", "Images of each source"), rows)


def _manifest() -> str:
    rows = [(f"`{f.name}`", f"{f.type}{'' if f.nullable else ', never missing'}") for f in SCHEMA]
    return table(("Column", "Type"), rows)


def _commands() -> str:
    command = get_command(app)
    context = typer.Context(command, info_name="kaleidoscope")
    text = typer.cli.get_docs_for_click(obj=command, ctx=context, name="kaleidoscope")
    # One page of many: its title is the page's own.
    return text.partition("\n")[2]


_TABLES: Mapping[str, Callable[[], str]] = {
    "commands": _commands,
    "manifest": _manifest,
    "presets": _presets,
    "recipe": _recipe,
    "transforms": _transforms,
}
