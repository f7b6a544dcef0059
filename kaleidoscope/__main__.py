"""``python -m kaleidoscope`` is the command ``kaleidoscope``."""

from kaleidoscope.cli import main

main()
