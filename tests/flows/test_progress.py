"""What a person sees of a run."""

import pytest

from flows.progress import Tally, shard_line
from kaleidoscope.manifest import ShardStats


def tally(num_sources: int, *, elapsed_s: float, before: int = 0) -> Tally:
    return Tally(
        num_shards=4,
        num_shards_before=before,
        num_sources=100,
        done=ShardStats(num_sources=num_sources, num_outputs=10 * num_sources),
        elapsed_s=elapsed_s,
    )


def test_a_run_says_what_is_done_how_fast_and_how_long_it_will_take() -> None:
    assert (
        str(tally(25, elapsed_s=5)) == "250 images from 25 of 100 sources, 50 images/s, 15.0 s left"
    )


def test_a_run_that_has_not_begun_promises_nothing() -> None:
    assert str(tally(0, elapsed_s=0)) == "0 images from 0 of 100 sources, 0 images/s"


def test_shards_of_an_earlier_flow_run_count_as_done_but_not_as_fast() -> None:
    resumed = tally(25, elapsed_s=5, before=2)
    assert resumed.fraction == pytest.approx(0.75)
    assert resumed.left_s == pytest.approx(5)
    assert "2 shards before" in str(resumed)


def test_uneven_shards_never_make_more_than_all() -> None:
    assert tally(90, elapsed_s=1, before=2).fraction == 1


def test_a_shard_says_what_it_made_and_what_failed() -> None:
    stats = ShardStats(num_sources=3, num_failed=1, num_outputs=1234, wall_s=2.04)
    assert shard_line(7, stats) == "Shard 7: 1,234 images from 3 sources, 1 failed in 2.0 s"
