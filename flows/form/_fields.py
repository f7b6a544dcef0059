"""What all forms are made of: fields that Prefect draws as they are meant."""

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    WithJsonSchema,
    model_serializer,
)

_Form = TypeVar("_Form", bound=BaseModel)
_Result = TypeVar("_Result")


def _draw(schema: dict[str, Any]) -> None:
    """Turn a model's schema into one that Prefect draws as it is meant.

    An optional value of a group becomes a plain field that may stay empty, and fields keep their
    order, which PostgreSQL would change. At the top level Prefect sends defaults back, so none is
    null there: it would be refused.
    """
    for position, field in enumerate(schema.get("properties", {}).values()):
        field["position"] = position
        if "anyOf" in field:
            field.update(next(kind for kind in field.pop("anyOf") if kind != {"type": "null"}))
            del field["default"]


class Fields(BaseModel):
    """A group of fields, or a whole form."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, json_schema_extra=_draw
    )

    @model_serializer(mode="wrap")
    def _without_empty(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is empty, since the page sends a group back as its default has it."""
        return {name: value for name, value in dump(self).items() if value is not None}


def asks(
    form: type[_Form],
) -> Callable[[Callable[[_Form], _Result]], Callable[..., _Result]]:
    """Return a decorator that gives a function of a form the form's fields as parameters."""
    drawn = form.model_json_schema()["properties"]
    parameters = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.is_required() else field.default,
            annotation=_annotation(form, name, drawn[name]),
        )
        for name, field in form.model_fields.items()
    ]

    def decorate(function: Callable[[_Form], _Result]) -> Callable[..., _Result]:
        @functools.wraps(function)
        def call(**values: Any) -> _Result:
            return function(form(**values))

        # Prefect would ask what is wrapped for its signature.
        del call.__wrapped__
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined] # as typing has none.
        return call

    return decorate


def _annotation(form: type[BaseModel], name: str, drawn: dict[str, Any]) -> Any:
    """Return a field's type with its bounds and, beside Prefect's own schema, title and help."""
    field = form.model_fields[name]
    texts = Field(json_schema_extra={"title": field.title, "description": field.description})
    is_flat = "$ref" not in str(drawn)
    schema = [WithJsonSchema(drawn)] if is_flat else []
    return Annotated[(field.annotation, *field.metadata, *schema, texts)]
