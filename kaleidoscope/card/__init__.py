"""The data set card, and the table by which Hugging Face reads a destination as it is.

Both are derived from the records of committed runs, so they are written after a run's mark of
success, can be written again at any time, and are no part of what makes a run whole. Whoever
starts a run that has nothing left to do writes them if the process that committed died before.
"""

from kaleidoscope.card._publishing import refresh_card, write_card
from kaleidoscope.card._text import cell, code, loading_snippets

__all__ = ["cell", "code", "loading_snippets", "refresh_card", "write_card"]
