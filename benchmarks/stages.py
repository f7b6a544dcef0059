"""Where the time of an output goes: CPU time of each stage, measured by itself in one thread."""

import hashlib
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np

from benchmarks.measuring import Spread
from kaleidoscope.augment import Augmenter, Root
from kaleidoscope.codecs import EncodeSpec, encode, encode_mask
from kaleidoscope.manifest import PartWriter, Record, RunFacts, ShardStats, SourceFacts
from kaleidoscope.model import BgrImage, Mask
from kaleidoscope.recipe import Recipe
from kaleidoscope.transforms import TRANSFORMS
from kaleidoscope.tree import Tree

_SIDE = 400

_RUN = RunFacts("run", "0" * 16, "source", 0, 0, None, "", "", "", datetime(2026, 1, 1, tzinfo=UTC))


def measure_stages(photographs: Sequence[Path]) -> dict[str, Spread]:
    """Return the CPU milliseconds for each output of ``classic``, by stage.

    Each photograph is a round. The parts add up to the engine and what a shard adds to it but
    for the hand-over between threads and the writing.
    """
    augmenter = Augmenter(Recipe.preset("classic"))
    results: dict[str, list[float]] = {}
    for path in photographs:
        data = path.read_bytes()
        root = augmenter.root(data)
        outputs = list(augmenter.outputs(root))
        spec = outputs[0].spec
        images = [output.growth.image for output in outputs]
        encoded = [output.data for output in outputs]
        records = [_make_record(index, len(one)) for index, one in enumerate(encoded)]
        tree = Tree(Recipe.preset("classic"))
        stages: dict[str, Callable[[], object]] = {
            "decode, resize": lambda data=data: augmenter.root(data),
            "transforms": lambda root=root, tree=tree: _grow(tree, root),
            "encode": lambda images=images, spec=spec: [encode(image, spec) for image in images],
            "hash (SHA-256)": lambda encoded=encoded: [
                hashlib.sha256(one).hexdigest() for one in encoded
            ],
            "manifest": lambda records=records: _write_part(records),
        }
        for name in random.sample(sorted(stages), len(stages)):
            results.setdefault(name, []).append(_cpu_s(stages[name]) / len(outputs) * 1e3)
    order = ["decode, resize", "transforms", "encode", "hash (SHA-256)", "manifest"]
    return {name: Spread.of(results[name]) for name in order}


def measure_transforms(photographs: Sequence[Path], *, num_rounds: int) -> dict[str, Spread]:
    """Return the CPU nanoseconds for each pixel of every transform with its default ranges."""
    rng = np.random.default_rng(1)
    images = [_read(path) for path in photographs]
    results: dict[str, list[float]] = {}
    for number in range(num_rounds):
        image = images[number % len(images)]
        for name in random.sample(sorted(TRANSFORMS), len(TRANSFORMS)):
            operation = TRANSFORMS[name]().sample(rng)
            operation.apply(image)  # Tables that a process makes once are made here.
            ns = _cpu_s(lambda operation=operation, image=image: operation.apply(image)) * 1e9
            results.setdefault(name, []).append(ns / (_SIDE * _SIDE))
    return {name: Spread.of(results[name]) for name in sorted(results)}


def measure_encoders(
    photographs: Sequence[Path],
) -> tuple[dict[str, Spread], dict[str, Spread]]:
    """Return the CPU nanoseconds and the bytes for each pixel, some beside OpenCV's encoder."""
    times: dict[str, list[float]] = {}
    sizes: dict[str, list[float]] = {}
    for path in photographs:
        image = _read(path)
        mask = image[..., 1] >> 5  # The photograph in eight flat values.
        encoders: dict[str, Callable[[], bytes]] = {
            "JPEG, quality 95": lambda image=image: encode(image, EncodeSpec()),
            "PNG": lambda image=image: encode(image, EncodeSpec("png")),
            "PNG by OpenCV": lambda image=image: _encode_by_opencv(image),
            "WebP, quality 95": lambda image=image: encode(image, EncodeSpec("webp")),
            "mask as PNG": lambda mask=mask: encode_mask(mask),
            "mask as PNG by OpenCV": lambda mask=mask: _encode_by_opencv(mask),
        }
        for name in random.sample(sorted(encoders), len(encoders)):
            num_bytes = len(encoders[name]())
            times.setdefault(name, []).append(_cpu_s(encoders[name]) * 1e9 / (_SIDE * _SIDE))
            sizes.setdefault(name, []).append(num_bytes / (_SIDE * _SIDE))
    return _spreads(times, encoders), _spreads(sizes, encoders)


def _spreads(results: Mapping[str, list[float]], order: Iterable[str]) -> dict[str, Spread]:
    return {name: Spread.of(results[name]) for name in order}


def _encode_by_opencv(pixels: Mask) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


def _grow(tree: Tree, root: Root) -> None:
    for _ in tree.grow(root.image, root.sha256):
        pass  # An image is dropped at once, as the engine does when it is encoded.


def _make_record(index: int, size: int) -> Record:
    facts = SourceFacts("0" * 16, "folder/photograph.jpg", "0" * 32, None, "folder", "0" * 64)
    return Record(
        facts, f"{'0' * 16}-{index}", str(index), "ok", 3, ops="x" * 300, size=size, sha256="0" * 64
    )


def _write_part(records: Sequence[Record]) -> bytes:
    part = PartWriter(_RUN)
    part.write(records)
    return part.finish(ShardStats())


def _read(path: Path) -> BgrImage:
    return np.asarray(cv2.resize(cv2.imread(str(path)), (_SIDE, _SIDE)), dtype=np.uint8)


def _cpu_s(work: Callable[[], object]) -> float:
    started_s = time.thread_time()
    work()
    return time.thread_time() - started_s
