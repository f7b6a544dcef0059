"""Gaussian noise of variance 2, at two thirds of the cost of any other variance.

The number of ones in a random byte is binomial with variance 2, and counting bits is the fastest
operation on pixels that there is. The binomial is not far from a rounded Gaussian: where 3.2 % of
the values are drawn again from what it lacks, the mixture is that Gaussian, tails included.
"""

import math
from functools import lru_cache
from statistics import NormalDist

import cv2
import numpy as np
import numpy.typing as npt

from kaleidoscope.model import BgrImage
from kaleidoscope.transforms._base import as_image
from kaleidoscope.transforms._noise_field import RandomBits

VARIANCE = 2.0
"""Of the Gaussian before it is rounded, in grey levels squared."""

_LIMIT = 8
"""Grey levels at which the tables end. The last is too rare for an entry, so that noise ends at 7
of them, 4.9 sigma, beyond which one value in nine million would lie."""

_NUM_ENTRIES = 65536


def add_faint_gaussian_noise(image: BgrImage, *, noise_seed: int) -> BgrImage:
    """Add an independent Gaussian of :data:`VARIANCE`, rounded, to every channel of every pixel.

    Args:
        image: ``(H, W, 3)`` uint8, BGR.
        noise_seed: In ``[0, 2**53)``; the same seed gives the same noise.

    Raises:
        TransformError: If ``noise_seed`` is out of range.
    """
    bits = RandomBits(noise_seed)
    values = image.reshape(image.shape[0], -1)
    # Levels are kept above zero by _LIMIT, since OpenCV is fastest on unsigned bytes.
    levels = np.bitwise_count(bits.take(values.size))
    levels += np.uint8(_LIMIT - 4)
    table, share = _what_the_binomial_lacks()
    hits = bits.take_hits(values.size, share)
    levels[hits] = table.take(bits.take_indices(hits.shape))
    noisy = cv2.addWeighted(values, 1, levels.reshape(values.shape), 1, -_LIMIT)
    return as_image(noisy).reshape(image.shape)


def rounded_gaussian_pmf() -> npt.NDArray[np.float64]:
    """Return the probabilities of the levels from ``-8`` to ``8``.

    Returns:
        ``(17,)`` float64 with the sum 1, symmetric.
    """
    edges = (np.arange(-_LIMIT, _LIMIT + 2) - 0.5).tolist()
    cdf = [NormalDist(0, math.sqrt(VARIANCE)).cdf(edge) for edge in edges]
    pmf = np.diff(cdf)
    total: npt.NDArray[np.float64] = pmf / pmf.sum()
    return total


@lru_cache(maxsize=1)
def _what_the_binomial_lacks() -> tuple[npt.NDArray[np.uint8], float]:
    """Return levels to draw from, and how often to: gaussian = (1 - share) binomial + share drawn.

    Returns:
        ``(65536,)`` uint8, :data:`_LIMIT` more than the level, read-only; and the share.
    """
    wanted = rounded_gaussian_pmf()
    binomial = np.zeros_like(wanted)
    binomial[_LIMIT - 4 : _LIMIT + 5] = [math.comb(8, ones) / 256 for ones in range(9)]
    kept = float(np.min(wanted[binomial > 0] / binomial[binomial > 0]))
    lacking = (wanted - kept * binomial) / (1 - kept)
    ends = np.rint(np.cumsum(lacking) * _NUM_ENTRIES).astype(np.int64)
    table = np.repeat(np.arange(wanted.size, dtype=np.uint8), np.diff(ends, prepend=0))
    table.flags.writeable = False
    return table, 1 - kept
