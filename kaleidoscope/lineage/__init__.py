"""Read what committed runs made: rows, walks between them, and splits that cannot leak."""

from kaleidoscope.lineage._reader import Lineage, read_manifest
from kaleidoscope.lineage._rows import Filter
from kaleidoscope.lineage._splitting import saved_names
from kaleidoscope.lineage._walks import Output, Step, Wanted

__all__ = ["Filter", "Lineage", "Output", "Step", "Wanted", "read_manifest", "saved_names"]
