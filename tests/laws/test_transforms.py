"""What holds for every transform; a new one is found and tested without being listed."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaleidoscope.model import BgrImage
from kaleidoscope.transforms import TRANSFORMS, Bounds, Operation, Transform, load_operation

GEOMETRIC = [name for name, transform in TRANSFORMS.items() if transform.geometric]
MAY_SWAP_SIDES = {"RandomRotate90"}

sides = st.integers(1, 40)
seeds = st.integers(0, 2**32)


def image_of(height: int, width: int, content: int | str) -> BgrImage:
    """Return noise, named by a seed, or a plain surface of a grey level."""
    shape = (height, width, 3)
    if isinstance(content, int):
        return np.full(shape, content, dtype=np.uint8)
    seed = int(content.removeprefix("noise "))
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


contents = st.sampled_from([0, 255, 1, 128]) | st.builds("noise {}".format, seeds)
images = st.builds(image_of, sides, sides, contents)
surfaces = st.builds(image_of, sides, sides, st.integers(0, 255))


def widest(transform: type[Transform]) -> Transform:
    """Return the transform with every interval as wide as it may be."""
    bounds = {
        name: next((entry for entry in field.metadata if isinstance(entry, Bounds)), None)
        for name, field in transform.model_fields.items()
    }
    fields: Mapping[str, Any] = {name: (b.low, b.high) for name, b in bounds.items() if b}
    return transform(**fields)


@dataclasses.dataclass(frozen=True)
class Draw:
    wide: bool
    seed: int

    def of(self, name: str) -> Operation:
        transform = widest(TRANSFORMS[name]) if self.wide else TRANSFORMS[name]()
        return transform.sample(np.random.default_rng(self.seed))


draws = st.builds(Draw, wide=st.booleans(), seed=seeds)
every_transform = pytest.mark.parametrize("name", TRANSFORMS)


@every_transform
@given(image=images, draw=draws)
@settings(max_examples=40, deadline=None)
def test_the_result_is_a_new_image_of_the_same_kind(name: str, image: BgrImage, draw: Draw) -> None:
    before = image.copy()
    result = draw.of(name).apply(image)
    np.testing.assert_array_equal(image, before)
    assert not np.shares_memory(result, image)
    assert result.dtype == np.uint8
    assert result.flags.c_contiguous
    shapes = {image.shape, image.transpose(1, 0, 2).shape} if name in MAY_SWAP_SIDES else set()
    assert result.shape in shapes | {image.shape}


@every_transform
@given(image=images, draw=draws)
@settings(max_examples=20, deadline=None)
def test_recorded_parameters_give_the_same_bytes_again(
    name: str, image: BgrImage, draw: Draw
) -> None:
    operation = draw.of(name)
    recorded = json.loads(json.dumps(operation.params(), allow_nan=False))
    replayed = load_operation(name, TRANSFORMS[name].version, recorded)
    assert replayed == operation
    assert replayed.apply(image).tobytes() == operation.apply(image).tobytes()


@every_transform
@given(draw=draws)
@settings(max_examples=20, deadline=None)
def test_the_same_generator_draws_the_same_operation(name: str, draw: Draw) -> None:
    operation = draw.of(name)
    assert draw.of(name) == operation
    assert type(operation) is TRANSFORMS[name].operation


@every_transform
@given(image=images, draw=draws)
@settings(max_examples=10, deadline=None)
def test_a_view_with_gaps_is_taken_as_the_image_that_it_shows(
    name: str, image: BgrImage, draw: Draw
) -> None:
    operation = draw.of(name)
    padded = np.zeros((image.shape[0] + 2, image.shape[1] + 2, 3), dtype=np.uint8)
    padded[1:-1, 1:-1] = image
    result = operation.apply(padded[1:-1, 1:-1])
    assert result.flags.c_contiguous
    assert result.tobytes() == operation.apply(image).tobytes()


@pytest.mark.parametrize("name", GEOMETRIC)
@given(surface=surfaces, draw=draws)
@settings(max_examples=60, deadline=None)
def test_moving_pixels_leaves_no_blank_corner(name: str, surface: BgrImage, draw: Draw) -> None:
    assert (draw.of(name).apply(surface) == surface[0, 0]).all()


@every_transform
def test_every_field_has_bounds_and_a_help_text(name: str) -> None:
    fields = TRANSFORMS[name].model_json_schema()["properties"]
    for field in fields.values():
        assert field["description"].endswith(".")
        numbers = [number for number in field.get("prefixItems", [field]) if "enum" not in number]
        for number in numbers:
            if number["type"] in {"number", "integer"}:
                assert number["minimum"] < number["maximum"]


@every_transform
def test_every_transform_says_what_it_does_and_costs(name: str) -> None:
    transform = TRANSFORMS[name]
    assert transform.__doc__
    assert 0 < transform.cost_ns_per_pixel < 100
    assert "operation" not in transform.model_fields
    assert "geometric" not in transform.model_fields
