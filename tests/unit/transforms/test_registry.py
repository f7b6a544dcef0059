import pkgutil

import pytest

from kaleidoscope import transforms
from kaleidoscope.errors import TransformError
from kaleidoscope.transforms import TRANSFORMS, load_operation
from kaleidoscope.transforms.rotate import Rotated


def test_every_module_without_underscore_holds_one_transform() -> None:
    modules = {m.name for m in pkgutil.iter_modules(transforms.__path__) if m.name[0] != "_"}
    homes = {transform.__module__.rpartition(".")[2] for transform in TRANSFORMS.values()}
    assert homes == modules
    assert len(TRANSFORMS) == len(modules)


def test_an_operation_comes_back_from_its_record() -> None:
    assert load_operation("Rotate", 1, {"angle_deg": 30.0}) == Rotated(angle_deg=30.0)


def test_lists_of_json_become_tuples_again() -> None:
    insets = [0.1] * 8
    operation = load_operation("Perspective", 1, {"insets": insets})  # type: ignore[dict-item]  # JSON has no tuples.
    assert operation.params() == {"insets": tuple(insets)}


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(TransformError, match=r"'Swirl'.*Rotate"):
        load_operation("Swirl", 1, {})


def test_another_version_is_refused() -> None:
    with pytest.raises(TransformError, match="version 99"):
        load_operation("Rotate", 99, {"angle_deg": 30.0})


@pytest.mark.parametrize("params", [{}, {"angle": 3.0}, {"angle_deg": 3.0, "zoom": 1.0}])
def test_other_parameters_are_refused(params: dict[str, float]) -> None:
    with pytest.raises(TransformError, match="angle_deg"):
        load_operation("Rotate", 1, params)
