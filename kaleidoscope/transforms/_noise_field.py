"""Random bits that a recorded seed names, cheap enough to be drawn anew for every image.

NumPy's float32 normals cost 3.5 ms for a 400 x 400 colour image. Here every value takes 16 random
bits and looks its normal up in a table of 65,536 quantiles, which costs 0.25 ms and is within
0.2 % (total variation) of the Gaussian once rounded to grey levels and saturated. 8 bits would save
another third, but end at 2.9 sigma. A bank of ready noise would save most of it, but images would
share their noise.

The bits do not come from a generator, which would take six times as long, but from three pools of
them: a block of a field is the XOR of a stretch of each, and the seed says where they begin. The
bits of a block are as independent as those of the pools are. Two blocks share noise only where they
lie equally far apart in all three pools and overlap there: of a million images, a handful of pairs
do in a part of theirs. With two pools it would be every image.
"""

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from kaleidoscope.seeding import DRAW_LIMIT, named_rng
from kaleidoscope.transforms._base import check_within

NUM_QUANTILES = 65536
"""As many as 16 bits tell apart; the outermost lie at 4.2 sigma."""

POOL_SIZE = 1024 * 1024
"""Bytes of each pool: together they stay in a CPU's caches."""

BLOCK_SIZE = 128 * 1024
"""Bytes of a field whose places in the pools are drawn together; a field may outgrow the pools."""


class RandomBits:
    """A stream of bits; the same seed gives the same ones."""

    def __init__(self, noise_seed: int) -> None:
        """Begin the stream.

        Args:
            noise_seed: In ``[0, 2**53)``.

        Raises:
            TransformError: If ``noise_seed`` is out of range.
        """
        check_within("the seed of noise", noise_seed, low=0, high=DRAW_LIMIT - 1)
        self._rng = named_rng("noise", noise_seed)

    def take(self, num_bytes: int) -> npt.NDArray[np.uint8]:
        """Return the next bytes, independent and uniformly distributed.

        Args:
            num_bytes: At least 0.

        Returns:
            ``(num_bytes,)`` uint8.
        """
        first, second, third = _pools()
        field = np.empty(num_bytes, dtype=np.uint8)
        begins = range(0, num_bytes, BLOCK_SIZE)
        # NumPy promises that raw bits stay the same from release to release, unlike distributions.
        places = self._rng.bit_generator.random_raw(len(begins)).tolist()
        for begin, place in zip(begins, places, strict=True):
            block = field[begin : begin + BLOCK_SIZE]
            a, b, c = (
                (place >> shift & _PLACE_MASK) * _NUM_PLACES >> _PLACE_BITS for shift in _SHIFTS
            )
            np.bitwise_xor(first[a : a + block.size], second[b : b + block.size], out=block)
            block ^= third[c : c + block.size]
        return field

    def take_indices(self, shape: tuple[int, ...]) -> npt.NDArray[np.uint16]:
        """Return the next table indices, independent and uniformly distributed.

        Args:
            shape: At least 1 each.

        Returns:
            ``shape`` uint16.
        """
        return self.take(2 * math.prod(shape)).view(np.uint16).reshape(shape)

    def take_hits(self, num_values: int, share: float) -> npt.NDArray[np.int64]:
        """Choose values, each with the same probability and independently of the others.

        It is done without a random number for each: if a Poisson number of hits of mean
        ``-n ln(1 - p)`` falls on n values, each is hit with probability p, independently.

        Args:
            num_values: At least 1, below ``2**32``.
            share: The probability, in ``[0, 1)``.

        Returns:
            Their positions, in no order; some stand more than once.
        """
        # Of NumPy's distributions the one that counts here; its releases are pinned for it.
        num_hits = int(self._rng.poisson(-num_values * math.log1p(-share)))
        words = self.take(4 * num_hits).view(np.uint32)
        # A number below 2**32 scaled down to one below num_values.
        positions = np.multiply(words, np.uint64(num_values), dtype=np.uint64)
        positions >>= np.uint64(32)
        return positions.view(np.int64)  # NumPy would convert others each time they are used.


_NUM_PLACES = POOL_SIZE - BLOCK_SIZE + 1

_PLACE_BITS = 21
_PLACE_MASK = 2**_PLACE_BITS - 1
_SHIFTS = (0, _PLACE_BITS, 2 * _PLACE_BITS)
"""Of 64 random bits, those that say where a block begins in each pool."""


@lru_cache(maxsize=1)
def _pools() -> npt.NDArray[np.uint8]:
    """Return the pools, ``(3, POOL_SIZE)`` uint8, read-only; it takes 3 ms to fill them."""
    words = np.random.SFC64(0).random_raw(3 * POOL_SIZE // 8)
    # The cache hands the same array to every thread.
    words.flags.writeable = False
    return words.view(np.uint8).reshape(3, POOL_SIZE)


@lru_cache(maxsize=1)
def normal_quantiles() -> npt.NDArray[np.float32]:
    """Return the standard normal's quantiles at the middles of 65,536 equal shares, ascending.

    Returns:
        ``(65536,)`` float32, read-only, antisymmetric, so the mean is 0.
    """
    shares = (np.arange(NUM_QUANTILES // 2) + 0.5) / NUM_QUANTILES
    lower = np.array([NormalDist().inv_cdf(share) for share in shares.tolist()], dtype=np.float32)
    quantiles = np.concatenate([lower, -lower[::-1]])
    quantiles.flags.writeable = False
    return quantiles
