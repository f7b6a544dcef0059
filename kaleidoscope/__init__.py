"""Makes a large image data set from a small one, once, with the lineage of every image.

>>> import kaleidoscope as kd
>>> print(kd.describe(kd.plan("photos/", recipe="classic")))
>>> report = kd.run("photos/", "augmented/", recipe="classic")
>>> lineage = kd.Lineage.open("augmented/")
>>> rows = lineage.split(train=0.8, val=0.1, test=0.1)
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kaleidoscope.api import (
        audit_folder,
        describe,
        plan,
        prune,
        read_manifest,
        replay_outputs,
        run,
        verify,
    )
    from kaleidoscope.errors import KaleidoscopeError
    from kaleidoscope.lineage import Lineage
    from kaleidoscope.recipe import Recipe
    from kaleidoscope.splits import audit_names, audit_split

__all__ = [
    "KaleidoscopeError",
    "Lineage",
    "Recipe",
    "audit_folder",
    "audit_names",
    "audit_split",
    "describe",
    "plan",
    "prune",
    "read_manifest",
    "replay_outputs",
    "run",
    "verify",
]

_HOMES = {
    "KaleidoscopeError": "errors",
    "Lineage": "lineage",
    "Recipe": "recipe",
    "audit_folder": "api",
    "audit_names": "splits",
    "audit_split": "splits",
    "describe": "api",
    "plan": "api",
    "prune": "api",
    "read_manifest": "api",
    "replay_outputs": "api",
    "run": "api",
    "verify": "api",
}


def __getattr__(name: str) -> object:
    # Only when it is asked for: the command's --help needs none of OpenCV, pyarrow and the S3
    # client, which take most of a second to load.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
