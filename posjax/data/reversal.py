"""A task for an encoder and a decoder: say a sequence backwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import grain
import numpy as np

from posjax.arguments import whole
from posjax.data.randomness import rng, whole_seed
from posjax.data.source import Form, Row, endless, stacked, target_row
from posjax.data.task import Task, check_count
from posjax.errors import InputError
from posjax.fields import check_fields


@dataclass(frozen=True)
class Reversal(Task):
    """Transduction: the source is a sequence of random symbols, and the target is the same sequence backwards.

    Where a symbol stands is all there is to know about it, so that a model without positions is at chance. Tokens: the
    symbols, then `begin`, which the decoder reads first, then `end`, its last target. The weight is 1 at each symbol
    and at the end.

    `symbols`: how many there are, at least 2.

    Errors: `InputError` if the field is out of range.

    >>> task = Reversal(symbols=4)
    >>> row = task.rows(length=5, seed=0)[0]
    >>> row["source"].tolist(), row["real"].tolist()
    ([1, 2, 0, 0], [True, True, False, False])
    >>> row["inputs"].tolist(), row["targets"].tolist()
    ([4, 2, 1, 0, 0], [2, 1, 5, 0, 0])
    """

    form: ClassVar[Form] = "pairs"

    symbols: int = 16

    def __post_init__(self):
        check_fields(self)
        if self.symbols < 2:
            raise InputError(f"Reversal.symbols is {self.symbols}, but at least 2 are needed: raise it")

    @property
    def begin(self) -> int:
        """The token that the decoder reads first."""
        return self.symbols

    @property
    def end(self) -> int:
        """The token behind the last symbol of a target."""
        return self.symbols + 1

    @property
    def vocabulary(self) -> int:
        """How many tokens there are, on both sides."""
        return self.symbols + 2

    @property
    def chance(self) -> float:
        """The accuracy of a blind guess among the symbols."""
        return 1.0 / self.symbols

    def rows(self, length: int, seed: int) -> grain.MapDataset:
        """Endless training rows; row i is a pure function of (seed, i).

        The decoder reads `length` tokens, and the encoder one fewer; a row has half as many symbols or more. Items are
        `{"source": int32[length - 1], "real": bool[length - 1], "inputs": int32[length], "targets": int32[length],
        "weights": float32[length]}`, 0 where there is nothing.

        Errors: `InputError` if the length is below 2.
        """
        _check_length(length)
        seed = whole_seed(seed)
        most = length - 1

        def row(index: int) -> Row:
            generator = rng(seed, "reversal", index)
            # Several lengths with one static shape.
            count = int(generator.integers((most + 1) // 2, most + 1))
            return self._row(generator, length, count)

        return endless(row)

    def questions(self, length: int, count: int, seed: int) -> Row:
        """Rows to measure on, of all the symbols that `length` has room for, each array `[count, ...]`.

        Row i is a pure function of (seed, i, length). Errors: `InputError` if the length is below 2 or the count below
        1.
        """
        _check_length(length)
        check_count(count)
        generators = (rng(seed, "reversal-query", index) for index in range(count))
        # All of one length: what is measured is how far a model reaches.
        return stacked([self._row(generator, length, length - 1) for generator in generators])

    def _row(self, generator: np.random.Generator, length: int, count: int) -> Row:
        symbols = generator.integers(self.symbols, size=count, dtype=np.int32)
        # 0 fills up on both sides: it is a symbol too, which `real` and the weights tell apart.
        backwards = symbols[::-1]
        source = np.zeros(length - 1, np.int32)
        source[:count] = symbols
        row = target_row(backwards, self.begin, self.end, length)
        return {"source": source, "real": np.arange(length - 1) < count, **row}


def _check_length(length: int) -> None:
    # A symbol and the end.
    whole(length, "length", least=2)
