"""Epochs: items without end, each once before any comes again, by random access."""

from __future__ import annotations

from dataclasses import dataclass

import grain

from posjax.data.randomness import rng


@dataclass(frozen=True)
class Shuffled:
    """The numbers below `count` in a random order, and in another one each time all have come.

    What stands at a place is a pure function of (seed, purpose, place), found without the places before it.

    >>> order = Shuffled(5, seed=0, purpose="example")
    >>> sorted(order[place] for place in range(5, 10))
    [0, 1, 2, 3, 4]
    """

    count: int
    seed: int
    purpose: str

    def __getitem__(self, place: int) -> int:
        # Each epoch is drawn by its own number, so that none before it has to be gone through.
        epoch, within = divmod(place, self.count)
        generator = rng(self.seed, self.purpose, epoch)
        # Grain takes a seed of 32 bits, while a run's may be any number.
        shuffle_seed = int(generator.integers(2**32))
        number = grain.MapDataset.range(self.count).shuffle(seed=shuffle_seed)[within]
        assert number is not None
        return number
