"""What prefect.yaml says, against the flows that it deploys."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.form import AugmentForm

ROOT = Path(__file__).parents[2]


def parents() -> list[dict[str, Any]]:
    document = yaml.safe_load((ROOT / "prefect.yaml").read_text("utf-8"))
    return [entry for entry in document["deployments"] if entry["entrypoint"].endswith("augment")]


@pytest.mark.parametrize("deployment", parents(), ids=lambda entry: str(entry["name"]))
def test_the_example_schedule_is_off_and_fills_in_the_form(deployment: dict[str, Any]) -> None:
    (schedule,) = deployment["schedules"]
    assert schedule["active"] is False
    form = AugmentForm(**deployment["parameters"], **schedule["parameters"])
    assert form.existing == "retry-failed"
    assert form.execution == "work-pool"
