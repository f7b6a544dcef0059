"""Commands that print what recipes and transforms there are."""

from kaleidoscope.recipe import Recipe
from kaleidoscope.transforms import TRANSFORMS
from tests.command_line import Command


def test_recipe_prints_a_preset_that_can_be_read_back(command: Command) -> None:
    code, out, _ = command("recipe", "classic")
    assert code == 0
    assert Recipe.from_text(out) == Recipe.preset("classic")


def test_recipe_without_a_name_lists_the_presets(command: Command) -> None:
    code, out, _ = command("recipe")
    assert code == 0
    assert "classic" in out.split()


def test_transforms_are_listed_with_their_ranges(command: Command) -> None:
    code, out, _ = command("transforms")
    assert code == 0
    assert [line.partition(":")[0] for line in out.splitlines() if line[0] != " "] == [*TRANSFORMS]
    assert "limit: Angle in degrees" in command("transforms", "Rotate")[1]
    assert "within [-180, 180]" in command("transforms", "Rotate")[1]
