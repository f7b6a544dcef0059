"""Runs of a whole cluster, disturbed: the outputs must be those of an undisturbed run."""

import pytest

from tests.cluster.conftest import Augmentation

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("workers")]


def test_six_shards_run_in_six_pods_three_at_a_time(
    augmentation: Augmentation, expected: dict[str, str]
) -> None:
    run_id = augmentation.start()
    assert augmentation.finish(run_id) == "Completed"
    assert augmentation.outputs() == expected
    assert len(augmentation.children(run_id)) == 6
