"""What a run leaves in Prefect: a page that a person wants to read, and a table of its shards."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.logging import get_run_logger

from flows.markdown import picture, table
from flows.plots import bars, rate_over_time
from kaleidoscope.card import cell, code, loading_snippets
from kaleidoscope.errors import KaleidoscopeError
from kaleidoscope.identity import CARD_KEY, METADATA_KEY
from kaleidoscope.labels import planned_labels, read_targets
from kaleidoscope.lineage import Lineage
from kaleidoscope.manifest import ShardFacts, read_shard_facts, sources_from_parquet
from kaleidoscope.model import PlannedSource
from kaleidoscope.planning import Plan
from kaleidoscope.preview import SMALL_SHEET, ContactSheet, SheetStyle, contact_sheet
from kaleidoscope.runs import Report, Run
from kaleidoscope.stores import Store
from kaleidoscope.summary import describe_idle, describe_report, format_bytes, format_seconds

T = TypeVar("T")

REPORT_KEY = "augment-report"
SHARDS_KEY = "augment-shards"

RETRY = "with existing=retry-failed"
"""When a flow does the sources again that failed."""

MAX_TRIED = 5
"""Photographs that are tried for the contact sheet, should the first ones be broken."""

STYLES = (
    SMALL_SHEET,
    replace(SMALL_SHEET, tile_px=64),
    SheetStyle(tile_px=48, max_tiles=32, format="webp", quality=60),
)
"""The first is taken of which the picture is small enough, or else the last."""

MAX_SHEET_SIZE = 250_000
"""Bytes of a contact sheet; inline it takes a third more."""

MAX_SHARDS = 500
"""Rows of the table of shards, and parts that are read for the plots."""

MAX_EXAMPLES = 5
"""Sources that are named for each reason to fail."""

MAX_ROWS = 20
"""Rows of a table on the page."""

PARTS_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Results:
    """A run at its end."""

    run: Run
    report: Report
    setbacks: Sequence[str]
    """What went wrong and was made good, a sentence for each try of a shard."""
    recipe_name: str

    def num_attempts(self, shard: int) -> int:
        """Return how often this flow run tried a shard."""
        return 1 + sum(setback.startswith(f"shard {shard} ") for setback in self.setbacks)


def publish(results: Results, source: Store, destination: Store) -> None:
    """Publish the page and the table, and say the same in the log.

    The run is committed, so what cannot be shown is left out, with a line in the log.
    """
    logger = get_run_logger()
    if not results.run.plan.num_shards:
        num_failed = _count_failed(destination)
        page = idle_page(results, num_failed, has_metadata=_has_metadata(destination))
        create_markdown_artifact(page, key=REPORT_KEY)
        return
    good = [f"made good: {setback}" for setback in results.setbacks[:MAX_ROWS]]
    logger.info("Committed\n%s", "\n".join([describe_report(results.report), *good]))

    def shown(look: Callable[[], T], otherwise: T) -> T:
        try:
            return look()
        except KaleidoscopeError as error:
            logger.warning("A part of the report is left out: %s", error)
            return otherwise

    shards: list[ShardFacts] = shown(lambda: read_shards(results.run, destination), [])
    page = report_page(
        results,
        sheet=shown(lambda: draw_sheet(results, source, destination), ""),
        plots=_plots(shards),
        failures=shown(lambda: _failures(results.report, destination), ""),
        has_metadata=_has_metadata(destination),
    )
    create_markdown_artifact(page, key=REPORT_KEY)
    if shards:
        more = results.run.plan.num_shards - len(shards)
        note = f" These are the first {len(shards):,}; {more:,} more are left out." if more else ""
        create_table_artifact(
            [_shard_row(results, index, facts) for index, facts in enumerate(shards)],
            key=SHARDS_KEY,
            description=f"The shards of run {results.report.run_id}.{note}",
        )


def _has_metadata(destination: Store) -> bool:
    """Whether there is a table for Hugging Face; there is none of tars, nor of very many images."""
    try:
        destination.head(METADATA_KEY)
    except KaleidoscopeError:
        return False
    return True


def _count_failed(destination: Store) -> int | None:
    """Return how many sources failed and were not made since; None if that cannot be read."""
    try:
        return len(Lineage(destination).failures(["source_key"]))
    except KaleidoscopeError as error:
        get_run_logger().warning("Failed sources are not counted: %s", error)
        return None


def idle_page(results: Results, num_failed: int | None, *, has_metadata: bool) -> str:
    """Return the page of a run that had nothing to do."""
    report = results.report
    idle = describe_idle(results.run.plan, num_failed=num_failed, retry=RETRY)
    text = f"## Nothing new\n\n{idle}"
    return f"{text}\n\n{_places(report, has_metadata=has_metadata)}"


def report_page(
    results: Results, *, sheet: str, plots: str, failures: str, has_metadata: bool
) -> str:
    """Return the page in Markdown; each section that is empty is left out."""
    report = results.report
    num_good = report.num_sources - report.num_failed
    rate = report.num_outputs / report.elapsed_s if report.elapsed_s else 0
    elapsed = format_seconds(report.elapsed_s)
    recipe = results.run.request.recipe
    loading = loading_snippets(
        report.destination,
        in_tars=recipe.output.container != "files",
        has_metadata=has_metadata,
        has_targets=bool(recipe.target_kinds),
    )
    sections = (
        f"## {report.num_outputs:,} images of {num_good:,} photographs",
        f"{rate:,.1f} images a second over {elapsed}, in {code(report.destination)}.",
        _numbers(results),
        sheet and f"### What becomes of one photograph\n\n{sheet}",
        failures,
        _classes(results.run.plan),
        _gone(results.run.plan),
        _made_good(results.setbacks),
        plots and f"### How it went\n\n{plots}",
        _places(report, has_metadata=has_metadata),
        f"### Load it\n\n<details open><summary>In Python</summary>\n\n{loading}\n\n</details>",
    )
    return "\n\n".join(section for section in sections if section)


def draw_sheet(results: Results, source: Store, destination: Store) -> str:
    """Return a contact sheet of one of the run's photographs as an image in Markdown.

    It is empty if none of the first photographs can be drawn.
    """
    run = results.run
    sources = sources_from_parquet(destination.get(run.keys.shard(0)).data)
    for planned in sources[:MAX_TRIED]:
        try:
            drawn = _draw(results, source, planned)
        except KaleidoscopeError as error:
            get_run_logger().debug("No contact sheet of %s: %s", planned.info.key, error)
            continue
        if len(drawn.data) > MAX_SHEET_SIZE:
            return f"Its contact sheet is too large for this page: {format_bytes(len(drawn.data))}."
        more = f" {drawn.num_left_out:,} more are not drawn." if drawn.num_left_out else ""
        not_for = f" The recipe's other images are {code(drawn.not_for)}." if drawn.not_for else ""
        title = f"Contact sheet of {drawn.num_tiles} images"
        sheet = picture(title, drawn.data, f"image/{drawn.format}")
        return f"{sheet}\n\n{drawn.num_tiles:,} images of {code(planned.info.key)}.{more}{not_for}"
    return ""


def _draw(results: Results, source: Store, planned: PlannedSource) -> ContactSheet:
    data = source.get(planned.info.key).data
    known = read_targets(source, planned_labels(planned))
    for style in STYLES:
        sheet = contact_sheet(
            data,
            results.run.request.recipe,
            known=known,
            image_name=planned.info.key,
            recipe_name=results.recipe_name,
            style=style,
        )
        if len(sheet.data) <= MAX_SHEET_SIZE:
            break
    return sheet


def read_shards(run: Run, destination: Store) -> list[ShardFacts]:
    """Return what the first shards of a run did, in order.

    Raises:
        KaleidoscopeError: If a part is missing, damaged, or cannot be read.
    """

    def read(index: int) -> ShardFacts:
        return read_shard_facts(destination.get(run.keys.part(index)).data)

    with ThreadPoolExecutor(PARTS_AT_ONCE, "kaleidoscope-results") as threads:
        return list(threads.map(read, range(min(run.plan.num_shards, MAX_SHARDS))))


def _shard_row(results: Results, index: int, facts: ShardFacts) -> dict[str, object]:
    stats = facts.stats
    return {
        "shard": index,
        "images": stats.num_outputs,
        "failed": stats.num_failed,
        "size": format_bytes(stats.output_bytes),
        "seconds": round(stats.wall_s, 2),
        "images/s": round(stats.num_outputs / stats.wall_s, 1) if stats.wall_s else 0,
        "attempts": results.num_attempts(index),
        "flow run": facts.flow_run_id or "",
    }


def _numbers(results: Results) -> str:
    report = results.report
    rows = [
        ("images", f"{report.num_outputs:,} ({format_bytes(report.output_bytes)})"),
        ("photographs", f"{report.num_sources:,} ({format_bytes(report.source_bytes)})"),
        ("failed", f"{report.num_failed:,} ({report.error_rate:.1%})"),
        ("done before", f"{report.num_done:,}" if report.num_done else ""),
        ("taken out", f"{report.num_pruned:,}" if report.num_pruned else ""),
        ("shards", f"{report.num_shards:,}, {format_seconds(report.shard_s)} added up"),
        ("run", code(report.run_id)),
    ]
    return table(("what", "how much"), [row for row in rows if row[1]])


def _failures(report: Report, destination: Store) -> str:
    if not report.num_failed:
        return ""
    columns = ["source_key", "error_type", "error_message"]
    failed = Lineage(destination, runs=[report.run_id]).failures(columns)
    reasons = [(cell(reason), f"{count:,}") for reason, count in report.failures.items()]
    examples = [
        f"- {code(str(key))}: {cell(str(message))}"
        for key, message in failed.groupby("error_type")
        .head(MAX_EXAMPLES)
        .sort_values(["error_type", "source_key"])[["source_key", "error_message"]]
        .itertuples(index=False)
    ]
    counted = table(("reason", "photographs"), reasons)
    return (
        f"### Failed photographs\n\n{counted}\n\n<details open><summary>Examples</summary>\n\n"
        + "\n".join(examples)
        + "\n\n</details>\n\nOnce the cause is gone, a run with existing = retry-failed does them "
        "again."
    )


def _classes(plan: Plan) -> str:
    if not plan.classes:
        return ""
    shares = sorted(plan.classes, key=lambda share: -share.num_short)
    rows = [
        (
            cell(share.label or "(no class)"),
            f"{share.num_sources:,}",
            f"{share.num_images:,}",
            f"{share.num_wanted:,}",
            f"{share.num_short:,}" if share.num_short else "",
        )
        for share in shares[:MAX_ROWS]
    ]
    more = len(shares) - len(rows)
    note = f"\n\nAnd {more:,} classes more." if more else ""
    header = ("class", "photographs", "images", "wanted", "short")
    return f"### Classes, as planned\n\n{table(header, rows)}{note}"


def _gone(plan: Plan) -> str:
    if not plan.num_gone:
        return ""
    names = "\n".join(f"- {code(key)}" for key in plan.gone[:MAX_ROWS])
    return (
        f"### Gone\n\n{plan.num_gone:,} photographs of earlier runs are no longer there; their "
        f"images stay until you prune them, among them\n\n{names}"
    )


def _made_good(setbacks: Sequence[str]) -> str:
    if not setbacks:
        return ""
    lines = "\n".join(f"- {cell(setback)}" for setback in setbacks[:MAX_ROWS])
    more = len(setbacks) - MAX_ROWS
    note = f"\n- {more:,} more" if more > 0 else ""
    return (
        f"### Made good\n\n<details><summary>{len(setbacks):,} tries of a shard came to nothing "
        f"and were repeated</summary>\n\n{lines}{note}\n\n</details>"
    )


def _plots(shards: Sequence[ShardFacts]) -> str:
    spans = [
        (facts.started_at, facts.stats.wall_s, facts.stats.num_outputs)
        for facts in shards
        if facts.started_at is not None
    ]
    if not spans:
        return ""
    first = min(start for start, _, _ in spans)
    took_s = max((start - first).total_seconds() + wall_s for start, wall_s, _ in spans)
    drawn = [
        bars(
            "Images a second, over time",
            rate_over_time(spans, num_bins=60),
            left="0 s",
            right=format_seconds(took_s),
        )
    ]
    if len(shards) > 1:
        ends = {"left": "shard 0", "right": f"shard {len(shards) - 1:,}"}
        seconds = [facts.stats.wall_s for facts in shards]
        sizes = [facts.stats.output_bytes / 1e6 for facts in shards]
        drawn += [bars("Seconds of each shard", seconds, **ends)]
        drawn += [bars("Megabytes of each shard", sizes, **ends)]
    return "\n\n".join(drawn)


def _places(report: Report, *, has_metadata: bool) -> str:
    keys = report.keys
    keyed = {
        "card": CARD_KEY,
        "table for Hugging Face": METADATA_KEY if has_metadata else "",
        "manifest": keys.manifest,
        "report": keys.report,
    }
    rows = [("images", code(report.destination))]
    rows += [(name, code(f"{report.destination}/{key}")) for name, key in keyed.items() if key]
    return "### Where everything is\n\n" + table(("what", "where"), rows)
