"""Scale a plan's estimate to what a few real sources take on this machine."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace

from kaleidoscope.augment import Augmenter
from kaleidoscope.errors import AccessError, ObjectMissingError, StoreError
from kaleidoscope.model import ObjectInfo
from kaleidoscope.planning import Estimate
from kaleidoscope.recipe import Recipe
from kaleidoscope.stores import Store

ENOUGH_S = 5.0
"""CPU seconds after which no further source is tried."""


def calibrate(
    estimate: Estimate, source: Store, samples: Sequence[ObjectInfo], recipe: Recipe
) -> Estimate:
    """Make the outputs of some sources, throw them away, and scale the estimate to their cost.

    Args:
        estimate: What :func:`kaleidoscope.planning.estimate` says of the recipe.
        source: Where the samples are.
        samples: Sources; those that cannot be used are passed over.
        recipe: What to make.

    Returns:
        The estimate, with its CPU seconds multiplied by one factor and its bytes by another; as it
        was if no sample could be used.

    Raises:
        StoreError: If the store is down.
    """
    augmenter = Augmenter(recipe)
    taken_s = expected_s = 0.0
    num_bytes = num_outputs = 0
    for info in samples:
        try:
            data = source.get(info.key).data
            # Of the process: OpenCV may compute in threads of its own.
            started_s = time.process_time()
            sizes = _make_outputs(augmenter, data)
        except (ObjectMissingError, AccessError):
            continue
        except StoreError:
            raise
        except Exception:  # noqa: BLE001, S112 -- its shard makes a row that says what it was.
            continue
        taken_s += time.process_time() - started_s
        expected_s += estimate.making_s(info)
        num_bytes += sum(sizes)
        num_outputs += len(sizes)
        if taken_s >= ENOUGH_S:
            break
    if not (taken_s and expected_s and num_outputs):
        return estimate
    output_bytes = round(num_bytes / num_outputs * estimate.num_outputs)
    return _scaled(estimate, taken_s / expected_s, output_bytes)


def _make_outputs(augmenter: Augmenter, data: bytes) -> list[int]:
    """Make and hash the outputs of a source, and return their sizes."""
    sizes = []
    for output in augmenter.outputs(augmenter.root(data)):
        hashlib.sha256(output.data)
        sizes.append(len(output.data))
    return sizes


def _scaled(estimate: Estimate, factor: float, output_bytes: int) -> Estimate:
    return replace(
        estimate,
        output_bytes=output_bytes,
        transform_cpu_s=estimate.transform_cpu_s * factor,
        output_cpu_s=estimate.output_cpu_s * factor,
        cheapest_transform_cpu_s=estimate.cheapest_transform_cpu_s * factor,
    )
