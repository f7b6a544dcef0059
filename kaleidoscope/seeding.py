"""Random generators that are named, never numbered.

A generator's stream depends on the names it was asked for and on nothing else, so a draw is the
same in whatever shard, thread, order or retry it is made.
"""

import hashlib

import numpy as np

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
    text = "".join(f"{len(str(name))}:{name}," for name in names)
    digest = hashlib.sha256(text.encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


def draw_seed(rng: np.random.Generator) -> int:
    """Draw a seed to record, in ``[0, 2**53)``."""
    return int(rng.integers(DRAW_LIMIT))
