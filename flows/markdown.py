"""Markdown as Prefect's pages draw it."""

import base64
import re
from collections.abc import Iterable, Sequence

_BARE_PIPE = re.compile(r"(?<!\\)\|")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; what would end a cell or a row is escaped where it is not yet.

    Args:
        header: What stands above the columns.
        rows: Markdown, as many cells in each row as in the header.
    """
    lines = [_line(header), _line(["---"] * len(header)), *map(_line, rows)]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(_BARE_PIPE.sub(r"\|", c).split()) for c in cells) + " |"


def picture(title: str, data: bytes, media_type: str) -> str:
    """Return a picture that is part of the page.

    Args:
        title: For who cannot see it.
        data: The file; on the page it takes a third more.
        media_type: Such as ``image/webp``.
    """
    return f"![{title}](data:{media_type};base64,{base64.b64encode(data).decode()})"
