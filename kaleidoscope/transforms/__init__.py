"""The transforms, one module each; a new module here is found without being listed.

A module holds the kernel, the operation that carries its drawn parameters, and the transform
that says from which ranges a recipe may draw them.
"""

import dataclasses
import importlib
import pkgutil
from collections.abc import Mapping
from types import MappingProxyType

from kaleidoscope.errors import TransformError
from kaleidoscope.transforms._base import (
    Bounds,
    Interval,
    Operation,
    ParamValue,
    TargetKind,
    Transform,
    as_mask,
)

__all__ = [
    "TRANSFORMS",
    "Bounds",
    "Interval",
    "Operation",
    "ParamValue",
    "TargetKind",
    "Transform",
    "as_mask",
    "load_operation",
]


def _discover() -> Mapping[str, type[Transform]]:
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    # Transform itself is abstract; only its subclasses are ever instantiated.
    return MappingProxyType({cls.__name__: cls for cls in _leaves(Transform)})  # type: ignore[type-abstract]


def _leaves(cls: type[Transform]) -> list[type[Transform]]:
    subclasses = sorted(cls.__subclasses__(), key=lambda subclass: subclass.__name__)
    return [leaf for sub in subclasses for leaf in (_leaves(sub) or [sub])]


TRANSFORMS: Mapping[str, type[Transform]] = _discover()
"""Every transform by the name that recipes and manifests call it."""


def load_operation(name: str, version: int, params: Mapping[str, ParamValue]) -> Operation:
    """Return the operation that a manifest recorded.

    Args:
        name: The transform's name.
        version: The transform's version when the parameters were recorded.
        params: The recorded parameters; JSON lists are taken for tuples.

    Raises:
        TransformError: If there is no such transform, if its version is another one now, or if
            the parameters are not this operation's.
    """
    transform = TRANSFORMS.get(name)
    if transform is None:
        raise TransformError(f"no transform is called {name!r}; there are {', '.join(TRANSFORMS)}")
    if transform.version != version:
        raise TransformError(
            f"{name} was recorded in version {version} and is {transform.version} here; "
            "replay it with the Kaleidoscope release that the manifest row names"
        )
    expected = [field.name for field in dataclasses.fields(transform.operation)]
    if sorted(params) != sorted(expected):
        raise TransformError(f"{name} takes the parameters {expected}, got {sorted(params)}")
    return transform.operation(
        **{key: tuple(value) if isinstance(value, list) else value for key, value in params.items()}
    )
