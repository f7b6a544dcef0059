"""The fields that say what to make: a recipe, and what is changed of it."""

from pathlib import PurePosixPath
from typing import Any, Literal, Self, TypeAlias

from pydantic import ConfigDict, Field, field_validator, model_validator

from flows.form._fields import Fields
from flows.places import Places, is_recipe_text
from kaleidoscope.pipeline import StartOptions
from kaleidoscope.recipe import Recipe, Step, preset_names
from kaleidoscope.targets import BoxFormat
from kaleidoscope.transforms import TRANSFORMS, Bounds, Transform

Existing: TypeAlias = Literal["only-new", "retry-failed", "refuse"]
Format: TypeAlias = Literal["jpeg", "png", "webp", "source"]
Container: TypeAlias = Literal["files", "webdataset"]

NUM_MEASURED = 3
"""Photographs of which all images are made, to see how long a run takes."""


class TransformChoice(Fields):
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


class Selection(Fields):
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


class Images(Fields):
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


class Targets(Fields):
    """What is known of the photographs, and goes with all that is made of them."""

    labels: str | None = Field(
        default=None,
        title="Table of labels",
        description="A .csv, .parquet or .jsonl file in the source with a column file_name, or a "
        "COCO .json. Empty makes folders the labels.",
    )
    masks: str | None = Field(
        default=None,
        title="Folder of masks",
        description="In the source, such as masks: a PNG, TIFF or BMP for each photograph, called "
        "like it.",
    )
    boxes: BoxFormat | None = Field(
        default=None,
        title="Format of boxes",
        description="What the numbers in the table's column objects mean. Empty reads no boxes.",
    )
    min_visibility: float | None = Field(
        default=None,
        ge=0,
        le=1,
        title="Visible share of a box, at least",
        description="0 to 1: a box of which less is left in the frame is dropped. Empty keeps all.",
    )


class Limits(Fields):
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


class RecipeFields(Fields):
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
    shard_minutes: float = Field(
        default=2.0,
        gt=0,
        le=24 * 60,
        title="Minutes of a shard",
        description="CPU minutes, up to 1440: what a crash can cost. A pod costs seconds to start.",
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
    targets: Targets = Field(
        default=Targets(),
        title="Targets",
        description="Labels, masks and boxes of the photographs; masks and boxes move with the "
        "pixels.",
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

    @field_validator("custom_recipe")
    @classmethod
    def _empty_if_blank(cls, recipe: str) -> str:
        return recipe if recipe.strip() else ""

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

    def start_options(self) -> StartOptions:
        """Return how a run is cut, and what it does about what is there already."""
        return StartOptions(
            min_shards=self.replicas,
            shard_s=60 * self.shard_minutes,
            num_measured=NUM_MEASURED,
            retry_failed=self.existing == "retry-failed",
        )

    def to_recipe(self, places: Places) -> Recipe:
        """Return the recipe that the form means; what it leaves empty is the recipe's own.

        Raises:
            RecipeError: If the recipe's text is none, or the whole is out of range.
            StoreError: If its file cannot be read.
        """
        document = self._base(places)
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
            given = {name: x for name, x in values.items() if x is not None}
            document[section] = document.get(section, {}) | given
        if targets := self.targets.model_dump():
            document["targets"] = (document.get("targets") or {}) | targets
        if self.images.seed is not None:
            document["seed"] = self.images.seed
        if self.selection.images_per_class is not None:
            document["balance"] = {"images_per_class": self.selection.images_per_class}
        return Recipe.from_mapping(document, origin="what the form says")

    def _base(self, places: Places) -> dict[str, Any]:
        if self.transforms:
            # Not a recipe yet: without what the form selects of it, it may be too large.
            return {"transforms": [choice.to_document() for choice in self.transforms]}
        recipe = (
            places.recipe(self.custom_recipe) if self.custom_recipe else Recipe.preset(self.recipe)
        )
        return recipe.model_dump(mode="json")
