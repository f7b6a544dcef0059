"""What a transform is: ranges that a recipe gives, and operations sampled from them.

``Transform.sample(rng)`` returns an :class:`Operation`, a frozen dataclass of plain values.
``Operation.apply(image)`` draws nothing, so what the manifest records of an operation is all
that is needed to apply it again.
"""

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
from cv2.typing import MatLike
from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    field_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from kaleidoscope.errors import TransformError
from kaleidoscope.model import BgrImage, Mask
from kaleidoscope.transforms._edges import Points

ParamValue: TypeAlias = float | int | str | bool | tuple[float, ...]
Interval: TypeAlias = tuple[float, float]
"""The lowest and the highest value that may be drawn, both included."""

TargetKind: TypeAlias = Literal["masks", "boxes"]
"""What a data set may have of its sources that a transform has to move with their pixels."""

IntInterval: TypeAlias = tuple[int, int]
"""An :data:`Interval` of whole numbers."""


@dataclasses.dataclass(frozen=True, slots=True)
class Operation(ABC):
    """A transform with its parameters drawn.

    Subclasses are frozen dataclasses with slots whose fields are numbers, strings, booleans or
    tuples of numbers: what JSON can hold and give back unchanged.
    """

    @abstractmethod
    def apply(self, image: BgrImage) -> BgrImage:
        """Return a new image; ``image``, ``(H, W, 3)`` uint8 BGR, is left untouched.

        Raises:
            TransformError: If the operation cannot be applied to an image of this shape.
        """

    def apply_mask(self, mask: Mask) -> Mask:
        """Return the mask of the new image, without values that ``mask`` has not.

        Here the mask as it is, which is right where no pixel changes its place.

        Args:
            mask: Of the size of the image.
        """
        return mask

    def apply_points(self, points: Points, *, width: int, height: int) -> Points:
        """Return where points of the image are in the new one, inside its frame or not.

        Here the points as they are, which is right where no pixel changes its place.

        Args:
            points: ``(N, 2)`` float64, x and y in pixels, between pixel edges: the image reaches
                from (0, 0) to (width, height).
            width: Of the image in pixels, at least 1.
            height: Of the image in pixels, at least 1.
        """
        del width, height
        return points

    def output_size(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height of the new image in pixels."""
        return width, height

    def params(self) -> Mapping[str, ParamValue]:
        """Return the drawn values by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


class Transform(BaseModel, ABC):
    """Ranges of parameters, as a recipe gives them.

    The class name is the transform's name in recipes and manifests. Raise ``version`` when the
    same parameters come to mean other pixels: the version seeds the draws and is recorded.
    Subclasses set the class variables by plain assignment, ``operation = Rotated``; with an
    annotation they would be fields.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    operation: ClassVar[type[Operation]]
    """What :meth:`sample` returns and what a manifest's parameters are given back to."""

    version: ClassVar[int] = 1

    cost_ns_per_pixel: ClassVar[float]
    """CPU nanoseconds per pixel as `make bench` measured them; `plan` orders by it."""

    geometric: ClassVar[bool] = False
    """Whether pixels change places, so that masks and boxes have to follow."""

    cannot_move: ClassVar[frozenset[TargetKind]] = frozenset()
    """What its operation cannot take along: it is refused for data sets that have it."""

    @field_validator("*", mode="before")
    @classmethod
    def _list_to_tuple(cls, value: Any) -> Any:
        """YAML and JSON have lists, no tuples."""
        return tuple(value) if isinstance(value, list) else value

    @abstractmethod
    def sample(self, rng: np.random.Generator) -> Operation:
        """Draw an operation from the ranges."""


@dataclasses.dataclass(frozen=True, slots=True)
class Bounds:
    """Says in an annotation which intervals a field takes: ``Annotated[Interval, Bounds(0, 1)]``.

    A single number is taken for the interval that holds it alone.
    """

    low: float
    high: float
    unit: str = ""

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Check after pydantic has read a pair of numbers."""
        widened = core_schema.no_info_before_validator_function(_widen, handler(source))
        return core_schema.no_info_after_validator_function(self._check, widened)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Put the bounds on both numbers of the pair, where a form looks for them."""
        interval = handler(schema)
        for number in interval["prefixItems"]:
            number |= {"minimum": self.low, "maximum": self.high}
        return interval

    def _check(self, interval: Interval) -> Interval:
        low, high = interval
        if not self.low <= low <= high <= self.high:
            raise PydanticCustomError(
                "interval",
                "must be [low, high] with {low} <= low <= high <= {high}{unit}",
                {"low": self.low, "high": self.high, "unit": self.unit and f" {self.unit}"},
            )
        return interval


def _widen(value: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return (value, value) if is_number else value


def uniform(rng: np.random.Generator, interval: Interval) -> float:
    """Draw a number from ``interval``."""
    return float(rng.uniform(*interval))


def uniform_int(rng: np.random.Generator, interval: IntInterval) -> int:
    """Draw a whole number from ``interval``, its ends as likely as the rest."""
    return int(rng.integers(*interval, endpoint=True))


def check_within(
    what: str, value: float, *, low: float = -math.inf, high: float = math.inf
) -> None:
    """Refuse a recorded parameter that no transform can have drawn.

    Args:
        what: The parameter in the words of the message.
        value: Finite and in ``[low, high]`` if it is to pass.
        low: The least that is allowed.
        high: The most that is allowed.

    Raises:
        TransformError: If ``value`` is out of range, infinite or NaN.
    """
    if not (math.isfinite(value) and low <= value <= high):
        raise TransformError(f"{what} must be finite and in [{low}, {high}], got {value}")


def as_mask(pixels: MatLike, like: Mask) -> Mask:
    """Give OpenCV's result the type that the mask had; nothing is copied."""
    if like.dtype == np.uint16:
        return pixels.astype(np.uint16, copy=False)
    return pixels.astype(np.uint8, copy=False)


def as_image(pixels: MatLike) -> BgrImage:
    """Give OpenCV's result the type that it has; nothing is copied.

    OpenCV's stubs promise an array of any number, while its functions keep uint8 as uint8.
    """
    return pixels.astype(np.uint8, copy=False)
