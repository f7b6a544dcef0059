"""The forms of the flows: every field with its title, a line of help, its range and its default.

A form is a model, and :func:`asks` gives a flow its fields as parameters: Prefect draws them,
refuses wrong values by name when the form is submitted, and again when the run starts. It draws
flat models, closed sets and bounded numbers well, and unions not, so there are none.
"""

import functools
import inspect
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self, TypeAlias, TypeVar
from urllib.parse import unquote, urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    WithJsonSchema,
    field_validator,
    model_serializer,
    model_validator,
)

from flows.places import Places, is_recipe_text
from kaleidoscope.recipe import Recipe, Step, preset_names
from kaleidoscope.settings import Settings
from kaleidoscope.transforms import TRANSFORMS, Bounds, Transform

ExecutionName: TypeAlias = Literal["local", "work-pool"]
Existing: TypeAlias = Literal["only-new", "retry-failed", "refuse"]
Format: TypeAlias = Literal["jpeg", "png", "webp", "source"]
Container: TypeAlias = Literal["files", "webdataset"]
MaintenanceJob: TypeAlias = Literal["verify", "prune"]

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


class _Fields(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, json_schema_extra=_draw
    )

    @model_serializer(mode="wrap")
    def _without_empty(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is empty, since the page sends a group back as its default has it."""
        return {name: value for name, value in dump(self).items() if value is not None}


class TransformChoice(_Fields):
    """One transform of the chain."""

    model_config = ConfigDict(title="Transform")

    op: str = Field(
        title="Transform",
        description="What it does is said by `kaleidoscope transforms` and in the documentation.",
        json_schema_extra={"enum": list(TRANSFORMS)},
    )
    copies: int = Field(
        default=1,
        ge=1,
        le=9,
        title="Variants",
        description="How many to draw, 1 to 9: k variants multiply the images by 1 + k.",
    )
    low: float | None = Field(
        default=None,
        title="From",
        description="Low end of the strength, in the transform's unit: -30 for Rotate is degrees. "
        "Empty takes its usual range.",
    )
    high: float | None = Field(
        default=None, title="To", description="High end of the strength, such as 30 for Rotate."
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        Step.model_validate(self.to_document())
        return self

    def to_document(self) -> dict[str, Any]:
        """Return the step as a recipe has it.

        Raises:
            ValueError: If the transform has no strength, and a range is given.
        """
        step: dict[str, Any] = {"name": self.op, "copies": self.copies}
        if (self.low is None and self.high is None) or self.op not in TRANSFORMS:
            return step
        strength = _strength(TRANSFORMS[self.op])
        if strength is None:
            raise ValueError(f"{self.op} is done or not; leave From and To empty")
        name, (low, high) = strength
        ends = (low if self.low is None else self.low, high if self.high is None else self.high)
        # Whole numbers as such, for transforms that count something.
        interval = [int(end) if float(end).is_integer() else end for end in ends]
        return step | {"params": {name: interval}}


def _strength(transform: type[Transform]) -> tuple[str, tuple[float, float]] | None:
    """Return the name and default of a transform's first range, which is its strength."""
    for name, field in transform.model_fields.items():
        if any(isinstance(limit, Bounds) for limit in field.metadata):
            return name, field.default
    return None


class Selection(_Fields):
    """Which images of the tree are written."""

    max_outputs_per_source: int | None = Field(
        default=None,
        ge=1,
        title="Images of each photograph, at most",
        description="A random sample of so many. Empty keeps all.",
    )
    max_depth: int | None = Field(
        default=None,
        ge=1,
        le=26,
        title="Transforms in a chain, at most",
        description="1 to 26. Empty keeps all chains.",
    )
    keep_original: bool = Field(
        default=True,
        title="Write the original, too",
        description="Resized, with no transform. Off leaves it out.",
    )
    images_per_class: int | None = Field(
        default=None,
        ge=1,
        title="Images of each class",
        description="Fill every class, which is a folder, up to so many, evenly over its "
        "photographs. Empty does not balance.",
    )


class Images(_Fields):
    """What the images are like, where not as the recipe has it."""

    format: Format | None = Field(
        default=None,
        title="Format",
        description="Of the images; source keeps each photograph's. Empty takes the recipe's, "
        "which is jpeg.",
    )
    quality: int | None = Field(
        default=None,
        ge=1,
        le=100,
        title="Quality",
        description="Of JPEG and WebP, 1 to 100. Empty takes the recipe's, which is 95.",
    )
    container: Container | None = Field(
        default=None,
        title="Container",
        description="files: an object for each image. webdataset: tars, which cost next to no "
        "requests. Empty takes the recipe's, which is files.",
    )
    side: int | None = Field(
        default=None,
        ge=8,
        le=8192,
        title="Size in pixels",
        description="Side of the images, 8 to 8192. Empty takes the recipe's, which is 400.",
    )
    seed: int | None = Field(
        default=None,
        ge=0,
        lt=2**53,
        title="Seed",
        description="Every random draw follows from it: the same seed, the same images. Empty "
        "takes the recipe's, which is 0.",
    )


class Limits(_Fields):
    """What protects from a slip."""

    max_error_rate: float | None = Field(
        default=None,
        ge=0,
        le=1,
        title="Failed photographs, at most",
        description="A share, 0 to 1: 0.1 is 10 %. If more fail, the run fails in the end; its "
        "images stay. Empty takes the recipe's, which is 0.1.",
    )
    max_images: int | None = Field(
        default=None,
        ge=1,
        title="Images, at most",
        description="Refuse to start if the run would make more. Empty is no limit.",
    )


class _Photographs(_Fields):
    source: str = Field(
        min_length=1,
        title="Source",
        description="Where the photographs are: s3://bucket/prefix, a folder, or "
        "block://name/prefix of an S3 Bucket block. Sub-folders become labels.",
    )
    destination: str = Field(
        min_length=1,
        title="Destination",
        description="Where the images and their manifest go, written in the same ways; not inside "
        "the photographs' folder.",
    )


class _Options(_Fields):
    recipe: str = Field(
        default="classic",
        title="Recipe",
        description="classic: the six original transforms, 64 images each. light: small changes, "
        "32. camera: lens, light and sensor, 128. geometry: only places change, 32.",
        json_schema_extra={"enum": list(preset_names())},
    )
    custom_recipe: str = Field(
        default="",
        title="Recipe of your own",
        description="A .yaml or .json file (s3://bucket/recipe.yaml), or its text. Takes the "
        "place of the recipe above.",
    )
    transforms: list[TransformChoice] = Field(
        default=[],
        max_length=26,
        title="Transforms",
        description="Or list them here, in the order of the chain: n of them make 2ⁿ images of "
        "each photograph. They take the place of the recipe above.",
    )
    images: Images = Field(
        default=Images(),
        title="Images",
        description="What they are like, where not as the recipe has it.",
    )
    replicas: int = Field(
        default=2,
        ge=1,
        le=200,
        title="Replicas",
        description="How many processes or pods work at a time, 1 to 200.",
    )
    existing: Existing = Field(
        default="only-new",
        title="If the destination is not empty",
        description="only-new: make what is missing, and go on where a run was interrupted. "
        "retry-failed: also photographs that failed before. refuse: fail.",
    )
    selection: Selection = Field(
        default=Selection(), title="Selection", description="Which images are written."
    )
    limits: Limits = Field(
        default=Limits(), title="Limits", description="What protects from a slip."
    )

    @field_validator("recipe")
    @classmethod
    def _is_preset(cls, name: str) -> str:
        if name not in preset_names():
            raise ValueError(f"there is no preset {name!r}; there are {', '.join(preset_names())}")
        return name

    @model_validator(mode="after")
    def _one_recipe(self) -> Self:
        if self.custom_recipe and self.transforms:
            raise ValueError(
                "custom_recipe and transforms are both given, and each is a recipe; empty one"
            )
        return self

    @property
    def recipe_name(self) -> str:
        """What the recipe is called in names of runs."""
        if self.transforms:
            return "custom"
        if not self.custom_recipe:
            return self.recipe
        is_text = is_recipe_text(self.custom_recipe)
        return "recipe" if is_text else PurePosixPath(self.custom_recipe.strip()).stem

    def to_recipe(self, places: Places) -> Recipe:
        """Return the recipe that the form means; what it leaves empty is the recipe's own.

        Raises:
            RecipeError: If the recipe's text is none, or the whole is out of range.
            StoreError: If its file cannot be read.
        """
        document = self._base(places).model_dump(mode="json")
        said: dict[str, dict[str, Any]] = {
            "output": {
                "format": self.images.format,
                "quality": self.images.quality,
                "container": self.images.container,
            },
            "normalize": {"side": self.images.side},
            "select": {
                "max_depth": self.selection.max_depth,
                "max_outputs_per_source": self.selection.max_outputs_per_source,
                # On is what the form says where nobody has touched it.
                "keep_original": None if self.selection.keep_original else False,
            },
            "limits": {"max_error_rate": self.limits.max_error_rate},
        }
        for section, values in said.items():
            document[section] |= {name: x for name, x in values.items() if x is not None}
        if self.images.seed is not None:
            document["seed"] = self.images.seed
        if self.selection.images_per_class is not None:
            document["balance"] = {"images_per_class": self.selection.images_per_class}
        return Recipe.from_mapping(document, origin="what the form says")

    def _base(self, places: Places) -> Recipe:
        if self.transforms:
            steps = [choice.to_document() for choice in self.transforms]
            return Recipe.from_mapping({"transforms": steps}, origin="the form's transforms")
        return (
            places.recipe(self.custom_recipe) if self.custom_recipe else Recipe.preset(self.recipe)
        )


class _Access(_Fields):
    aws_credentials: str = Field(
        default="",
        title="AWS credentials",
        description="Name of an AWS Credentials block. Empty takes the usual AWS chain.",
    )
    endpoint_url: str = Field(
        default="",
        title="S3 endpoint",
        description="URL of an S3 server that is not AWS. Empty takes the block's or the "
        "environment's.",
    )

    @field_validator("endpoint_url")
    @classmethod
    def _is_endpoint(cls, url: str) -> str:
        return (Settings(s3_endpoint_url=url).s3_endpoint_url or "") if url else ""

    def places(self) -> Places:
        """Return what opens the stores.

        Raises:
            SettingsError: If a block is missing or a setting is malformed.
        """
        return Places(self.aws_credentials or None, endpoint_url=self.endpoint_url or None)


class _Patience(_Fields):
    wait_minutes: float = Field(
        default=10.0,
        ge=0,
        le=24 * 60,
        title="Patience with another run, in minutes",
        description="How long to wait for one that is at work in this destination, up to 1440. "
        "0 fails at once and names it.",
    )


class _Dispatch(_Patience):
    shard_minutes: float = Field(
        default=2.0,
        gt=0,
        le=24 * 60,
        title="Minutes of a shard",
        description="CPU minutes, up to 1440: what a crash can cost. A pod costs seconds to start.",
    )
    pending_limit_s: float = Field(
        default=300.0,
        gt=0,
        le=24 * 3600,
        title="Patience with a start, in seconds",
        description="A shard's run that gets no pod for so long is given up, and another started.",
    )
    shard_time_limit_s: float = Field(
        default=3600.0,
        gt=0,
        le=24 * 3600,
        title="Patience with a shard, in seconds",
        description="The same for one that takes longer to do its shard.",
    )
    execution: ExecutionName = Field(
        default="local",
        title="Where shards run",
        description="work-pool: each as a run of the shard deployment. local: inside this run.",
    )
    shard_deployment: str = Field(
        default="augment-shard/process",
        min_length=3,
        title="Shard deployment",
        description="Its flow and name; set by the deployment.",
    )


def run_title(source: str, recipe_name: str) -> str:
    """Return what a run is called in lists: the data set's folder and the recipe's name."""
    path = PurePosixPath(unquote(urlsplit(source).path) or "/")
    return f"{path.name or urlsplit(source).netloc or 'images'}-{recipe_name}"


# Fields are drawn in the order of the bases, the last one first.
class AugmentForm(_Dispatch, _Access, _Options, _Photographs):
    """What a run is asked to do."""


class _Previewed(_Photographs):
    destination: str = Field(
        default="",
        title="Destination",
        description="Where images would go. What is done there is left out of the plan; nothing is "
        "written. Empty plans for a destination that is empty.",
    )
    image: str = Field(
        default="",
        title="Photograph",
        description="The one to show: its path below the source, or its full s3://bucket/key. "
        "Empty takes the first that can be read.",
    )


class PreviewForm(_Access, _Options, _Previewed):
    """What is to be shown: the form of a run, of which nothing is made."""


class _Maintained(_Fields):
    destination: str = Field(
        min_length=1,
        title="Destination",
        description="Where the images and their manifest are: s3://bucket/prefix, a folder, or "
        "block://name/prefix of an S3 Bucket block.",
    )
    job: MaintenanceJob = Field(
        default="verify",
        title="What to do",
        description="verify: compare every image with the manifest, and fail if something is "
        "wrong. prune: find images whose photograph went away, was replaced or failed.",
    )
    sample: float = Field(
        default=1.0,
        ge=0,
        le=1,
        title="verify: share of the images to read",
        description="0 to 1: 0.01 reads every hundredth and compares its hash; 0 only looks "
        "whether all are there with their size.",
    )
    replay: bool = Field(
        default=False,
        title="verify: make them again",
        description="Make the images that are read from their photographs again, and compare.",
    )
    delete: bool = Field(
        default=False,
        title="prune: delete",
        description="Off says what would go and touches nothing. On deletes it, for good.",
    )


class MaintainForm(_Patience, _Access, _Maintained):
    """What is to be done with a data set."""


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
