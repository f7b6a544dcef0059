"""Plans and reports in words, the same on the command line, in a notebook and in Prefect."""

import json
from datetime import timedelta
from typing import TYPE_CHECKING, assert_never

from kaleidoscope.planning import Plan
from kaleidoscope.recipe import LETTERS
from kaleidoscope.runs import Report
from kaleidoscope.transforms import Bounds, Transform

if TYPE_CHECKING:  # They read manifests, with libraries that a shard does without.
    from kaleidoscope.pruning import Pruning
    from kaleidoscope.status import RunStatus, Status
    from kaleidoscope.verification import Verification

_KILO = 1000

_CLASSES_SHOWN = 10


def describe_plan(plan: Plan, *, cpus: int, peak_bytes: int | None = None) -> str:
    """Return what a plan will make and cost, a fact a line; see :func:`plan_facts`."""
    return _columns(plan_facts(plan, cpus=cpus, peak_bytes=peak_bytes))


def plan_facts(plan: Plan, *, cpus: int, peak_bytes: int | None = None) -> list[tuple[str, str]]:
    """Return what a plan will make and cost, by name.

    Args:
        plan: The plan.
        cpus: How many CPUs will work on it, for the time that it takes.
        peak_bytes: Memory of a worker process, see :mod:`kaleidoscope.memory`; None leaves it out.
    """
    cost = plan.per_source
    calls = f"{cost.num_outputs:,} of each source by {cost.num_calls:,} transform calls"
    if plan.num_outputs != plan.num_sources * cost.num_outputs:
        calls = f"some of the {cost.num_outputs:,} in the tree of each source"
    num_complete = plan.num_done - plan.num_unneeded
    time = f"about {format_seconds(plan.cpu_s / cpus)} on {cpus} CPUs"
    lines = [
        ("sources", f"{plan.num_sources:,} ({format_bytes(plan.source_bytes)})"),
        (
            "complete",
            f"{num_complete:,}, of which nothing is missing" if num_complete else "",
        ),
        (
            "not needed",
            f"{plan.num_unneeded:,}, of which the recipe wants no image"
            if plan.num_unneeded
            else "",
        ),
        ("gone", _describe_gone(plan)),
        ("left out", ", ".join(f"{count:,} {reason}" for reason, count in plan.left_out.items())),
        (
            "lacking",
            ", ".join(
                f"{n:,} source{'s'[: n != 1]} without {what}" for what, n in plan.lacking.items()
            ),
        ),
        ("images", f"{plan.num_outputs:,}, {calls}"),
        *_describe_classes(plan),
        ("size", f"about {format_bytes(plan.output_bytes)}"),
        ("shards", f"{plan.num_shards:,}"),
        ("time", f"{time} ({format_seconds(plan.cpu_s)} of CPU)"),
        ("memory", f"at most {format_bytes(peak_bytes)} a worker" if peak_bytes else ""),
        ("requests", f"{plan.num_puts:,} PUTs, ${plan.put_usd:,.2f} on S3; nothing on a disk"),
        ("order", _describe_order(plan)),
    ]
    return [(name, value) for name, value in lines if value]


def describe_idle(plan: Plan, *, num_failed: int | None = None, retry: str = "if asked for") -> str:
    """Return in a line or two why a plan without shards has nothing to do, and what is gone.

    Args:
        plan: The plan.
        num_failed: How many sources failed in earlier runs and were not made since; None if that
            is not known.
        retry: When they are done again, for example ``with existing=retry-failed``.
    """
    text = f"Nothing to do: nothing is missing of {plan.num_done:,} sources"
    if num_failed is None:
        text += f"; what failed before is done again only {retry}."
    elif num_failed:
        text += f" but {num_failed:,} that failed before; they are done again only {retry}."
    else:
        text += "."
    return f"{text} Gone: {_describe_gone(plan)}." if plan.num_gone else text


def _describe_classes(plan: Plan) -> list[tuple[str, str]]:
    """Give each class a line, those that stay short first, and not all of very many."""
    shares = sorted(plan.classes, key=lambda share: -share.num_short)
    texts = [
        f"{share.label or 'without a class'}: {share.num_images:,} of {share.num_wanted:,} images"
        f" from {share.num_sources:,} sources"
        + (f", {share.num_short:,} short" if share.num_short else "")
        for share in shares[:_CLASSES_SHOWN]
    ]
    if len(shares) > _CLASSES_SHOWN:
        texts.append(f"and {len(shares) - _CLASSES_SHOWN:,} classes more")
    return [("" if index else "classes", text) for index, text in enumerate(texts)]


def _describe_gone(plan: Plan) -> str:
    if not plan.num_gone:
        return ""
    more = plan.num_gone - len(plan.gone)
    names = ", ".join(plan.gone) + (f" and {more:,} more" if more else "")
    return f"{plan.num_gone:,} sources of earlier runs, whose images stay: {names}"


