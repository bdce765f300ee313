"""A bit of memory that must not fade, however much there is to ignore."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from posjax.data.tasks.drawn import Drawn, DrawnTask
from posjax.fields import Share

# The bits themselves are tokens 0 and 1.
WRITE = 2
READ = 3
IGNORE = 4


@dataclass(frozen=True)
class FlipFlop(DrawnTask):
    """Instructions, each with a bit: write, ignore, or read, whose bit is the last one written.

    The first instruction is a write and the last one a read; between them each is to ignore with probability `ignore`,
    and else as likely a read as a write. The weight is 1 where a read is, whose bit comes next. Tokens: 0, 1, write,
    read, ignore.

    `ignore`: above 0 and up to 1, where all between the first and the last is to be ignored.

    Errors: `InputError` if the field is out of range.
    Source: Liu et al. 2023, arXiv:2306.00637.

    >>> row = FlipFlop(ignore=0.5).questions(length=9, count=1, seed=0)
    >>> row["inputs"][0].tolist(), row["targets"][0, -1].item()
    ([2, 1, 2, 0, 2, 0, 4, 0, 3], 0)
    """

    ignore: Annotated[float, Share("the instructions")] = 0.8

    @property
    def vocabulary(self) -> int:
        return 5

    @property
    def chance(self) -> float:
        """The accuracy of a coin."""
        return 0.5

    @property
    def least(self) -> int:
        return 3

    def sequence(self, generator: np.random.Generator, length: int) -> Drawn:
        count = (length + 1) // 2
        bits = generator.integers(2, size=count)
        # A read is as likely as a write, as published.
        other = (1 - self.ignore) / 2
        instructions = generator.choice([WRITE, READ, IGNORE], size=count, p=[other, other, self.ignore])
        # Else a first read had nothing to say, and the last bit no question.
        instructions[0], instructions[-1] = WRITE, READ
        # At each place the last write up to there.
        writes = np.where(instructions == WRITE, np.arange(count), 0)
        written = bits[np.maximum.accumulate(writes)]
        reads = instructions == READ
        # The bit of a read is what has to be said, those of the others are free.
        tokens = np.column_stack([instructions, np.where(reads, written, bits)])
        answers = np.column_stack([np.zeros(count, bool), reads])
        return tokens.ravel(), answers.ravel()
