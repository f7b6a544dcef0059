"""The form: what it draws, what it refuses, and the recipe that it means."""

import json
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped] # It has no types.
import pytest
from prefect.exceptions import ParameterTypeError
from prefect.utilities.callables import parameter_schema
from pydantic import ValidationError

from flows.augment import augment, refuse_too_many
from flows.form import AugmentForm, MaintainForm, PreviewForm, run_title
from flows.places import Places
from kaleidoscope.errors import PlanError, RecipeError
from kaleidoscope.pipeline import StartOptions, make_plan
from kaleidoscope.recipe import Recipe, preset_names
from kaleidoscope.transforms import TRANSFORMS
from tests import data_sets

TEXT = "transforms: [Rotate]\nseed: 7"
WHERE = {"source": "photos", "destination": "out"}


def drawn() -> dict[str, Any]:
    """The schema that Prefect's UI draws the form from."""
    schema: dict[str, Any] = json.loads(json.dumps(parameter_schema(augment).model_dump()))
    return schema


def recipe_of(**fields: Any) -> Recipe:
    return AugmentForm(**{**WHERE, **fields}).to_recipe(Places(None))


def test_only_source_and_destination_must_be_filled_in() -> None:
    assert drawn()["required"] == ["source", "destination"]


def test_every_field_has_a_title_a_line_of_help_and_its_place() -> None:
    schema = drawn()
    groups = {"the form": schema, **schema["definitions"]}
    for name, group in groups.items():
        fields = group["properties"]
        assert [field["position"] for field in fields.values()] == list(range(len(fields))), name
        for field_name, field in fields.items():
            model = schema["definitions"].get(field.get("$ref", "").rpartition("/")[2], {})
            assert field.get("title") or model.get("title"), f"{name}.{field_name}"
            assert len(field.get("description") or model.get("description", "")) > 10, field_name


def test_the_form_draws_no_union_which_the_page_would_not_cope_with() -> None:
    assert "anyOf" not in json.dumps(drawn())
    assert "oneOf" not in json.dumps(drawn())


def test_what_the_page_sends_back_untouched_is_taken() -> None:
    """It sends defaults as they are drawn, and Prefect checks them against the schema."""
    schema = drawn()
    defaults = {name: f["default"] for name, f in schema["properties"].items() if "default" in f}
    sent = {**WHERE, **defaults}
    jsonschema.validate(sent, schema)
    assert AugmentForm(**sent).to_recipe(Places(None)) == Recipe.preset("classic")


def test_presets_and_transforms_are_drop_downs() -> None:
    schema = drawn()
    assert schema["properties"]["recipe"]["enum"] == list(preset_names())
    choice = schema["definitions"]["TransformChoice"]["properties"]["op"]
    assert choice["enum"] == list(TRANSFORMS)


def test_an_empty_form_means_the_preset_as_it_is() -> None:
    assert recipe_of() == Recipe.preset("classic")
    assert recipe_of(recipe="light") == Recipe.preset("light")


def test_what_the_form_says_takes_the_place_of_the_recipe() -> None:
    changed = recipe_of(
        custom_recipe=TEXT,
        images={
            "seed": 0,
            "format": "webp",
            "container": "webdataset",
            "quality": 80,
            "side": 64,
        },
        selection={"max_depth": 1, "keep_original": False, "images_per_class": 12},
        limits={"max_error_rate": 0.0},
    )
    assert (changed.seed, changed.limits.max_error_rate, changed.normalize.side) == (0, 0, 64)
    assert (changed.output.format, changed.output.quality) == ("webp", 80)
    assert changed.output.container == "webdataset"
    assert (changed.select.max_depth, changed.select.keep_original) == (1, False)
    assert changed.balance is not None
    assert changed.balance.images_per_class == 12
    assert recipe_of(custom_recipe=TEXT) == Recipe.from_text(TEXT)


def test_a_selection_makes_a_tree_of_many_transforms_small_enough() -> None:
    many = [{"op": "Rotate"}] * 13
    assert recipe_of(transforms=many, selection={"max_depth": 2}).select.max_depth == 2
    with pytest.raises(RecipeError, match=r"set select\.max_depth"):
        recipe_of(transforms=many)


def test_a_recipe_or_a_photograph_of_blanks_is_none() -> None:
    assert recipe_of(custom_recipe=" ") == Recipe.preset("classic")
    assert PreviewForm(source="photos", image=" ").image == ""


@pytest.mark.parametrize(
    ("job", "wrong", "advice"),
    [("verify", "delete", "set job=prune"), ("prune", "repair", "set job=verify")],
)
def test_what_the_other_job_does_is_refused(job: str, wrong: str, advice: str) -> None:
    with pytest.raises(ValidationError, match=f"{wrong} is on, and job is {job}.*{advice}"):
        MaintainForm.model_validate({"destination": "out", "job": job, wrong: True})


