"""The page that a run leaves in Prefect: what it did, where it is, and what it looks like."""

import base64

from prefect.logging import get_run_logger

from kaleidoscope.errors import KaleidoscopeError
from kaleidoscope.manifest import sources_from_parquet
from kaleidoscope.preview import SMALL_SHEET, contact_sheet
from kaleidoscope.runs import Report, Run
from kaleidoscope.stores import Store

MAX_TRIED = 5
"""Photographs that are tried for the contact sheet, should the first ones be broken."""


def report_page(report: Report, facts: str, sheet: str) -> str:
    """Return the page in Markdown.

    Args:
        report: What the run did.
        facts: The same in words, a fact a line.
        sheet: An image in Markdown; empty leaves it out.
    """
    rate = report.num_outputs / report.elapsed_s if report.elapsed_s else 0
    title = (
        f"{report.num_outputs:,} images of {report.num_sources - report.num_failed:,} photographs"
    )
    rows = "\n".join(f"| {reason} | {count:,} |" for reason, count in report.failures.items())
    failures = f"### Failed photographs\n\n| reason | photographs |\n|---|---|\n{rows}"
    snippet = f'import kaleidoscope as kd\n\nrows = kd.read_manifest("{report.destination}")'
    sections = (
        f"## {title}\n\n{rate:,.1f} images a second, in `{report.destination}`.",
        f"```\n{facts}\n```",
        failures if rows else "",
        sheet and f"### What becomes of one photograph\n\n{sheet}",
        f"### Read it\n\n```python\n{snippet}\n```",
    )
    return "\n\n".join(section for section in sections if section)


def draw_sheet(run: Run, source: Store, destination: Store, recipe_name: str) -> str:
    """Return a contact sheet of one of the run's photographs as an image in Markdown.

    It is empty if the run had nothing to do, or none of the first photographs can be drawn.
    """
    if not run.plan.num_shards:
        return ""
    try:
        sources = sources_from_parquet(destination.get(run.keys.shard(0)).data)
    except KaleidoscopeError as error:
        get_run_logger().debug("There is no contact sheet: %s", error)
        return ""
    for planned in sources[:MAX_TRIED]:
        try:
            drawn = contact_sheet(
                source.get(planned.info.key).data,
                run.request.recipe,
                image_name=planned.info.key,
                recipe_name=recipe_name,
                style=SMALL_SHEET,
            )
        except KaleidoscopeError as error:
            get_run_logger().debug("No contact sheet of %s: %s", planned.info.key, error)
            continue
        data = base64.b64encode(drawn.data).decode()
        return f"![{drawn.num_tiles} images](data:image/{drawn.format};base64,{data})"
    return ""
