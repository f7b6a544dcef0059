"""The flow that looks after a data set: checks it, and removes what no longer belongs to it."""

from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run

from flows.form import MaintainForm, asks, run_title
from flows.lease import at_work
from flows.markdown import table
from flows.places import Places
from kaleidoscope.card import refresh_card
from kaleidoscope.errors import ManifestError, SettingsError
from kaleidoscope.lineage import Lineage
from kaleidoscope.pruning import Pruning, look, prune
from kaleidoscope.runs import load_request
from kaleidoscope.stores import Store
from kaleidoscope.summary import format_bytes
from kaleidoscope.verification import Verification, VerifyOptions, verify

KEY = "maintain-report"


def title() -> str:
    """Return the name of the current flow run: the data set and what is done with it."""
    form = MaintainForm(**flow_run.parameters)
    return run_title(form.destination, form.job)


@flow(name="maintain", flow_run_name=title)
@asks(MaintainForm)
def maintain(form: MaintainForm) -> None:
    """Check the data set in a destination, or remove what no longer belongs to it.

    The page is the artifact ``maintain-report``. The parameters are the fields of
    :class:`~flows.form.MaintainForm`.

    Raises:
        ManifestError: If something is not as the manifest says, or nothing is committed there.
        KaleidoscopeError: If a store fails, or the destination cannot be pruned now.
    """
    places = form.places()
    destination = places.open(form.destination)
    if form.job == "prune":
        create_markdown_artifact(pruning_page(do_prune(form, places, destination)), key=KEY)
        return
    found = do_verify(form, places, destination)
    create_markdown_artifact(verification_page(found), key=KEY)
    if not found.is_whole:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in found.num_problems.items())
        raise ManifestError(
            f"{destination.uri} is not as its manifest says: {kinds}; the artifact {KEY} names "
            "the first of each kind. With repair on, what is missing or damaged is made again; "
            "what cannot be made has to come from a backup"
        )


def do_verify(form: MaintainForm, places: Places, destination: Store) -> Verification:
    """Compare what the form says, and repair it if it says so.

    Raises:
        LeaseError: If another is at work where something is to be repaired.
        ManifestError: If nothing is committed there.
    """
    sample = 1.0 if form.repair else form.sample
    options = VerifyOptions(sample=sample, replays=form.replay, repairs=form.repair)
    turn: AbstractContextManager[object] = nullcontext()
    if form.repair:
        turn = at_work(destination, wait_s=60 * form.wait_minutes)
    with turn:
        return verify(
            destination,
            options=options,
            open_source=lambda recorded: open_source(form, places, recorded),
        )


def do_prune(form: MaintainForm, places: Places, destination: Store) -> Pruning:
    """Remove what the form says, or only look.

    Raises:
        LeaseError: If another is at work there for longer than the form's patience.
        RunError: If a run waits to be finished, or there is no source at all.
        ManifestError: If nothing is committed there.
    """
    recorded = load_request(destination, Lineage(destination).runs[-1]).source
    source = open_source(form, places, recorded)
    if not form.delete:
        return look(source, destination)
    with at_work(destination, wait_s=60 * form.wait_minutes) as lease:
        pruning = prune(source, destination, now=datetime.now(UTC), lease=lease)
        if (trouble := refresh_card(destination)) is not None:
            get_run_logger().warning("%s", trouble)
    return pruning


def open_source(form: MaintainForm, places: Places, recorded: str) -> Store:
    """Return where the photographs are; a run records the place, but not the block that opens it.

    Raises:
        SettingsError: If the form names another place than the runs recorded, or none that can be.
    """
    store = places.open(form.source or recorded)
    if store.uri != recorded:
        raise SettingsError(
            f"the images were made of {recorded}, and source is {store.uri}; leave it empty, or "
            "name the block whose bucket and prefix lead there"
        )
    return store


def verification_page(found: Verification) -> str:
    """Return what was looked at and what is wrong, in Markdown."""
    num_problems = sum(found.num_problems.values())
    facts = [
        ("images by the manifest", f"{found.num_rows:,}"),
        ("of these read", f"{found.num_read:,} ({format_bytes(found.size_read)})"),
        *([("repaired", f"{found.num_repaired:,}")] if found.num_repaired else []),
        *((f"made again: {outcome}", f"{count:,}") for outcome, count in found.replays.items()),
        *((f"version of {name}", text) for name, text in found.changed_versions.items()),
        *((f"wrong: {kind}", f"{count:,}") for kind, count in found.num_problems.items()),
    ]
    problems = ((p.kind, f"`{p.key}`", p.detail) for p in found.examples)
    return "\n\n".join(
        (
            f"## {f'{num_problems:,} problems' if num_problems else 'Everything is in its place'}",
            f"In `{found.destination}`.",
            table(("", "how many"), facts),
            f"### The first problems\n\n{table(('kind', 'key', 'what is wrong'), problems)}"
            if found.examples
            else "",
        )
    ).strip()


def pruning_page(pruning: Pruning) -> str:
    """Return what was removed, or would be, in Markdown."""
    verb = "removed" if pruning.is_done else "to remove"
    size = format_bytes(pruning.size)
    facts = [
        ("photographs gone", f"{pruning.num_sources:,}"),
        ("their images", f"{pruning.num_outputs:,}"),
        (f"objects {verb}", f"{pruning.num_objects:,} ({size})"),
        ("images whose bytes stay in tars", f"{pruning.num_kept_in_tars:,}"),
        ("recorded by run", pruning.run_id or "none"),
    ]
    examples = [
        *(("photograph gone", f"`{key}`") for key in pruning.sources),
        *((f"object {verb}", f"`{key}`") for key in pruning.objects),
    ]
    sections = (
        "## Nothing to remove"
        if pruning.is_empty
        else f"## {pruning.num_objects:,} objects {verb}",
        f"In `{pruning.destination}`.",
        table(("", "how many"), facts),
        f"### The first of them\n\n{table(('what', 'key'), examples)}" if examples else "",
        ""
        if pruning.is_done or pruning.is_empty
        else "Nothing was touched. Start it again with *delete* on to remove them.",
    )
    return "\n\n".join(section for section in sections if section)
