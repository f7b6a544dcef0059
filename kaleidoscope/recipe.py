"""The recipe: which transforms, in which ranges and order, and which nodes of their tree to keep.

A recipe comes from outside as YAML or JSON, so it is read strictly: an unknown field, a value out
of range or a transform that does not exist is a :class:`~kaleidoscope.errors.RecipeError` that
names the field, the value and what is possible, before any image is read.
"""

import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import numpy as np
import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from kaleidoscope.documents import parse_yaml
from kaleidoscope.errors import RecipeError
from kaleidoscope.targets import BoxFormat
from kaleidoscope.transforms import TRANSFORMS, TargetKind, Transform

_TRIES = 16
"""Draws of a transform that are compared to see whether it draws anything."""

LETTERS = "abcdefghijklmnopqrstuvwxyz"
"""Names of the steps: the first transform is ``a``. They bound the number of steps."""

NodePattern = Annotated[str, Field(min_length=1, pattern=r"^[a-z0-9*?\[\]!-]+$")]


class _Strict(BaseModel):
    # Strict: YAML reads `copies: yes` as a boolean, which would pass for the number 1.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


class Step(_Strict):
    """One transform of the list, with its ranges."""

    name: str = Field(description="Name of the transform, for example Rotate.")
    copies: int = Field(
        default=1, ge=1, le=9, description="How many variants to draw; k copies multiply by 1 + k."
    )
    params: SerializeAsAny[Transform] = Field(
        default=None, validate_default=True, description="Ranges of the transform's parameters."
    )
    not_for: tuple[str, ...] = Field(
        default=(),
        strict=False,
        description="Labels of sources that it must not change, such as left where it flips; "
        "no node with it is made of them.",
    )

    @model_validator(mode="before")
    @classmethod
    def _from_bare_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in TRANSFORMS:
            raise PydanticCustomError(
                "transform",
                "there is no transform of this name{guess}; there are {names}",
                {"names": ", ".join(TRANSFORMS), "guess": _guess(name, TRANSFORMS)},
            )
        return name

    @field_validator("params", mode="plain")
    @classmethod
    def _params_of_the_transform(cls, value: Any, info: ValidationInfo) -> Any:
        if "name" not in info.data:  # The unknown name has been reported already.
            return value
        # A ValidationError raised here keeps its own path below this field's.
        return TRANSFORMS[info.data["name"]].model_validate({} if value is None else value)

    @model_validator(mode="after")
    def _copies_differ(self) -> Self:
        draws = (self.params.sample(np.random.default_rng(seed)) for seed in range(_TRIES))
        if self.copies > 1 and len(set(map(repr, draws))) == 1:
            raise PydanticCustomError(
                "copies",
                "copies: {name} draws nothing by chance here, so that all {copies} would be the "
                "same image; leave copies away, or give its parameters a range",
                {"name": self.name, "copies": self.copies},
            )
        return self


class Normalize(_Strict):
    """What happens to a source before the first transform."""

    mode: Literal["square_crop", "fit", "none"] = Field(
        default="square_crop",
        description="square_crop: a random square of the shorter side, resized. "
        "fit: the longer side resized, nothing cropped. none: as it is.",
    )
    side: int = Field(default=400, ge=8, le=8192, description="Side of the result in pixels.")


class Output(_Strict):
    """How outputs are encoded."""

    format: Literal["jpeg", "png", "webp", "source"] = Field(
        default="jpeg", description="File format; source: the format of each source image."
    )
    quality: int = Field(default=95, ge=1, le=100, description="JPEG and WebP quality.")
    container: Literal["files", "webdataset"] = Field(
        default="files",
        description="files: an object for each image. webdataset: tars of images, each beside a "
        "JSON file with its label; a PUT for hundreds of images.",
    )


class Select(_Strict):
    """Which nodes of the tree become outputs; the others are computed only if one needs them."""

    max_depth: int | None = Field(
        default=None, ge=1, le=26, description="At most so many transforms in a chain."
    )
    include: tuple[NodePattern, ...] = Field(
        default=(),
        strict=False,
        description="Keep only nodes that match one of these, for example a* or ?f.",
    )
    exclude: tuple[NodePattern, ...] = Field(
        default=(), strict=False, description="Leave out nodes that match one of these."
    )
    max_outputs_per_source: int | None = Field(
        default=None, ge=1, description="Keep a random sample of so many nodes of each source."
    )
    keep_original: bool = Field(
        default=True, description="Write the normalised source itself, the node called root."
    )


