"""Names as users meet them."""

import pytest

from kaleidoscope.identity import label_of, output_id, output_key, source_id


def test_a_source_has_the_first_digits_of_the_hash_of_its_key() -> None:
    # printf dogs/rex.jpg | sha256sum
    assert source_id("dogs/rex.jpg") == "d0a58b9b502b8903"


def test_an_output_is_its_source_and_its_node() -> None:
    assert output_id("dogs/rex.jpg", "ac") == "d0a58b9b502b8903-ac"


@pytest.mark.parametrize(
    ("source_key", "folder_and_stem", "extension"),
    [
        ("dogs/rex.jpg", "dogs/rex", ".jpg"),
        ("rex.jpg", "rex", ".jpg"),
        ("a/b/c/rex.jpg", "a/b/c/rex", ".jpg"),
        ("dogs/rex", "dogs/rex", ".png"),
        ("dogs/rex.2024.01.jpg", "dogs/rex_2024_01", ".jpg"),
        ("dogs.v2/rex.jpg", "dogs.v2/rex", ".jpg"),
        ("dogs/.hidden.jpg", "dogs/_hidden", ".jpg"),
        ("dogs/.jpg", "dogs/_jpg", ".jpg"),
        ("dogs/rex..jpg", "dogs/rex_", ".jpg"),
        ("dogs/my rex (1).JPG", "dogs/my rex (1)", ".jpg"),
        ("犬/レックス.jpg", "犬/レックス", ".webp"),
    ],
)
def test_an_output_lies_in_its_sources_folder(
    source_key: str, folder_and_stem: str, extension: str
) -> None:
    expected = f"{folder_and_stem}-{source_id(source_key)[:8]}-ac{extension}"
    assert output_key(source_key, "ac", extension) == expected


@pytest.mark.parametrize(
    ("source_key", "label"),
    [
        ("dogs/rex.jpg", "dogs"),
        ("animals/dogs/rex.jpg", "dogs"),
        ("rex.jpg", None),
        ("犬/rex.jpg", "犬"),
        ("dogs.v2/rex.jpg", "dogs.v2"),
    ],
)
def test_the_label_is_the_folder(source_key: str, label: str | None) -> None:
    assert label_of(source_key) == label
