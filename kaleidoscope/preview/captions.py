"""Say in a few words what an operation did: its name and the one parameter that tells most."""

import re
from collections.abc import Callable, Mapping

from kaleidoscope.recipe import LETTERS, Step
from kaleidoscope.transforms import Operation, ParamValue
from kaleidoscope.tree import ROOT, Applied

_MINUS = "\N{MINUS SIGN}"
_LABEL = re.compile(r"[a-z]\d*")


def _signed(value: float) -> str:
    sign = _MINUS if round(value) < 0 else "+"
    return f"{sign}{abs(round(value))}"


def _degrees(value: float) -> str:
    return f"{round(value)}°".replace("-", _MINUS)


def _times(value: float) -> str:
    return f"\N{MULTIPLICATION SIGN}{value:.2f}"


def _percent(value: float) -> str:
    return f"{100 * value:.3g} %"


# By the name of the field. An operation is told by its first field that stands here, so a new
# transform that names its fields as the others do needs no entry.
_PHRASES: Mapping[str, Callable[[float], str]] = {
    "angle_deg": _degrees,
    "rotate_deg": _degrees,
    "shift_deg": _degrees,
    "quarter_turns": lambda value: _degrees(90 * value),
    "gain": _times,
    "scale": _times,
    "offset": _signed,
    "sigma": lambda value: f"{value:.1f} px",
    "length": lambda value: f"{value} px",
    "std": lambda value: f"\N{GREEK SMALL LETTER SIGMA} {value:.2g}",
    "quality": lambda value: f"q {value}",
    "gamma_percent": lambda value: f"\N{GREEK SMALL LETTER GAMMA} {value / 100:.2f}",
    "area": _percent,
    "salt": _percent,
    "alpha": _percent,
}


def describe(applied: Applied[Operation]) -> str:
    """Return for example ``Rotate 37°``, ``Brightness +42`` or ``Noise salt and pepper``."""
    told = _tell(applied.operation.params())
    return f"{applied.name} {told}" if told else applied.name


def describe_ranges(step: Step) -> str:
    """Return what a recipe lets a step draw from, for example ``gain 0.5 to 2``."""
    ranges = (
        f"{name.replace('_', ' ')} {_number(value[0])} to {_number(value[1])}"
        for name, value in step.params
        if isinstance(value, tuple) and all(isinstance(item, int | float) for item in value)
    )
    copies = [f"{step.copies} copies"] if step.copies > 1 else []
    return ", ".join([*copies, *ranges])


def step_of(label: str) -> int:
    """Return the index into the recipe of the step that ``label``, ``a`` or ``a2``, names."""
    return LETTERS.index(label[0])


def labels_of(node: str) -> tuple[str, ...]:
    """Return the labels that a node's name is made of, for example ``a2`` and ``c1``."""
    return () if node == ROOT else tuple(_LABEL.findall(node))


def _tell(params: Mapping[str, ParamValue]) -> str:
    for name, value in params.items():
        if name == "kind":
            return str(value).replace("_and_", " & ").replace("_", " ")
        if name in _PHRASES and isinstance(value, int | float):
            return _PHRASES[name](value)
    numbers = (
        value
        for name, value in params.items()
        if isinstance(value, int | float) and not name.endswith("seed")
    )
    return next((_number(value) for value in numbers), "")


def _number(value: float) -> str:
    return f"{value:.3g}".replace("-", _MINUS)
