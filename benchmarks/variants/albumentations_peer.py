"""Albumentations with the parameters of ``classic``: chain by chain, or on our tree."""

import math
from collections.abc import Sequence

import albumentations as A  # noqa: N812 -- what everyone calls it.
import cv2
import numpy as np

from benchmarks.variants._interface import JPEG_QUALITY, SIDE, Options, Variant, all_chains

_SPECKLE = math.sqrt(3) / 255
"""Half the width of a uniform multiplier with the standard deviation of ``classic``'s speckle."""

_TRANSFORMS: tuple[A.BasicTransform | A.BaseCompose, ...] = (
    # It zooms in by cropping, so its own resize brings the size back.
    A.Compose([A.Rotate(limit=180, crop_border=True, p=1), A.Resize(SIDE, SIDE, p=1)]),
    A.RandomBrightnessContrast(brightness_limit=0, contrast_limit=(-0.5, 1.0), p=1),
    A.RandomBrightnessContrast(brightness_limit=(0, 100 / 255), contrast_limit=0, p=1),
    A.ColorJitter(brightness=(1, 1), contrast=(1, 1), saturation=(0, 3), hue=(0, 0), p=1),
    A.HorizontalFlip(p=1),
    A.OneOf(
        [
            A.GaussNoise(std_range=(math.sqrt(2) / 255, math.sqrt(2) / 255), p=1),
            A.SaltAndPepper(amount=(0.02, 0.02), salt_vs_pepper=(0.5, 0.5), p=1),
            A.MultiplicativeNoise(
                (1 - _SPECKLE, 1 + _SPECKLE), per_channel=True, elementwise=True, p=1
            ),
        ],
        p=1,
    ),
)


class _Albumentations:
    def __init__(self, *, shares_prefixes: bool) -> None:
        self._shares_prefixes = shares_prefixes

    def prepare(self, photographs: Sequence[bytes]) -> None:
        """Nothing has to be prepared."""

    def run(self, photographs: Sequence[bytes]) -> int:
        quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        num_images = 0
        for data in photographs:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
            side = min(image.shape[:2])
            # Albumentations' own crop, resized as it resizes by default.
            normalize = A.Compose([A.RandomCrop(side, side, p=1), A.Resize(SIDE, SIDE, p=1)])
            root = normalize(image=image)["image"]
            make = self._grow if self._shares_prefixes else self._chain
            for made in make(root):
                cv2.imencode(".jpg", made, quality)[1].tobytes()
                num_images += 1
        return num_images

    @staticmethod
    def _chain(root: np.ndarray) -> list[np.ndarray]:
        made = []
        for chain in all_chains():
            image = root
            for step in chain:
                image = _TRANSFORMS[step](image=image)["image"]
            made.append(image)
        return made

    @staticmethod
    def _grow(root: np.ndarray) -> list[np.ndarray]:
        images: dict[tuple[int, ...], np.ndarray] = {}
        for chain in all_chains():
            if chain:
                images[chain] = _TRANSFORMS[chain[-1]](image=images[chain[:-1]])["image"]
            else:
                images[chain] = root
        return list(images.values())


def make_variant(options: Options) -> Variant:
    """Return it chain by chain, or on a tree with ``tree=1``."""
    return _Albumentations(shares_prefixes=bool(options.get("tree")))
