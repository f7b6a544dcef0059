"""Augmentor's operations, chain by chain, with Pillow's noise since it has none."""

import io
from collections.abc import Sequence

from Augmentor import Operations
from PIL import Image, ImageOps

from benchmarks.variants._interface import JPEG_QUALITY, SIDE, Options, Variant, all_chains
from benchmarks.variants.pillow_peer import _noise

_OPERATIONS = (
    # Its ranges end at 25 degrees.
    Operations.RotateRange(1, max_left_rotation=25, max_right_rotation=25),
    Operations.RandomContrast(1, 0.5, 2.0),
    Operations.RandomBrightness(1, 1.0, 1.4),
    Operations.RandomColor(1, 0.0, 3.0),
    Operations.Flip(1, top_bottom_left_right="LEFT_RIGHT"),
)


class _Augmentor:
    def prepare(self, photographs: Sequence[bytes]) -> None:
        """Nothing has to be prepared."""

    def run(self, photographs: Sequence[bytes]) -> int:
        num_images = 0
        for data in photographs:
            photograph = Image.open(io.BytesIO(data)).convert("RGB")
            root = ImageOps.fit(photograph, (SIDE, SIDE), Image.Resampling.BILINEAR)
            for chain in all_chains():
                images = [root]
                for step in chain:
                    if step < len(_OPERATIONS):
                        images = _OPERATIONS[step].perform_operation(images)
                    else:
                        images = [_noise(images[0])]
                images[0].save(io.BytesIO(), "JPEG", quality=JPEG_QUALITY)
                num_images += 1
        return num_images


def make_variant(options: Options) -> Variant:
    """Return it; it has no options."""
    del options
    return _Augmentor()
