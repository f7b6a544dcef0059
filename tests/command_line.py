"""What tests of commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

PHOTOS = Path(__file__).parents[1] / "examples" / "photos"

Command: TypeAlias = Callable[..., tuple[int, str, str]]
"""Runs a command and returns its exit code, its output and its messages."""
