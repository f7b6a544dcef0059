"""Read what committed runs made: rows, walks between them, and splits that cannot leak."""

from kaleidoscope.lineage._reader import Filter, Lineage, Step, read_manifest

__all__ = ["Filter", "Lineage", "Step", "read_manifest"]
