"""The original Kaleidoscope's way, written anew from its description.

All images of a photograph stay in a dictionary, from which each child takes its parent. The
order of the transforms is drawn for each photograph. Noise is drawn in float64 and wraps. After
a rotation the crop is resized with LANCZOS4. A flip is a view. Images go to scratch files, and
one process of the ``aws`` program uploads those of a photograph.
"""

import math
import random
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from benchmarks.variants._interface import (
    JPEG_QUALITY,
    NUM_TRANSFORMS,
    SIDE,
    Options,
    Variant,
    all_chains,
)

_RNG = np.random.default_rng(1)
_CHOICE = random.Random(1)  # noqa: S311 -- not a secret.


def _rotate(image: np.ndarray) -> np.ndarray:
    angle = _RNG.uniform(-180, 180)
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1.0)
    rotated = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR)
    inner = abs(math.cos(math.radians(angle))) + abs(math.sin(math.radians(angle)))
    margin = int((width - width / inner) / 2)
    crop = rotated[margin : height - margin, margin : width - margin]
    return cv2.resize(crop, (width, height), interpolation=cv2.INTER_LANCZOS4)


def _contrast(image: np.ndarray) -> np.ndarray:
    return cv2.convertScaleAbs(image, alpha=_RNG.uniform(0.5, 2.0), beta=0)


def _brightness(image: np.ndarray) -> np.ndarray:
    return cv2.convertScaleAbs(image, alpha=1, beta=_RNG.uniform(0, 100))


def _saturation(image: np.ndarray) -> np.ndarray:
    hue, saturation, value = cv2.split(cv2.cvtColor(image, cv2.COLOR_BGR2HSV).astype(np.float32))
    scaled = np.clip(saturation * _RNG.uniform(0, 3), 0, 255)
    return cv2.cvtColor(cv2.merge([hue, scaled, value]).astype(np.uint8), cv2.COLOR_HSV2BGR)


def _flip(image: np.ndarray) -> np.ndarray:
    return np.fliplr(image)


def _noise(image: np.ndarray) -> np.ndarray:
    kind = _CHOICE.randrange(3)
    if kind == 0:
        noisy = image + _RNG.normal(0, math.sqrt(2), image.shape)
    elif kind == 1:
        noisy = np.copy(image)
        shares = _RNG.random(image.shape)
        noisy[shares < 0.01] = 0
        noisy[shares > 0.99] = 255
    else:
        noisy = image + image * _RNG.standard_normal(image.shape) / 255
    return noisy.astype(np.uint8)


_TRANSFORMS: tuple[Callable[[np.ndarray], np.ndarray], ...] = (
    _rotate,
    _contrast,
    _brightness,
    _saturation,
    _flip,
    _noise,
)


class _Original:
    def __init__(self, upload_to: str | None, endpoint_url: str | None) -> None:
        self._upload_to = upload_to
        self._endpoint_url = endpoint_url

    def prepare(self, photographs: Sequence[bytes]) -> None:
        """Nothing has to be prepared."""

    def run(self, photographs: Sequence[bytes]) -> int:
        return sum(self._run_one(data, index) for index, data in enumerate(photographs))

    def _run_one(self, data: bytes, index: int) -> int:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        side = min(image.shape[:2])
        root = cv2.resize(image[:side, :side], (SIDE, SIDE), interpolation=cv2.INTER_LANCZOS4)
        order = _CHOICE.sample(_TRANSFORMS, NUM_TRANSFORMS)
        images: dict[tuple[int, ...], np.ndarray] = {}
        for chain in all_chains():
            images[chain] = order[chain[-1]](images[chain[:-1]]) if chain else root
        quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        encoded = [cv2.imencode(".jpg", one, quality)[1] for one in images.values()]
        if self._upload_to is not None:
            self._upload(encoded, index)
        return len(encoded)

    def _upload(self, encoded: Sequence[np.ndarray], index: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for number, data in enumerate(encoded):
                (Path(folder) / f"{index:03d}-{number:02d}.jpg").write_bytes(data.tobytes())
            command = ["aws", "s3", "cp", folder, f"{self._upload_to}/original", "--recursive"]
            command += ["--only-show-errors", "--endpoint-url", str(self._endpoint_url)]
            command[0] = str(shutil.which("aws"))
            subprocess.run(command, check=True)


def make_variant(options: Options) -> Variant:
    """Return it, with the upload if the options have ``uri``."""
    uri, endpoint_url = options.get("uri"), options.get("endpoint_url")
    return _Original(
        None if uri is None else str(uri), None if endpoint_url is None else str(endpoint_url)
    )
