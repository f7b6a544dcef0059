"""Random generators that are named, never numbered.

A generator's stream depends on the names it was asked for and on nothing else, so a draw is the
same in whatever shard, thread, order or retry it is made.
"""

import hashlib

import numpy as np
import numpy.typing as npt
from numpy.random.bit_generator import ISeedSequence

DRAW_LIMIT = 2**53
"""Seeds that are recorded stay below this, since JSON readers hold numbers as float64."""


def named_rng(*names: str | int) -> np.random.Generator:
    """Return the generator that belongs to ``names``.

    Philox is counter based, so a generator costs microseconds to make and 128 bits of the
    SHA-256 of the names are its whole state (Salmon et al., "Parallel random numbers: as easy
    as 1, 2, 3", SC 2011).

    Args:
        names: What the draw is for, from the widest to the narrowest: run seed, source content,
            node, transform. Each is length-prefixed, so ("a", "bc") and ("ab", "c") differ.
    """
    text = "".join([f"{len(name)}:{name}," for name in map(str, names)])
    digest = hashlib.sha256(text.encode()).digest()
    # Documented by numpy as what bit generators take; its stubs know one subclass only.
    return np.random.Generator(np.random.Philox(_Key(digest[:16])))  # type: ignore[arg-type]


class _Key(ISeedSequence):
    """Hands Philox its key. Given as ``key=``, numpy would ask the system for entropy first."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def generate_state(
        self,
        n_words: int,  # noqa: ARG002 -- Philox asks for two words of 64 bits, no more, no less.
        dtype: npt.DTypeLike = np.uint64,  # noqa: ARG002
    ) -> npt.NDArray[np.uint64]:
        """Return the key."""
        return np.frombuffer(self._key, dtype="<u8")


def draw_seed(rng: np.random.Generator) -> int:
    """Draw a seed to record, in ``[0, 2**53)``."""
    return int(rng.integers(DRAW_LIMIT))
