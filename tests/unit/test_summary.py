"""Plans and reports in words."""

from dataclasses import replace

import pytest

from kaleidoscope.planning import Plan, estimate
from kaleidoscope.recipe import Recipe
from kaleidoscope.runs import Report
from kaleidoscope.summary import (
    describe_idle,
    describe_plan,
    describe_report,
    format_bytes,
    format_seconds,
)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (2_000_000, "2.0 MB"), (3e15, "3.0 PB")],
)
def test_bytes_have_a_decimal_unit(size: float, text: str) -> None:
    assert format_bytes(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0.0 s"), (59.94, "59.9 s"), (61, "0:01:01"), (7322, "2:02:02")]
)
def test_seconds_become_a_clock_from_a_minute_on(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


def make_plan(recipe: str) -> Plan:
    per_source = estimate(Recipe.from_text(recipe))
    return Plan(
        1000, 0, 10, 82_000_000, 1000 * per_source.num_outputs, 10.0, {}, per_source, 0, (), ()
    )


def test_a_plan_says_what_the_order_costs_and_which_would_be_cheapest() -> None:
    dear_last = make_plan("transforms: [HorizontalFlip, Rotate]")
    assert "in the order b a" in describe_plan(dear_last, cpus=2, peak_bytes=0)


def test_a_plan_in_the_cheapest_order_says_so() -> None:
    dear_first = make_plan("transforms: [Rotate, HorizontalFlip]")
    assert "no other order takes less" in describe_plan(dear_first, cpus=2, peak_bytes=0)


def test_a_plan_leaves_out_the_lines_that_have_nothing_to_say() -> None:
    text = describe_plan(make_plan("transforms: [Rotate]"), cpus=1, peak_bytes=300_000_000)
    assert "complete" not in text
    assert "left out" not in text
    assert "gone" not in text
    assert "at most 300.0 MB a worker" in text


def test_a_plan_of_what_is_missing_says_so_and_names_what_is_gone() -> None:
    plan = replace(make_plan("transforms: [Rotate]"), num_outputs=7, num_gone=3, gone=("a", "b"))
    text = describe_plan(plan, cpus=1)
    assert "7, some of the 2 in the tree of each source" in text
    assert "3 sources of earlier runs, whose images stay: a, b and 1 more" in text


def test_a_plan_without_work_names_what_is_gone() -> None:
    plan = replace(make_plan("transforms: [Rotate]"), num_shards=0, num_done=1200)
    assert describe_idle(plan) == (
        "Nothing to do: nothing is missing of 1,200 sources; what failed before is done again only "
        "if asked for."
    )
    assert describe_idle(plan, num_failed=0).endswith("nothing is missing of 1,200 sources.")
    assert describe_idle(plan, num_failed=3, retry="with existing=retry-failed").endswith(
        " of 1,200 sources but 3 that failed before; they are done again only with "
        "existing=retry-failed."
    )
    gone = replace(plan, num_gone=1, gone=("a.jpg",))
    assert describe_idle(gone).endswith(
        " Gone: 1 sources of earlier runs, whose images stay: a.jpg."
    )


def test_a_report_names_failures_by_reason_and_the_manifest() -> None:
    report = Report(
        run_id="r1",
        source="photos",
        destination="s3://bucket/out",
        num_sources=10,
        num_done=0,
        num_failed=3,
        num_outputs=448,
        source_bytes=1,
        output_bytes=2,
        num_shards=1,
        shard_s=1.0,
        elapsed_s=1.0,
        failures={"truncated": 2, "empty": 1},
        max_error_rate=0.1,
        num_gone=2,
        num_pruned=0,
    )
    text = describe_report(report)
    assert "2 sources, whose images stay" in text
    assert "3: 2 truncated, 1 empty" in text
    assert "s3://bucket/out/_kaleidoscope/runs/r1/manifest/" in text
