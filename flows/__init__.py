"""The Prefect flows: a thin skin over the kaleidoscope library."""
