"""What the parent costs with many shards, in small; `make bench-dispatch` does it in large."""

import pytest

from benchmarks.dispatch import measure
from tools.postgresql import find_programs


@pytest.mark.skipif(find_programs() is None, reason="PostgreSQL is not installed")
@pytest.mark.timeout(600)
def test_a_parent_keeps_its_bounds_with_many_shards_on_postgresql() -> None:
    costs = measure(60, 30, shard_s=1.0)
    assert costs.num_completed == 60
    assert 10 < costs.most_in_flight <= 30
    assert costs.requests["POST /deployments/{id}/create_flow_run"] == 60
    assert not costs.broken_bounds()