def test_a_limit_of_images_does_not_promise_whole_trees(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, data_sets.plain_images(2))
    for balance, share in (
        ({}, "4 images, 2 of each of 2"),
        ({"balance": {"images_per_class": 1}}, "images, some of the 2 in the tree of each of "),
    ):
        recipe = Recipe.from_mapping({"transforms": ["Rotate"], **balance})
        plan = make_plan(place.source, place.destination, recipe, options=StartOptions())
        with pytest.raises(PlanError, match=share):
            refuse_too_many(plan, 0)


def test_transforms_are_listed_with_their_strength() -> None:
    made = recipe_of(
        transforms=[
            {"op": "Rotate", "low": -5, "high": 20.5},
            {"op": "HorizontalFlip"},
            {"op": "CoarseDropout", "copies": 2, "high": 4},
        ]
    )
    wanted = Recipe.from_mapping(
        {
            "transforms": [
                {"name": "Rotate", "params": {"limit": [-5, 20.5]}},
                "HorizontalFlip",
                {"name": "CoarseDropout", "copies": 2, "params": {"num_holes_range": [1, 4]}},
            ]
        }
    )
    assert made == wanted


@pytest.mark.parametrize("op", [name for name in TRANSFORMS if name != "CoarseDropout"])
def test_every_transform_can_be_chosen_as_it_is(op: str) -> None:
    assert recipe_of(transforms=[{"op": op}]) == Recipe.from_mapping({"transforms": [op]})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"recipe": "clasic"}, "clasic.*classic"),
        ({"replicas": 0}, "replicas.*greater than or equal to 1"),
        ({"images": {"quality": 101}}, "quality.*less than or equal to 100"),
        ({"limits": {"max_error_rate": 2}}, "max_error_rate.*less than or equal to 1"),
        ({"selection": {"max_dept": 2}}, "max_dept.*not permitted"),
        ({"transforms": [{"op": "Rotat"}]}, "Rotate"),
        ({"transforms": [{"op": "Rotate", "high": 400}]}, "180"),
        ({"transforms": [{"op": "HorizontalFlip", "low": 1}]}, "HorizontalFlip.*leave"),
        ({"custom_recipe": TEXT, "transforms": [{"op": "Rotate"}]}, "both given"),
        ({"existing": "overwrite"}, "existing.*only-new"),
        ({"endpoint_url": "minio:9000"}, "endpoint"),
        ({"execution": "work-pool", "shard_minutes": 61}, "shard_minutes is 61.*= 3600"),
    ],
)
def test_a_wrong_value_is_refused_by_its_field(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=f"(?s){message}"):
        AugmentForm(**{**WHERE, **fields})


def test_a_flow_refuses_before_it_runs() -> None:
    with pytest.raises(ParameterTypeError, match="replicas"):
        augment.validate_parameters({**WHERE, "replicas": 0})


def test_a_whole_that_is_out_of_range_is_refused_with_the_field() -> None:
    with pytest.raises(RecipeError, match="max_nodes"):
        recipe_of(transforms=[{"op": "Rotate"}] * 14)


@pytest.mark.parametrize(
    ("source", "recipe", "title"),
    [
        ("s3://bucket/data/photos/", "classic", "photos-classic"),
        ("s3://bucket", "classic", "bucket-classic"),
        ("/", "classic", "images-classic"),
    ],
)
def test_a_run_is_named_after_its_data_set_and_its_recipe(
    source: str, recipe: str, title: str
) -> None:
    assert run_title(source, recipe) == title


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({}, "classic"),
        ({"custom_recipe": TEXT}, "recipe"),
        ({"custom_recipe": "s3://bucket/recipes/mine.yaml"}, "mine"),
        ({"transforms": [{"op": "Rotate"}]}, "custom"),
    ],
)
def test_a_recipe_is_called_by_where_it_comes_from(fields: dict[str, Any], name: str) -> None:
    assert AugmentForm(**{**WHERE, **fields}).recipe_name == name


def test_a_recipe_may_lie_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(TEXT)
    assert recipe_of(custom_recipe=str(tmp_path / "mine.yaml")) == Recipe.from_text(TEXT)


def test_labels_masks_and_boxes_are_those_of_the_form() -> None:
    said = {"labels": "labels.jsonl", "boxes": "yolo", "min_visibility": 0.2}
    made = recipe_of(targets=said).targets
    assert made is not None
    assert (made.labels, made.masks, made.boxes) == ("labels.jsonl", None, "yolo")
    text = "transforms: [Rotate]\ntargets: {masks: m, labels: a.csv}"
    both = recipe_of(custom_recipe=text, targets={"labels": "b.csv"}).targets
    assert both is not None
    assert (both.labels, both.masks) == ("b.csv", "m")


def test_targets_that_go_together_are_refused_apart() -> None:
    with pytest.raises(RecipeError, match="boxes come from the column objects of a table"):
        recipe_of(targets={"boxes": "coco", "masks": "masks"})
