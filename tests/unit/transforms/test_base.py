import math
from typing import Annotated

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from kaleidoscope.errors import TransformError
from kaleidoscope.transforms._base import (
    Bounds,
    Interval,
    IntInterval,
    check_within,
    uniform,
    uniform_int,
)


class Form(BaseModel):
    angle: Annotated[Interval, Bounds(-90, 90, "degrees")] = (0.0, 1.0)
    count: Annotated[IntInterval, Bounds(1, 5)] = (1, 2)


def test_a_single_number_is_the_interval_that_holds_it_alone() -> None:
    form = Form.model_validate({"angle": 30, "count": 3})
    assert form.angle == (30.0, 30.0)
    assert form.count == (3, 3)


@pytest.mark.parametrize("value", [(2, 1), (-91, 0), (0, 91), 100, (math.nan, 1)])
def test_an_interval_beyond_its_bounds_is_refused_with_the_bounds(value: object) -> None:
    with pytest.raises(ValidationError, match=r"-90.* <= low <= high <= 90.* degrees"):
        Form.model_validate({"angle": value})


@pytest.mark.parametrize("value", [True, "wide", (1,), (1, 2, 3), None])
def test_what_is_no_interval_is_refused(value: object) -> None:
    with pytest.raises(ValidationError):
        Form.model_validate({"angle": value})


@pytest.mark.parametrize("value", [1.5, (1, 2.5)])
def test_an_interval_of_whole_numbers_takes_no_fractions(value: object) -> None:
    with pytest.raises(ValidationError, match="integer"):
        Form.model_validate({"count": value})


def test_the_json_schema_bounds_both_numbers() -> None:
    schema = Form.model_json_schema()["properties"]["angle"]
    assert schema["prefixItems"] == [{"type": "number", "minimum": -90, "maximum": 90}] * 2


@given(low=st.integers(-50, 50), width=st.integers(0, 50), seed=st.integers(0, 2**32))
def test_draws_lie_within_their_interval(low: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    assert low <= uniform(rng, (low, low + width)) <= low + width
    assert low <= uniform_int(rng, (low, low + width)) <= low + width


def test_both_ends_of_a_whole_interval_are_drawn() -> None:
    rng = np.random.default_rng(1)
    assert {uniform_int(rng, (1, 3)) for _ in range(100)} == {1, 2, 3}


@pytest.mark.parametrize("value", [math.nan, math.inf, -1, 2])
def test_a_parameter_out_of_range_is_refused_with_its_value(value: float) -> None:
    with pytest.raises(TransformError, match=rf"the gain must be .* in \[0, 1\], got {value}"):
        check_within("the gain", value, low=0, high=1)


def test_a_parameter_without_limits_must_still_be_finite() -> None:
    check_within("the angle", -1e9)
    with pytest.raises(TransformError, match="inf"):
        check_within("the angle", math.inf)
