"""Count and calculate: parity, modular arithmetic, addition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from posjax.data.tasks.answering import Answering
from posjax.data.tasks.drawn import Drawn
from posjax.fields import AtLeast


@dataclass(frozen=True)
class Parity(Answering):
    """Whether the ones among random bits are odd in number.

    One bit changes the answer, and no part of the sequence tells anything of it. Tokens: 0, 1, the marker.

    Source: Deletang et al. 2022, arXiv:2207.02098.

    >>> row = Parity().questions(length=5, count=1, seed=0)
    >>> row["inputs"][0].tolist(), row["targets"][0, -1].item()
    ([0, 0, 0, 1, 2], 1)
    """

    per_size = 1
    overhead = 2

    @property
    def vocabulary(self) -> int:
        return 3

    @property
    def chance(self) -> float:
        """The accuracy of a coin."""
        return 0.5

    def pair(self, generator: np.random.Generator, size: int) -> Drawn:
        bits = generator.integers(2, size=size)
        # An array of one token, as every answer is an array.
        return bits, bits.sum(keepdims=True) % 2


@dataclass(frozen=True)
class ModularArithmetic(Answering):
    """The value of digits joined by +, - and *, modulo a number; * binds closer, and there are no brackets.

    Tokens: the digits below `modulus`, then +, -, *, then the marker. `modulus`: at least 2.

    Errors: `InputError` if the field is out of range. Source: Deletang et al. 2022, arXiv:2207.02098, "modular
    arithmetic (simple)".

    >>> ModularArithmetic().value(np.array([3, 5, 2, 7, 4]))  # 3 + 2 * 4
    1
    """

    modulus: Annotated[int, AtLeast(2)] = 5

    per_size = 2
    overhead = 3

    @property
    def vocabulary(self) -> int:
        return self.modulus + 4

    @property
    def chance(self) -> float:
        """The accuracy of a blind guess among the digits."""
        return 1.0 / self.modulus

    def pair(self, generator: np.random.Generator, size: int) -> Drawn:
        # Digits everywhere, and then operators over every second one.
        question = generator.integers(self.modulus, size=2 * size + 1)
        question[1::2] = self.modulus + generator.integers(3, size=size)
        return question, np.array([self.value(question)])

    def value(self, question: np.ndarray) -> int:
        """What an expression comes to."""
        plus = self.modulus
        total = 0
        # The product that is not finished: it joins the sum where the next + or - is read.
        product = int(question[0])
        for operator, digit in zip(question[1::2].tolist(), question[2::2].tolist(), strict=True):
            if operator == plus + 2:
                product *= digit
                continue
            total += product
            product = digit
            if operator == plus + 1:
                product = -digit
        return (total + product) % self.modulus


@dataclass(frozen=True)
class Addition(Answering):
    """Two numbers of n digits and their sum of n + 1, its leading zero said too.

    Read and said from the least significant digit on where `reverse`, so that each carry is known before it is needed;
    else as people write them. Tokens: the digits, then +, then = as the marker.

    Source: Lee et al. 2023, arXiv:2307.03381 (reversed); Kazemnejad et al. 2023, arXiv:2305.19466.

    >>> row = Addition(reverse=False).questions(length=8, count=1, seed=0)
    >>> row["inputs"][0].tolist(), row["targets"][0, -3:].tolist()
    ([7, 5, 10, 0, 7, 11, 0, 8], [0, 8, 2])
    """

    reverse: bool = True

    per_size = 3
    overhead = 3

    @property
    def vocabulary(self) -> int:
        return 12

    @property
    def chance(self) -> float:
        """The accuracy of a blind guess among the digits."""
        return 0.1

    def pair(self, generator: np.random.Generator, size: int) -> Drawn:
        left = generator.integers(10, size=size)
        right = generator.integers(10, size=size)
        total = _added(left, right)
        question = np.concatenate([left, [10], right])
        if self.reverse:
            return question, total
        # Both numbers are as long, so that turning the whole question over only makes them change places.
        return question[::-1], total[::-1]


def _added(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The digits of a sum, least significant first, one more than each number has."""
    total = np.zeros(len(left) + 1, np.int64)
    carry = 0
    # By digits, since numbers of a hundred digits fit no integer of numpy.
    for place, both in enumerate((left + right).tolist()):
        carry, total[place] = divmod(both + carry, 10)
    # Said where it is 0 too, or how long an answer is would tell of the carry.
    total[-1] = carry
    return total