def _describe_order(plan: Plan) -> str:
    cost = plan.per_source
    given_ms, best_ms = cost.transform_cpu_s * 1e3, cost.cheapest_transform_cpu_s * 1e3
    if best_ms >= given_ms:
        return f"transforms take {given_ms:.1f} ms a source, no other order takes less"
    cheapest = " ".join(LETTERS[step] for step in cost.cheapest_order)
    return f"transforms take {given_ms:.1f} ms a source; in the order {cheapest}, {best_ms:.1f} ms"


def describe_report(report: Report) -> str:
    """Return what a run did, a fact a line."""
    failures = ", ".join(f"{count:,} {reason}" for reason, count in report.failures.items())
    lines = [
        ("run", report.run_id),
        ("sources", f"{report.num_sources:,} ({format_bytes(report.source_bytes)})"),
        ("failed", f"{report.num_failed:,}: {failures}" if report.num_failed else "none"),
        ("images", f"{report.num_outputs:,} ({format_bytes(report.output_bytes)})"),
        ("gone", f"{report.num_gone:,} sources, whose images stay" if report.num_gone else ""),
        ("manifest", f"{report.destination}/{report.keys.manifest}"),
    ]
    return _columns(lines)


def describe_status(status: "Status") -> str:
    """Return how far the runs of a destination are, a fact a line."""
    failures = ", ".join(f"{count:,} {reason}" for reason, count in status.failures.items())
    lines = [
        ("source", status.source),
        ("recipe", status.recipe_digest),
        *((f"run {run.run_id}", _describe_run(run)) for run in status.runs),
        ("failed", f"{failures}; `kaleidoscope retry` does them again" if failures else "none"),
        ("at work", f"{status.holder}, unless it died" if status.holder else "nobody"),
    ]
    return _columns(lines)


def _describe_run(run: "RunStatus") -> str:
    parts = f"{run.num_parts:,} of {run.num_shards:,} shards done"
    match run.state:
        case "committed":
            return f"committed, {run.num_outputs:,} images"
        case "interrupted":
            return f"not finished, {parts}; `kaleidoscope retry` goes on with it"
        case "left":
            return f"left, {parts}; a later run made what it would have made"
        case "unplanned":
            return "ended in its planning, before its first image"
        case _:
            assert_never(run.state)


def describe_pruning(pruning: "Pruning") -> str:
    """Return what a prune removes or removed, a fact a line."""
    more = pruning.num_objects - len(pruning.objects)
    objects = f"{pruning.num_objects:,} objects ({format_bytes(pruning.size)})"
    in_tars = f"{pruning.num_kept_in_tars:,} images, in tars that hold others too"
    sources = ", ".join(pruning.sources)
    lines = [
        ("sources gone", f"{pruning.num_sources:,}" + (f": {sources}" if sources else "")),
        ("their images", f"{pruning.num_outputs:,}"),
        ("removed" if pruning.is_done else "would go", objects),
        *(("", key) for key in pruning.objects),
        ("", f"and {more:,} more" if more > 0 else ""),
        ("bytes stay of", in_tars if pruning.num_kept_in_tars else ""),
        ("recorded by", f"run {pruning.run_id}" if pruning.run_id else ""),
    ]
    return _columns(lines)


def describe_verification(found: "Verification") -> str:
    """Return what was looked at and what is wrong, a fact a line."""
    replays = ", ".join(f"{count:,} {outcome}" for outcome, count in found.replays.items())
    if found.largest_difference:
        replays += f", by at most {found.largest_difference} grey levels"
    lines = [
        ("images", f"{found.num_rows:,} by the manifest of {found.destination}"),
        ("read", f"{found.num_read:,} ({format_bytes(found.size_read)})"),
        ("replayed", replays),
        ("repaired", f"{found.num_repaired:,}" if found.num_repaired else ""),
        *((f"version of {name}", text) for name, text in found.changed_versions.items()),
        (
            "wrong",
            ", ".join(f"{n:,} {kind}" for kind, n in found.num_problems.items()) or "nothing",
        ),
        *((f"  {problem.kind}", f"{problem.key}: {problem.detail}") for problem in found.examples),
    ]
    return _columns(lines)


def describe_transform(transform: type[Transform]) -> str:
    """Return a transform's name, what it does, and its parameters with their defaults."""
    summary = (transform.__doc__ or "").partition("\n")[0]
    lines = [f"{transform.__name__}: {summary}"]
    for name, field in transform.model_fields.items():
        default = json.dumps(field.default)
        limits = "".join(
            f", within [{limit.low:g}, {limit.high:g}]"
            for limit in field.metadata
            if isinstance(limit, Bounds)
        )
        lines.append(f"  {name}: {field.description} Default {default}{limits}.")
    return "\n".join(lines)


def _columns(lines: list[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in lines if value)


def format_bytes(size: float) -> str:
    """Return a number of bytes with a decimal unit, ``1.5 MB``."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if abs(size) < _KILO:
            return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
        size /= _KILO
    return f"{size:,.1f} PB"


def format_seconds(seconds: float) -> str:
    """Return a duration, ``3.2 s`` below a minute and ``1:02:03`` above."""
    a_minute = 60
    if seconds < a_minute:
        return f"{seconds:.1f} s"
    return str(timedelta(seconds=round(seconds)))
