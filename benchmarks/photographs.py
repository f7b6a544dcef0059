"""Photographs to measure with: crops of the example photographs, in the sizes people have."""

import itertools
import random
from pathlib import Path

import cv2
import numpy as np

SIZES = ((500, 375), (640, 480), (800, 600), (1024, 768), (1280, 960))
"""Width and height in pixels."""

JPEG_QUALITY = 90


def make_photographs(originals: Path, folder: Path, *, number: int) -> list[Path]:
    """Write ``number`` different JPEGs into ``folder``, unless they are there, and return them.

    Each is a random crop of an original, scaled to one of :data:`SIZES`; the same number gives
    the same photographs. All are JPEG 4:2:0, as cameras write them.
    """
    paths = [folder / f"photograph-{index:03d}.jpg" for index in range(number)]
    if all(path.exists() for path in paths):
        return paths
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(1)  # noqa: S311 -- not a secret.
    sources = [cv2.imread(str(path)) for path in sorted(originals.glob("*/*.jpg"))]
    if not sources:
        raise FileNotFoundError(f"no photographs in {originals}")
    turns = itertools.cycle([source for source in sources if source is not None])
    for path, source, size in zip(paths, turns, itertools.cycle(SIZES), strict=False):
        quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        _, data = cv2.imencode(".jpg", _crop(source, size, rng), quality)
        path.write_bytes(data.tobytes())
    return paths


def _crop(source: cv2.typing.MatLike, size: tuple[int, int], rng: random.Random) -> np.ndarray:
    height, width = source.shape[:2]
    # From three quarters of the picture to all of it, in the shape that was asked for.
    share = rng.uniform(0.75, 1.0)
    scale = share * min(width / size[0], height / size[1])
    crop_width, crop_height = int(size[0] * scale), int(size[1] * scale)
    left, top = rng.randint(0, width - crop_width), rng.randint(0, height - crop_height)
    crop = source[top : top + crop_height, left : left + crop_width]
    interpolation = cv2.INTER_AREA if scale > 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(crop, size, interpolation=interpolation))
