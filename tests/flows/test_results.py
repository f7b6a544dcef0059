"""What a run leaves in Prefect, read from a real server."""

import base64
import itertools
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import Artifact, State

from flows import results
from flows.augment import augment
from flows.plots import bars, rate_over_time, thin_out
from flows.results import Results, draw_sheet, report_page
from kaleidoscope.recipe import Recipe
from kaleidoscope.runs import list_runs, load_report, load_run
from kaleidoscope.stores import open_store
from tests import data_sets

RECIPE = """
normalize: {side: 32}
transforms: [HorizontalFlip, Rotate]
"""


def artifacts_of(client: SyncPrefectClient, form: dict[str, Any]) -> dict[str, Artifact]:
    state = cast(State[Any], augment(**form, return_state=True))
    flow_run_id = state.state_details.flow_run_id
    assert flow_run_id is not None
    shown = client.read_artifacts(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
    )
    return {str(artifact.key): artifact for artifact in shown}


def test_a_run_leaves_a_page_and_a_table_and_the_next_says_that_there_is_nothing_to_do(
    photos: Path, tmp_path: Path, client: SyncPrefectClient
) -> None:
    (photos / "cats" / "broken.jpg").write_bytes(b"no image")
    out = tmp_path / "out"
    form = {
        "source": str(photos),
        "destination": str(out),
        "custom_recipe": RECIPE,
        "replicas": 2,
        "limits": {"max_error_rate": 0.5},
    }
    shown = artifacts_of(client, form)
    page = str(shown["augment-report"].data)
    assert len(page) < 400_000
    assert "## 16 images of 4 photographs" in page
    assert "| failed | 1 (20.0%) |" in page
    assert "- `cats/broken.jpg`: " in page
    assert f'uri = "{out}"' in page
    assert f"`{out}/metadata.parquet`" in page
    for place in re.findall(rf"`({re.escape(str(out))}/[^`]+)`", page):
        assert Path(place).exists(), place
    sheet = re.search(r"!\[Contact sheet of 4 images\]\(data:image/webp;base64,([^)]+)\)", page)
    assert sheet is not None
    data = np.frombuffer(base64.b64decode(sheet[1]), np.uint8)
    assert cv2.imdecode(data, cv2.IMREAD_COLOR) is not None
    assert page.count("data:image/svg+xml;base64,") == 3
    rows = json.loads(str(shown["augment-shards"].data))
    assert [row["shard"] for row in rows] == [0, 1]
    assert sum(row["images"] for row in rows) == 16
    assert sum(row["failed"] for row in rows) == 1
    assert [row["attempts"] for row in rows] == [1, 1]

    again = artifacts_of(client, form)
    assert "but 1 that failed before; they are done again only with existing=retry-failed." in str(
        again["augment-report"].data
    )
    assert "augment-shards" not in again


def test_the_sheet_lacks_what_is_not_for_the_label_of_the_photograph(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, {"left/a.jpg": data_sets.plain_images(1)["a/000.jpg"]})
    flip = {"name": "HorizontalFlip", "not_for": ["left"]}
    report = place.run(Recipe.from_mapping({"transforms": [flip, "Rotate"]}))
    ended = Results(load_run(place.destination, report.run_id), report, (), "flips")
    text = draw_sheet(ended, place.source, place.destination)
    assert "\n\n2 images of `left/a.jpg`. " in text
    assert "The recipe's other images are `not for left: a HorizontalFlip`." in text


def test_a_sheet_that_is_too_large_is_drawn_smaller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = data_sets.local(tmp_path, data_sets.plain_images(1))
    report = place.run(Recipe.from_mapping({"transforms": ["HorizontalFlip", "Rotate"]}))
    ended = Results(load_run(place.destination, report.run_id), report, (), "flips")
    large = draw_sheet(ended, place.source, place.destination)
    size = len(base64.b64decode(large.partition("base64,")[2].partition(")")[0]))
    monkeypatch.setattr(results, "MAX_SHEET_SIZE", size - 1)
    small = draw_sheet(ended, place.source, place.destination)
    assert small.startswith("![Contact sheet of 4 images]")
    assert len(small) < len(large)


@pytest.mark.usefixtures("server")
def test_the_page_says_what_was_made_good_and_counts_the_attempts(
    photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    augment(source=str(photos), destination=str(out), custom_recipe=RECIPE)
    store = open_store(str(out))
    run_id = list_runs(store)[0].run_id
    setbacks = ["shard 1 ended Crashed | <b>without</b> its part", "shard 11 ended Failed"]
    ended = Results(load_run(store, run_id), load_report(store, run_id), setbacks, "recipe")
    page = report_page(ended, sheet="", plots="", failures="", has_metadata=False)
    assert "2 tries of a shard came to nothing" in page
    assert r"Crashed \| \<b\>without" in page
    assert "What becomes of one photograph" not in page
    assert "metadata.parquet" not in page
    assert [ended.num_attempts(shard) for shard in (0, 1, 11)] == [1, 2, 2]


def test_rates_over_time_add_up_to_all_images() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    spans = [(start, 4.0, 100), (start + timedelta(seconds=2), 8.0, 60)]
    rates = rate_over_time(spans, num_bins=7)
    assert sum(rates) * 10 / 7 == pytest.approx(160)
    assert rates[-1] == pytest.approx(60 / 8)


def test_shards_that_took_no_time_have_no_rate() -> None:
    assert rate_over_time([(datetime(2026, 1, 1, tzinfo=UTC), 0.0, 0)], num_bins=2) == [0.0, 0.0]


def test_thinning_keeps_order_and_leaves_nothing_out() -> None:
    assert thin_out([1, 3, 5, 7], 2) == [2, 6]
    assert thin_out([1, 2], 5) == [1, 2]
    thinned = thin_out(range(1003), 80)
    assert len(thinned) == 80
    assert all(low < high for low, high in itertools.pairwise(thinned))


def test_a_title_cannot_break_a_chart() -> None:
    chart = bars("a < b & c", [0.0, 0.0], left="<", right=">")
    picture = base64.b64decode(chart.partition("base64,")[2].rstrip(")")).decode()
    assert "a &lt; b &amp; c" in picture
    assert picture.count("<text") == picture.count("</text>") == 4


def test_what_is_too_much_for_the_page_is_cut_and_it_says_so(
    photos: Path, tmp_path: Path, client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "MAX_SHARDS", 2)
    monkeypatch.setattr(results, "MAX_SHEET_SIZE", 10)
    form = {
        "source": str(photos),
        "destination": str(tmp_path / "out"),
        "custom_recipe": RECIPE + "balance: {images_per_class: 5}",
        "replicas": 4,
    }
    shown = artifacts_of(client, form)
    page = str(shown["augment-report"].data)
    assert "Its contact sheet is too large for this page" in page
    assert "data:image/webp" not in page
    assert "| cats | 2 | 5 | 5 |  |" in page
    assert len(json.loads(str(shown["augment-shards"].data))) == 2
    assert "These are the first 2; 2 more are left out." in str(shown["augment-shards"].description)

    (photos / "cats" / "tom.jpg").unlink()
    page = str(artifacts_of(client, form)["augment-report"].data)
    assert "### Gone\n\n1 photographs of earlier runs" in page
    assert "cats/tom.jpg" in page
