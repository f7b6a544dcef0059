"""Random fields that a recorded seed names, cheap enough to be drawn anew for every image.

NumPy's float32 normals cost 3.5 ms for a 400 x 400 colour image. Here every value takes 16 random
bits and looks its normal up in a table of 65,536 quantiles, which costs 0.4 ms and is within
0.2 % (total variation) of the Gaussian once rounded to grey levels. 8 bits would save another
quarter, but end at 2.9 sigma. A bank of ready noise would save most of it, but images would
share their noise.
"""

from functools import lru_cache
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from kaleidoscope.seeding import DRAW_LIMIT
from kaleidoscope.transforms._base import check_within

NUM_QUANTILES = 65536
"""As many as 16 bits tell apart; the outermost lie at 4.2 sigma."""


@lru_cache(maxsize=1)
def normal_quantiles() -> npt.NDArray[np.float32]:
    """Return the standard normal's quantiles at the middles of 65,536 equal shares, ascending.

    Returns:
        ``(65536,)`` float32, read-only, antisymmetric, so the mean is 0.
    """
    shares = (np.arange(NUM_QUANTILES // 2) + 0.5) / NUM_QUANTILES
    lower = np.array([NormalDist().inv_cdf(share) for share in shares.tolist()], dtype=np.float32)
    quantiles = np.concatenate([lower, -lower[::-1]])
    # The cache hands the same array to every thread.
    quantiles.flags.writeable = False
    return quantiles


def noise_source(noise_seed: int) -> np.random.SFC64:
    """Return the bit generator that ``noise_seed`` names; SFC64 is the fastest that NumPy has.

    Args:
        noise_seed: In ``[0, 2**53)``.

    Raises:
        TransformError: If ``noise_seed`` is out of range.
    """
    check_within("the seed of noise", noise_seed, low=0, high=DRAW_LIMIT - 1)
    return np.random.SFC64(noise_seed)


def random_bits(source: np.random.SFC64, num_bytes: int) -> npt.NDArray[np.uint8]:
    """Return the next bytes of a source.

    Raw bits are used because NumPy promises that they stay the same from release to release,
    which it does not for its distributions.

    Args:
        source: From :func:`noise_source`.
        num_bytes: At least 1; words of 8 are drawn, and what is left of the last is lost.

    Returns:
        ``(num_bytes,)`` uint8.
    """
    return source.random_raw(-(-num_bytes // 8)).view(np.uint8)[:num_bytes]


def random_indices(shape: tuple[int, int], *, noise_seed: int) -> npt.NDArray[np.uint16]:
    """Return independent, uniformly distributed table indices.

    Args:
        shape: Rows and columns, at least 1 each.
        noise_seed: In ``[0, 2**53)``; the same seed gives the same field.

    Returns:
        ``shape`` uint16.

    Raises:
        TransformError: If ``noise_seed`` is out of range.
    """
    rows, columns = shape
    bits = random_bits(noise_source(noise_seed), 2 * rows * columns)
    return bits.view(np.uint16).reshape(shape)
