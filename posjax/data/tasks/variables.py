"""Variable tracking: chains of assignments, to be followed from a value through every name that it reaches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from posjax.data.tasks.drawn import Drawn, PlacedTask, band, pairs_of_places
from posjax.errors import InputError
from posjax.fields import AtLeast


@dataclass(frozen=True)
class VariableTracking(PlacedTask):
    """Which names hold a value, when names were set to values and to each other.

    A statement is two tokens, a name and what it is set to: a value, or the name before it in its chain. One sequence:

        body: filler with the statements of all chains, mixed | marker | value | the names of its chain, in order

    Names and values occur in one chain each. Tokens: names, then values, then fillers, then the marker. The fields are
    how many distinct `names`, `values` and `fillers` there are, how many `chains`, and how many names a chain has
    (`hops`).

    Errors: `InputError` if a field is out of range.
    Source: Hsieh et al. 2024, arXiv:2404.06654 (RULER), variable tracking.

    >>> row = VariableTracking(chains=1, hops=2, fillers=1).questions(length=9, count=1, seed=0)
    >>> row["inputs"][0].tolist(), row["targets"][0, -2:].tolist()
    ([40, 40, 2, 37, 1, 2, 41, 37, 2], [2, 1])
    """

    names: Annotated[int, AtLeast(1)] = 32
    values: Annotated[int, AtLeast(1)] = 8
    fillers: Annotated[int, AtLeast(1)] = 16
    chains: Annotated[int, AtLeast(1)] = 2
    hops: Annotated[int, AtLeast(1)] = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.chains * self.hops > self.names or self.chains > self.values:
            raise InputError(
                f"VariableTracking got chains={self.chains} of hops={self.hops} names, but names={self.names} and "
                f"values={self.values}: each is used once; raise these or shorten the chains"
            )

    @property
    def marker(self) -> int:
        """The token between the body and the value that is asked about."""
        return self.names + self.values + self.fillers

    @property
    def vocabulary(self) -> int:
        return self.marker + 1

    @property
    def chance(self) -> float:
        """The accuracy of a blind guess among the names."""
        return 1.0 / self.names

    @property
    def least(self) -> int:
        return 2 * self.chains * self.hops + self.hops + 1

    def placed(self, generator: np.random.Generator, length: int, depth: float | None) -> Drawn:
        body = length - 1 - self.hops
        count = self.chains * self.hops
        # Each name in one chain and each chain with a value of its own: what a name holds is never ambiguous.
        names = generator.permutation(self.names)[:count].reshape(self.chains, self.hops)
        values = self.names + generator.permutation(self.values)[: self.chains]
        first_filler = self.names + self.values
        tokens = generator.integers(first_filler, self.marker, size=length + 1)
        tokens[body] = self.marker
        tokens[body + 1] = values[0]
        # The first chain is as random as any, and so is the one to ask for.
        tokens[body + 2 :] = names[0]

        # Each statement takes the next of its chain, so that nothing is used before it is set.
        chain_of = generator.permutation(np.repeat(np.arange(self.chains), self.hops))
        # Which statements are of the first chain, from left to right, then those of the second, and so on.
        by_chain = np.argsort(chain_of, kind="stable")
        start, width = band(body, depth, 2 * count)
        places = pairs_of_places(generator, start, width, count)[by_chain]
        tokens[places] = names.ravel()
        # The first name of a chain is set to its value, each further one to the name before it.
        tokens[places + 1] = np.column_stack([values, names[:, :-1]]).ravel()
        return tokens, np.arange(length + 1) > body + 1
