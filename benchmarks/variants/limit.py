"""What no program can beat that uses OpenCV's codec: decode, resize, encode, and no transform."""

from collections.abc import Sequence

import cv2
import numpy as np

from benchmarks.variants._interface import JPEG_QUALITY, NUM_TRANSFORMS, SIDE, Options, Variant

_QUALITY = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]


class _Limit:
    """Encodes the resized photograph 64 times, or the images of the tree, made before."""

    def __init__(self, *, encodes_the_tree: bool) -> None:
        self._encodes_the_tree = encodes_the_tree
        self._images: list[list[np.ndarray]] = []

    def prepare(self, photographs: Sequence[bytes]) -> None:
        if self._encodes_the_tree:
            self._images = [_images_of_the_tree(data) for data in photographs]

    def run(self, photographs: Sequence[bytes]) -> int:
        num_images = 0
        for index, data in enumerate(photographs):
            root = _resize(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))
            images = self._images[index] if self._encodes_the_tree else [root] * 2**NUM_TRANSFORMS
            for image in images:
                cv2.imencode(".jpg", image, _QUALITY)[1].tobytes()
            num_images += len(images)
        return num_images


def _resize(image: np.ndarray) -> np.ndarray:
    side = min(image.shape[:2])
    return cv2.resize(image[:side, :side], (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)


def _images_of_the_tree(data: bytes) -> list[np.ndarray]:
    from kaleidoscope.augment import Augmenter  # noqa: PLC0415 -- the limit alone needs none of it.
    from kaleidoscope.recipe import Recipe  # noqa: PLC0415

    augmenter = Augmenter(Recipe.preset("classic"))
    return [output.growth.image.copy() for output in augmenter.outputs(augmenter.root(data))]


def make_variant(options: Options) -> Variant:
    """Return the limit; with ``encode=tree`` for the very images that ``classic`` makes."""
    return _Limit(encodes_the_tree=options.get("encode") == "tree")
