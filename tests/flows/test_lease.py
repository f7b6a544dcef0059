"""Two runs on one destination, one of them a flow."""

from pathlib import Path

import pytest
from prefect import flow
from prefect.runtime import flow_run

from flows.augment import augment
from flows.lease import at_work
from kaleidoscope.errors import LeaseError
from kaleidoscope.lease import LEASE_KEY, Holder, hold, read_holder
from kaleidoscope.stores import LocalStore
from tests.data_sets import NOW

pytestmark = pytest.mark.usefixtures("server")

OTHER = Holder("other", "process 17", "ada.example", NOW)


def test_a_flow_run_is_refused_with_the_name_of_who_is_at_work(tmp_path: Path) -> None:
    @flow
    def refused() -> None:
        with at_work(LocalStore(tmp_path), wait_s=0):
            pass

    with (
        hold(LocalStore(tmp_path), OTHER),
        pytest.raises(LeaseError, match=r"process 17 on ada\.example"),
    ):
        refused()


def test_a_retry_of_a_flow_run_that_was_killed_goes_on_at_once(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    tries: list[int] = []

    @flow(retries=1)
    def killed_once() -> None:
        with at_work(store, wait_s=0) as lease:
            tries.append(flow_run.run_count)
            held = store.get(LEASE_KEY).data
            lease.check()
        if len(tries) == 1:
            store.put(LEASE_KEY, held)  # A killed process releases nothing.
            raise ConnectionError

    killed_once()
    assert len(tries) == 2
    assert read_holder(store) is None


def test_augment_holds_the_lease_by_the_name_of_its_run_and_gives_it_back(
    photos: Path, tmp_path: Path
) -> None:
    destination = tmp_path / "destination"
    recipe = "transforms: [HorizontalFlip]\nnormalize: {side: 32}\n"
    augment(source=str(photos), destination=str(destination), custom_recipe=recipe)
    store = LocalStore(destination)
    assert read_holder(store) is None
    written = store.get(LEASE_KEY).data.decode()
    assert '"name": "flow run photos-recipe"' in written
