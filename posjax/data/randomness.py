"""Randomness as a function of (seed, purpose, index), so that any row can be drawn again on its own."""

from __future__ import annotations

import zlib

import numpy as np

from posjax.arguments import whole


def rng(seed: int, purpose: str, *indices: int) -> np.random.Generator:
    """A generator that depends on nothing but its arguments.

    `seed` is the run's, 0 or more; `purpose` says what the numbers are for, and other purposes get independent
    streams; `indices` say which item of that purpose, each 0 or more.

    Errors: `InputError` if the seed is negative or no whole number.

    >>> draw = lambda *key: int(rng(*key).integers(1_000_000))
    >>> draw(0, "train-window", 7) == draw(0, "train-window", 7)
    True
    >>> draw(0, "train-window", 7) == draw(0, "needle", 7)
    False
    """
    seed = whole_seed(seed)
    # crc32 rather than hash(): Python salts hash() of a string anew in each process.
    of_purpose = zlib.crc32(purpose.encode())
    return np.random.default_rng([seed, of_purpose, *indices])


def whole_seed(seed: int) -> int:
    """A seed as Python's own number. Errors: `InputError` if it is negative or no whole number."""
    # A seed counts nothing, and may be as large as anyone likes.
    return whole(seed, "seed", is_bounded=False)
