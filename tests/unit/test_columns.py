"""Columns are those that pyarrow makes, and pandas stays out of a process that runs shards."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaleidoscope.columns import repeated, to_column
from tests import data_sets

KINDS: dict[Any, st.SearchStrategy[Any]] = {
    pa.string(): st.text(),
    pa.int8(): st.integers(-128, 127),
    pa.int32(): st.integers(-(2**31), 2**31 - 1),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.timestamp("us", tz="UTC"): st.datetimes(timezones=st.just(UTC)),
}


@pytest.mark.parametrize("kind", KINDS, ids=str)
@given(data=st.data())
def test_a_column_is_the_one_that_pyarrow_makes(kind: Any, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.none() | KINDS[kind]))
    made = to_column(values, kind)
    made.validate(full=True)
    assert made.equals(pa.array(values, kind))


@pytest.mark.parametrize("value", ["ä", None])
def test_one_value_is_repeated(value: str | None) -> None:
    assert repeated(value, pa.string(), 5).equals(pa.array([value] * 5, pa.string()))


def test_a_number_beyond_its_kind_is_an_error() -> None:
    with pytest.raises(OverflowError):
        to_column([2**31], pa.int32())


def test_times_are_of_any_zone() -> None:
    noon = datetime.fromisoformat("2026-11-26T12:00:00+02:00")
    assert to_column([noon], pa.timestamp("us", tz="UTC")).to_pylist() == [noon]


RUN_A_SHARD = """
import sys
from datetime import UTC, datetime
import flows.shard
from kaleidoscope.pipeline import run_shard
from kaleidoscope.runs import list_runs, load_run
from kaleidoscope.stores import open_store
source, destination = map(open_store, sys.argv[1:])
run = load_run(destination, list_runs(destination)[0].run_id)
stats = run_shard(source, destination, run, 0, workers=1, now=datetime.now(UTC))
assert stats.num_outputs == 4, stats
print(sorted(name for name in sys.modules if name.split(".")[0] in {"pandas", "pyarrow"}))
"""


def test_a_process_that_runs_shards_does_without_pandas(tmp_path: Path) -> None:
    place = data_sets.local(tmp_path, data_sets.plain_images(1))
    place.start(data_sets.recipe(steps=2, side=16))
    done = subprocess.run(
        [sys.executable, "-c", RUN_A_SHARD, str(tmp_path / "source"), place.destination.uri],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "pyarrow.parquet" in done.stdout
    assert "pandas" not in done.stdout
    assert "pyarrow.dataset" not in done.stdout
