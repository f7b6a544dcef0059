"""Makes a large image data set from a small one, once, with the lineage of every image.

>>> import kaleidoscope as kd
>>> print(kd.describe(kd.plan("photos/", recipe="classic")))
>>> report = kd.run("photos/", "augmented/", recipe="classic")
>>> rows = kd.read_manifest("augmented/")
"""

from kaleidoscope.api import describe, plan, read_manifest, run
from kaleidoscope.errors import KaleidoscopeError
from kaleidoscope.recipe import Recipe

__all__ = ["KaleidoscopeError", "Recipe", "describe", "plan", "read_manifest", "run"]
