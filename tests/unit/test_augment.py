import hashlib
import json

import numpy as np
import pytest

from kaleidoscope.augment import Augmenter
from kaleidoscope.codecs import EncodeSpec, decode, encode, probe
from kaleidoscope.errors import CodecError, RecipeError
from tests import data_sets, image_files

RECIPE = data_sets.recipe(side=20)
DATA = image_files.opencv(".png", image_files.picture(64, 48))


def test_the_root_is_the_normalised_source_and_says_where_it_was_cut() -> None:
    root = Augmenter(RECIPE).root(DATA)
    assert root.sha256 == hashlib.sha256(DATA).hexdigest()
    assert (root.header.width, root.header.height) == (64, 48)
    assert root.image.shape == (20, 20, 3)
    assert root.image.dtype == np.uint8
    params = json.loads(root.edge.params)
    assert params.keys() == {"mode", "side", "offset"}
    assert root.edge.operation.params() == params


def test_the_nodes_that_are_announced_are_those_that_come() -> None:
    augmenter = Augmenter(data_sets.recipe(order="shuffled", select={"max_outputs_per_source": 5}))
    for image in data_sets.plain_images(8).values():
        root = augmenter.root(image)
        grown = [output.growth.node.name for output in augmenter.outputs(root)]
        assert augmenter.output_nodes(root) == tuple(grown)
        assert len(grown) == 5


def test_an_output_is_its_image_in_the_format_of_the_recipe() -> None:
    augmenter = Augmenter(data_sets.recipe(output={"format": "png"}))
    root = augmenter.root(DATA)
    for output in augmenter.outputs(root):
        assert output.spec == EncodeSpec("png")
        assert output.data == encode(output.growth.image, output.spec)
        header = probe(output.data, max_pixels=1000)
        np.testing.assert_array_equal(decode(output.data, header), output.growth.image)


@pytest.mark.parametrize("name", image_files.whole_files())
def test_a_source_keeps_its_format_if_the_recipe_says_so(name: str) -> None:
    data = image_files.whole_files()[name]
    augmenter = Augmenter(data_sets.recipe(output={"format": "source", "quality": 80}))
    root = augmenter.root(data)
    formats = {probe(o.data, max_pixels=1000).format for o in augmenter.outputs(root)}
    assert formats == {root.header.format}


def test_outputs_depend_on_content_and_seed_and_on_nothing_else() -> None:
    def made(data: bytes, **fields: int) -> list[bytes]:
        augmenter = Augmenter(data_sets.recipe(**fields))
        return [output.data for output in augmenter.outputs(augmenter.root(data))]

    assert made(DATA) == made(bytes(bytearray(DATA)))
    # Roots may agree, since the square has few places to lie in.
    assert not set(made(DATA)[1:]) & set(made(DATA, seed=8)[1:])
    same_pixels = DATA[:-12] + image_files.png_chunk(b"tEXt", b"a\0b") + DATA[-12:]
    assert not set(made(DATA)[1:]) & set(made(same_pixels)[1:])


def test_one_augmenter_serves_many_sources_in_any_order() -> None:
    augmenter = Augmenter(RECIPE)
    first, second = (augmenter.root(data) for data in list(data_sets.plain_images(2).values()))
    alone = [output.data for output in Augmenter(RECIPE).outputs(first)]
    interleaved = [
        a.data for a, _ in zip(augmenter.outputs(first), augmenter.outputs(second), strict=True)
    ]
    assert interleaved == alone


def test_a_source_over_the_limit_is_refused_before_it_is_decoded() -> None:
    augmenter = Augmenter(data_sets.recipe(limits={"max_pixels": 64 * 48 - 1}))
    with pytest.raises(CodecError, match=r"limits\.max_pixels"):
        augmenter.root(DATA)


def test_a_recipe_that_selects_nothing_is_refused_at_once() -> None:
    nothing = data_sets.recipe(select={"keep_original": False, "exclude": ["*"]})
    with pytest.raises(RecipeError, match="select leaves no node"):
        Augmenter(nothing)
