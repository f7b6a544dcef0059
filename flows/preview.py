"""The flow that shows what a run would make and cost, before anything is written."""

from collections.abc import Iterator
from itertools import islice

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from flows.form import PreviewForm, asks
from flows.markdown import picture, table
from flows.places import Places
from flows.results import RETRY
from kaleidoscope.card import code
from kaleidoscope.errors import CodecError, PlanError, RecipeError, TargetError
from kaleidoscope.identity import label_of
from kaleidoscope.labels import find_labels, read_targets
from kaleidoscope.listing import SourceListing
from kaleidoscope.memory import predict_peak_bytes
from kaleidoscope.model import StoredTargets
from kaleidoscope.pipeline import make_plan
from kaleidoscope.planning import Plan
from kaleidoscope.preview import ContactSheet, SheetStyle, contact_sheet
from kaleidoscope.recipe import Recipe
from kaleidoscope.settings import available_cpus
from kaleidoscope.stores import Store
from kaleidoscope.summary import describe_idle, plan_facts

KEY = "preview"

MAX_TRIED = 5
"""Photographs that are tried if none is named, should the first ones be broken."""

MAX_SHEET_BYTES = 440_000
"""Of a picture; base64 makes a third more of it."""

STYLES = tuple(
    SheetStyle(tile_px=tile_px, max_tiles=max_tiles, format="webp", quality=75)
    for tile_px, max_tiles in ((160, 256), (96, 256), (64, 128))
)
"""The first is taken of which the picture is small enough, or else the last."""


def title() -> str:
    """Return the name of the current flow run: the photograph and the recipe."""
    form = PreviewForm(**flow_run.parameters)
    name = (form.image or form.source).strip().rstrip("/").rpartition("/")[2]
    return f"preview of {name or 'images'} with {form.recipe_name}"


@flow(name="preview", flow_run_name=title)
@asks(PreviewForm)
def preview(form: PreviewForm) -> None:
    """Show all images that a recipe makes of a photograph, and what a run of it would cost.

    Nothing is written to a store. The page is the artifact ``preview``. The parameters are the
    fields of :class:`~flows.form.PreviewForm`.

    Raises:
        KaleidoscopeError: If a store cannot be read, there is no photograph, or it is broken.
    """
    places = form.places()
    recipe = form.to_recipe(places)
    source = places.open(form.source)
    name, sheet = draw(form, places, source, recipe)
    destination = places.open(form.destination) if form.destination else None
    plan = make_plan(source, destination, recipe, options=form.start_options())
    peak_bytes = predict_peak_bytes(
        recipe, workers=available_cpus(), largest_source_bytes=plan.largest_source_bytes
    )
    page = preview_page(name, sheet, plan, replicas=form.replicas, peak_bytes=peak_bytes)
    create_markdown_artifact(page, key=KEY)


def draw(
    form: PreviewForm, places: Places, source: Store, recipe: Recipe
) -> tuple[str, ContactSheet]:
    """Return the key of the photograph that is shown, and its contact sheet.

    Raises:
        PlanError: If none is named, and none of the first can be shown.
        CodecError: If the named one cannot be decoded.
        RecipeError: If nothing is made of the named one, for its label.
        StoreError: If it cannot be read.
    """
    if form.image:
        name = form.image.strip()
        folder, _, key = name.rpartition("/")
        if "://" not in name:
            known = _known(source, recipe, name)
            return name, _sheet(source.get(name).data, recipe, name, form.recipe_name, known)
        # It lies elsewhere, and no table of the source knows it.
        data, known = places.open(folder).get(key).data, StoredTargets(label_of(name))
        return name, _sheet(data, recipe, name, form.recipe_name, known)
    errors = []
    for key in _first_keys(source, recipe):
        try:
            known = _known(source, recipe, key)
            return key, _sheet(source.get(key).data, recipe, key, form.recipe_name, known)
        except (CodecError, RecipeError, TargetError) as error:
            get_run_logger().warning("%s cannot be shown: %s", key, error)
            errors.append(f"{key}: {error}")
    raise PlanError(
        f"none of the first {len(errors)} photographs under {source.uri} can be shown: "
        f"{'; '.join(errors)}; name another as image"
        if errors
        else f"there is no image under {source.uri}; check the source"
    )


def _first_keys(source: Store, recipe: Recipe) -> Iterator[str]:
    for info in islice(SourceListing(source, masks=recipe.masks_folder), MAX_TRIED):
        yield info.key


def _known(source: Store, recipe: Recipe, key: str) -> StoredTargets:
    """Return what belongs to a photograph and shows; a table is read for it, the whole."""
    if not (recipe.forbidden_labels or recipe.target_kinds):
        return StoredTargets()
    return read_targets(source, find_labels(source, recipe.targets, key))


def _sheet(
    data: bytes, recipe: Recipe, name: str, recipe_name: str, known: StoredTargets
) -> ContactSheet:
    for style in STYLES:
        sheet = contact_sheet(
            data, recipe, known=known, image_name=name, recipe_name=recipe_name, style=style
        )
        if len(sheet.data) <= MAX_SHEET_BYTES:
            break
    return sheet


def preview_page(
    name: str, sheet: ContactSheet, plan: Plan, *, replicas: int, peak_bytes: int
) -> str:
    """Return the page in Markdown.

    Args:
        name: Of the photograph.
        sheet: All its images.
        plan: Of the run.
        replicas: How many CPUs would work on it.
        peak_bytes: Memory of one of them.
    """
    idle = describe_idle(plan, retry=RETRY)
    facts = plan_facts(plan, cpus=replicas, peak_bytes=peak_bytes)
    left_out = f" {sheet.num_left_out:,} more are not shown." if sheet.num_left_out else ""
    not_for = f" The recipe's other images are {code(sheet.not_for)}." if sheet.not_for else ""
    how_to_read = f"Names say which transforms were applied, in order.{left_out}{not_for}"
    tiles = ((tile.node, ", ".join(tile.operations) or "the original") for tile in sheet.tiles)
    return "\n\n".join(
        (
            f"## {sheet.num_tiles + sheet.num_left_out:,} images of {name}",
            picture(f"{sheet.num_tiles} images", sheet.data, f"image/{sheet.format}"),
            f"### What a run would make and cost, with {replicas} replicas",
            table(("", "of all photographs"), facts) if plan.num_shards else idle,
            "Nothing has been written. `augment` takes the same form.",
            f"### Every image\n\n{how_to_read}",
            table(("image", "what was done"), tiles),
        )
    )