class Balance(_Strict):
    """How many images every class is to have; a class is a folder of sources, or their label."""

    images_per_class: int = Field(
        ge=1,
        description="Images of every class, those of earlier runs counted. A class is filled up "
        "evenly over its sources, and stays short if their trees hold fewer.",
    )
    max_per_source: int | None = Field(
        default=None, ge=1, description="Images of one source at most, however small its class is."
    )


class Targets(_Strict):
    """What is known of sources beside their pixels, and goes with all that is made of them."""

    labels: str | None = Field(
        default=None,
        pattern=r"^[^/].*\.(csv|parquet|jsonl|json)$",
        description="Key of a table in the source prefix with a column file_name, a key as well. "
        "Its column label replaces the folder's name; the others become attributes. A .json file "
        "is taken for COCO's.",
    )
    masks: str | None = Field(
        default=None,
        pattern=r"^[^/]+(/[^/]+)*$",
        description="Folder in the source prefix with a mask for each source: PNG, TIFF or BMP, "
        "called as the source but for the extension. Masks of outputs go into a folder of this "
        "name.",
    )
    boxes: BoxFormat | None = Field(
        default=None,
        description="What the four numbers of a box mean in the table's column objects, and in "
        "the manifest: coco, pascal_voc or yolo.",
    )
    min_visibility: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Drop a box of whose area a smaller share is left in the frame.",
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.labels is None and self.masks is None:
            raise PydanticCustomError("targets", "must name labels or masks")
        if self.boxes is not None and self.labels is None:
            raise PydanticCustomError(
                "targets", "boxes come from the column objects of a table; name it in labels"
            )
        if self.labels is not None and self.labels.endswith(".json") and self.boxes != "coco":
            raise PydanticCustomError("targets", "a .json file is COCO's and has boxes: coco")
        return self


class Limits(_Strict):
    """What protects a run from a slip; no limit changes what an output looks like."""

    max_nodes: int = Field(
        default=4096, ge=1, le=65536, description="Refuse a tree of more nodes for each source."
    )
    max_pixels: int = Field(
        default=100_000_000,
        ge=1,
        le=2**30,
        description="Fail a source with more pixels, before it is decoded.",
    )
    max_error_rate: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Fail the run, after its commit, if a larger share of sources failed.",
    )


