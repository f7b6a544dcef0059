"""Makes a large image data set from a small one, once, with the lineage of every image.

>>> import kaleidoscope as kd
>>> print(kd.describe(kd.plan("photos/", recipe="classic")))
>>> report = kd.run("photos/", "augmented/", recipe="classic")
>>> lineage = kd.Lineage.open("augmented/")
>>> rows = lineage.split(train=0.8, val=0.1, test=0.1)
"""

from kaleidoscope.api import describe, plan, read_manifest, run
from kaleidoscope.errors import KaleidoscopeError
from kaleidoscope.lineage import Lineage
from kaleidoscope.recipe import Recipe
from kaleidoscope.splits import audit_names, audit_split

__all__ = [
    "KaleidoscopeError",
    "Lineage",
    "Recipe",
    "audit_names",
    "audit_split",
    "describe",
    "plan",
    "read_manifest",
    "run",
]
