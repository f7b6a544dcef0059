"""The command ``kaleidoscope``: the same work as the flows, without a server.

Each module here holds some commands and puts them on the one app; a new module is found without
being listed. A command imports what it calls when it is called, so that ``--help`` and the
completion of the shell, which load all of them, come at once.
"""

import importlib
import pkgutil

from kaleidoscope.cli._app import (
    EXIT_BAD_INPUT,
    EXIT_FOUND_WRONG,
    EXIT_RETRY_CAN_HELP,
    EXIT_TOO_MANY_FAILURES,
    app,
    main,
)

__all__ = [
    "EXIT_BAD_INPUT",
    "EXIT_FOUND_WRONG",
    "EXIT_RETRY_CAN_HELP",
    "EXIT_TOO_MANY_FAILURES",
    "app",
    "main",
]

for _module in pkgutil.iter_modules(__path__):
    if not _module.name.startswith("_"):
        importlib.import_module(f"{__name__}.{_module.name}")
