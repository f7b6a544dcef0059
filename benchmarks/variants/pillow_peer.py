"""Pillow with NumPy noise, chain by chain, with the parameters of ``classic``."""

import io
import math
import random
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from benchmarks.variants._interface import JPEG_QUALITY, SIDE, Options, Variant, all_chains

_RNG = np.random.default_rng(1)
_CHOICE = random.Random(1)  # noqa: S311 -- not a secret.


def _rotate(image: Image.Image) -> Image.Image:
    angle = _CHOICE.uniform(-180, 180)
    rotated = image.rotate(angle, Image.Resampling.BILINEAR)
    inner = abs(math.cos(math.radians(angle))) + abs(math.sin(math.radians(angle)))
    margin = (SIDE - SIDE / inner) / 2
    box = (margin, margin, SIDE - margin, SIDE - margin)
    return rotated.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box)


def _noise(image: Image.Image) -> Image.Image:
    pixels = np.asarray(image)
    kind = _CHOICE.randrange(3)
    if kind == 1:
        noisy = pixels.copy()
        shares = _RNG.random(pixels.shape, dtype=np.float32)
        noisy[shares < 0.01] = 0
        noisy[shares > 0.99] = 255
        return Image.fromarray(noisy)
    normal = _RNG.standard_normal(pixels.shape, dtype=np.float32)
    change = normal * math.sqrt(2) if kind == 0 else normal * pixels / 255
    return Image.fromarray(np.clip(np.rint(pixels + change), 0, 255).astype(np.uint8))


_TRANSFORMS: tuple[Callable[[Image.Image], Image.Image], ...] = (
    _rotate,
    lambda image: ImageEnhance.Contrast(image).enhance(_CHOICE.uniform(0.5, 2.0)),
    lambda image: ImageEnhance.Brightness(image).enhance(_CHOICE.uniform(1.0, 1.4)),
    lambda image: ImageEnhance.Color(image).enhance(_CHOICE.uniform(0, 3)),
    ImageOps.mirror,
    _noise,
)


class _Pillow:
    def prepare(self, photographs: Sequence[bytes]) -> None:
        """Nothing has to be prepared."""

    def run(self, photographs: Sequence[bytes]) -> int:
        num_images = 0
        for data in photographs:
            photograph = Image.open(io.BytesIO(data)).convert("RGB")
            root = ImageOps.fit(photograph, (SIDE, SIDE), Image.Resampling.BILINEAR)
            for chain in all_chains():
                image = root
                for step in chain:
                    image = _TRANSFORMS[step](image)
                image.save(io.BytesIO(), "JPEG", quality=JPEG_QUALITY)
                num_images += 1
        return num_images


def make_variant(options: Options) -> Variant:
    """Return it; it has no options."""
    del options
    return _Pillow()