class Recipe(_Strict):
    """An ordered list of transforms and all else that decides what the outputs are."""

    transforms: tuple[Step, ...] = Field(
        min_length=1,
        max_length=len(LETTERS),
        strict=False,  # YAML has lists, no tuples.
        description="The steps, in the order of the chain.",
    )
    order: Literal["given", "shuffled"] = Field(
        default="given",
        description="given: the same chain order for every source. shuffled: a random order for "
        "each source, recorded.",
    )
    normalize: Normalize = Normalize()
    output: Output = Output()
    select: Select = Select()
    balance: Balance | None = Field(
        default=None, description="A number of images for each class; empty makes every node."
    )
    targets: Targets | None = Field(
        default=None,
        description="Labels, masks and boxes; empty makes folders the labels.",
    )
    limits: Limits = Limits()
    seed: int = Field(default=0, ge=0, lt=2**53, description="Every random draw follows from it.")

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.num_nodes > self.limits.max_nodes:
            raise PydanticCustomError(
                "tree",
                "the tree has {nodes} nodes for each source, more than limits.max_nodes = "
                "{limit}; take transforms or copies away, set select.max_depth, or raise the limit",
                {"nodes": self.num_nodes, "limit": self.limits.max_nodes},
            )
        if self.balance is not None and self.select.max_outputs_per_source is not None:
            raise PydanticCustomError(
                "tree",
                "balance and select.max_outputs_per_source both choose a number of nodes; give "
                "balance.max_per_source instead of the latter",
            )
        self._check_targets()
        return self

    def _check_targets(self) -> None:
        for step in self.transforms:
            for kind in sorted(self.target_kinds & step.params.cannot_move):
                raise PydanticCustomError(
                    "tree",
                    "{name} cannot move {kind} with the pixels; take it out of transforms, or "
                    "targets.{kind} away",
                    {"name": step.name, "kind": kind},
                )

    @property
    def forbidden_labels(self) -> frozenset[str]:
        """Labels for which some step is not."""
        return frozenset(label for step in self.transforms for label in step.not_for)

    @property
    def target_kinds(self) -> frozenset[TargetKind]:
        """What sources have that moves with their pixels."""
        kinds: tuple[TargetKind, ...] = get_args(TargetKind)
        targets = self.targets
        return frozenset(k for k in kinds if targets is not None and getattr(targets, k))

    @property
    def masks_folder(self) -> str | None:
        """Folder of the source prefix that has masks and no sources."""
        return None if self.targets is None else self.targets.masks

    @property
    def num_nodes(self) -> int:
        """Nodes of the tree down to ``select.max_depth``, the root among them.

        The numbers of chains by length are the coefficients of the product of (1 + copies * x).
        """
        by_depth = [1]
        for step in self.transforms:
            longer = [step.copies * count for count in by_depth]
            by_depth = [a + b for a, b in zip([*by_depth, 0], [0, *longer], strict=True)]
        deepest = self.select.max_depth
        return sum(by_depth if deepest is None else by_depth[: deepest + 1])

    def copy_names(self, step: int) -> tuple[str, ...]:
        """Return what the copies of a step are called in node names: ``a``, or ``a1``, ``a2``."""
        letter, copies = LETTERS[step], self.transforms[step].copies
        if copies == 1:
            return (letter,)
        return tuple(f"{letter}{copy}" for copy in range(1, copies + 1))

    @property
    def versions(self) -> tuple[int, ...]:
        """The versions in which the steps' transforms are installed here."""
        return tuple(TRANSFORMS[step.name].version for step in self.transforms)

    @property
    def digest(self) -> str:
        """16 hex digits that differ between recipes that make different outputs.

        Limits are left out, since they do not change an output; versions of the transforms are in.
        """
        # A field that came later is left out where it is not used, so that old digests stand.
        unused = {name for name in ("balance", "targets") if getattr(self, name) is None}
        document: dict[str, Any] = self.model_dump(mode="json", exclude={"limits", *unused})
        if self.targets is not None:
            document["targets"] = self.targets.model_dump(mode="json", exclude_defaults=True)
        for step in document["transforms"]:
            if not step["not_for"]:
                del step["not_for"]
        if self.output.container == "files":
            del document["output"]["container"]
        document["versions"] = list(self.versions)
        text = json.dumps(document, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_yaml(self) -> str:
        """Return the recipe with every default written out; :meth:`from_text` reads it back."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)

    @classmethod
    def from_text(cls, text: str, *, origin: str = "recipe") -> Self:
        """Read a recipe from YAML, of which JSON is a part.

        Args:
            text: The document.
            origin: What to call it in an error, for example its path.

        Raises:
            RecipeError: If it is no YAML, or has a wrong or unknown field.
        """
        return cls.from_mapping(parse_yaml(text, origin=origin), origin=origin)

    @classmethod
    def from_mapping(cls, document: Any, *, origin: str = "recipe") -> Self:
        """Read a recipe from what a YAML or JSON parser returned.

        Args:
            document: The parsed document.
            origin: What to call it in an error.

        Raises:
            RecipeError: If it has a wrong or unknown field.
        """
        if not isinstance(document, Mapping):
            raise RecipeError(
                f"{origin} must be a mapping with a field 'transforms', got {document!r:.80}"
            )
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            raise RecipeError(f"{origin} is not a recipe:\n{_explain(error, document)}") from error

    @classmethod
    def preset(cls, name: str) -> Self:
        """Return a recipe that ships with Kaleidoscope.

        Args:
            name: One of :func:`preset_names`.

        Raises:
            RecipeError: If there is none of this name.
        """
        if name not in preset_names():
            raise RecipeError(
                f"no preset is called {name!r}{_guess(name, preset_names())}; there are "
                f"{', '.join(preset_names())}"
            )
        text = (_PRESETS / f"{name}.yaml").read_text("utf-8")
        return cls.from_text(text, origin=f"preset {name}")


_PRESETS = resources.files("kaleidoscope") / "presets"


def preset_names() -> tuple[str, ...]:
    """Return the names of the recipes that ship with Kaleidoscope."""
    names = (entry.name for entry in _PRESETS.iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml")))


def load_recipe(
    recipe: Recipe | str | Path | Mapping[str, Any], *, seed: int | None = None
) -> Recipe:
    """Return a recipe by what a user calls it.

    Args:
        recipe: The name of a preset, or the path of a YAML or JSON file, or what such a file says;
            a recipe is returned as it is. A path has a slash or an extension, so no preset hides a
            file.
        seed: Takes the place of the recipe's, in ``[0, 2**53)``.

    Raises:
        RecipeError: If there is no such preset or file, or it is not a recipe.
    """
    match recipe:
        case Recipe():
            loaded = recipe
        case Mapping():
            loaded = Recipe.from_mapping(recipe)
        case _:
            loaded = _find_recipe(recipe)
    if seed is None:
        return loaded
    return Recipe.from_mapping(loaded.model_dump(mode="json") | {"seed": seed})


def _find_recipe(name: str | Path) -> Recipe:
    path = Path(name)
    if isinstance(name, str) and path.name == name and not path.suffix:
        return Recipe.preset(name)
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"cannot read the recipe {name}: {error}") from error
    return Recipe.from_text(text, origin=str(name))


def _explain(error: ValidationError, document: Any) -> str:
    details = error.errors(include_url=False)
    # A list whose items are wrong is reported as too short as well: say only what is inside.
    inner = {loc[:end] for loc in (d["loc"] for d in details) for end in range(len(loc))}
    return "\n".join(
        f"  {d['msg']}"
        if d["type"] == "tree"
        else f"  {_path(d['loc'])}: {_message(d, document)}, got {_shorten(d['input'])}"
        for d in details
        if d["loc"] not in inner or len(details) == 1
    )


_BOUNDS = {"ge": "at least {}", "gt": "more than {}", "le": "at most {}", "lt": "less than {}"}


_NODE_PATTERN = "must be a pattern of node names in small letters, such as a* or ?f"
_PATTERNS: Mapping[tuple[int | str, ...], str] = {
    ("targets", "labels"): "must be a file below the source that ends in .csv, .parquet, .jsonl "
    "or .json, such as labels.csv",
    ("targets", "masks"): "must be a folder below the source, without a slash at either end, "
    "such as masks",
}


def _message(details: ErrorDetails, document: Any) -> str:
    """Say what is wanted, with all that the field's model knows of it."""
    model = _model_at(details["loc"][:-1], document)
    name = str(details["loc"][-1]) if details["loc"] else ""
    if details["type"] == "extra_forbidden" and model is not None:
        fields = model.model_fields
        hint = "; ranges stand under params" if model is Step else ""
        possible = f"there are {', '.join(fields)}" if fields else "there are none"
        return f"no such field{_guess(name, fields)}; {possible}{hint}"
    if model is not None and details["type"].startswith(("greater_than", "less_than")):
        metadata = model.model_fields[name].metadata if name in model.model_fields else []
        bounds = [
            text.format(getattr(limit, bound))
            for limit in metadata
            for bound, text in _BOUNDS.items()
            if getattr(limit, bound, None) is not None
        ]
        if bounds:
            return f"must be {' and '.join(bounds)}"
    if details["type"] == "string_pattern_mismatch":
        return _PATTERNS.get(details["loc"], _NODE_PATTERN)
    # What pydantic calls a tuple is a list to whoever writes YAML.
    return re.sub("[Tt]uple", "list", details["msg"])


def _model_at(location: tuple[int | str, ...], document: Any) -> type[BaseModel] | None:
    """Return the model that reads the part of a document at a location."""
    match location:
        case ():
            return Recipe
        case ("transforms", int()):
            return Step
        case ("transforms", int(index), "params"):
            step = document["transforms"][index]
            return TRANSFORMS.get(step["name"])
        case (str(section),) if section in Recipe.model_fields:
            annotation = Recipe.model_fields[section].annotation
            models = (annotation, *get_args(annotation))  # One may be left out: Model | None.
            return next((model for model in models if isinstance(model, type(BaseModel))), None)
    return None


def _guess(name: str, names: Iterable[str]) -> str:
    """Say which of the names was probably meant, if one is near."""
    by_lower = {known.lower(): known for known in names}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1)
    return f"; did you mean {by_lower[near[0]]}?" if near else ""


def _path(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path.removeprefix(".") or "recipe"


def _shorten(value: Any) -> str:
    try:
        text = json.dumps(value, default=str)
    except (TypeError, ValueError, RecursionError):  # A key that is no string, or a YAML cycle.
        text = repr(value)
    longest = 80
    return text if len(text) <= longest else f"{text[:longest]}…"
