"""What holds for the names of all outputs, whatever the sources are called."""

import posixpath

from hypothesis import example, given
from hypothesis import strategies as st

from kaleidoscope.identity import label_of, output_id, output_key, source_id

_TEXT = st.characters(exclude_categories=["Cs"], exclude_characters="/\0")
_COMPONENTS = st.text(_TEXT, min_size=1, max_size=255).filter(lambda name: name not in {".", ".."})
KEYS = st.lists(_COMPONENTS, min_size=1, max_size=4).map("/".join)
NODES = st.sampled_from(
    ["root", "a", "ac", "a2c1", "".join(f"{c}9" for c in map(chr, range(97, 123)))]
)
EXTENSIONS = st.sampled_from([".jpg", ".png", ".webp"])
NAME_MAX = 255
"""Bytes of a path component on the file systems of Linux."""


@given(KEYS, NODES, EXTENSIONS)
@example("dogs/" + "x" * 296 + ".jpg", "root", ".jpg")
@example("dogs/" + "犬" * 100, "root", ".jpg")
@example("dogs/.rex", "root", ".jpg")
def test_the_name_has_one_dot_and_fits_a_file_system(key: str, node: str, extension: str) -> None:
    name = posixpath.basename(output_key(key, node, extension))
    assert name.count(".") == 1
    assert name.endswith(f"-{node}{extension}")
    assert len(name.encode()) <= NAME_MAX


@given(KEYS, NODES, EXTENSIONS)
def test_the_folders_stay(key: str, node: str, extension: str) -> None:
    output = output_key(key, node, extension)
    assert posixpath.dirname(output) == posixpath.dirname(key)
    assert label_of(output) == label_of(key)


@st.composite
def alike_keys(draw: st.DrawFn) -> list[str]:
    """Keys in one folder that differ only where their outputs' stems may not."""
    stem = draw(st.sampled_from(["rex", "r.e.x", ".rex", "犬", "x" * 300]))
    endings = st.sampled_from(
        ["", ".jpg", ".JPG", ".png", ".jpeg", ".tar.gz", "_", ".", "..jpg", "y"]
    )
    folders = st.sampled_from(["", "dogs/", "dogs/dogs/"])
    keys = st.tuples(folders, endings).map(lambda parts: f"{parts[0]}{stem}{parts[1]}")
    return draw(st.lists(keys, min_size=2, max_size=8, unique=True))


@given(alike_keys())
def test_no_two_sources_share_an_output(keys: list[str]) -> None:
    outputs = {output_key(key, node, ".jpg") for key in keys for node in ("root", "a", "ab")}
    assert len(outputs) == 3 * len(keys)
    assert len({name.casefold() for name in outputs}) == 3 * len(keys)


@given(st.lists(st.tuples(KEYS, NODES), min_size=2, max_size=8, unique=True))
def test_ids_are_as_unique_as_what_they_stand_for(pairs: list[tuple[str, str]]) -> None:
    assert len({output_id(*pair) for pair in pairs}) == len(pairs)
    assert len({source_id(key) for key, _ in pairs}) == len({key for key, _ in pairs})


@given(KEYS, NODES, EXTENSIONS)
def test_an_output_can_be_found_by_its_sources_id(key: str, node: str, extension: str) -> None:
    assert source_id(key) in output_id(key, node)
    assert source_id(key)[:8] in output_key(key, node, extension)
