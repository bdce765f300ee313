"""Content and position at once: find a letter, and say the one that stands so far from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from posjax.data.tasks.drawn import Drawn, PlacedTask, band
from posjax.fields import AtLeast


@dataclass(frozen=True)
class IndirectIndexing(PlacedTask):
    """A text of letters, a letter that occurs once in it, and a shift: say the letter that stands that far from it.

    One sequence: letters | the source | the shift | the answer. The source is found by what it is and the answer by
    where it stands. Tokens: the letters, then the shifts from `-shift` to `shift`, 0 left out. The fields are how many
    `letters` there are, and the largest `shift`.

    Errors: `InputError` if a field is out of range.
    Source: Gopalakrishnan et al. 2025, arXiv:2509.10534 (PoPE).

    >>> row = IndirectIndexing(letters=4, shift=2).questions(length=8, count=1, seed=0)
    >>> row["inputs"][0].tolist(), row["targets"][0, -1].item()
    ([3, 3, 1, 0, 2, 3, 1, 7], 2)
    """

    letters: Annotated[int, AtLeast(2)] = 26
    shift: Annotated[int, AtLeast(1)] = 6

    @property
    def vocabulary(self) -> int:
        return self.letters + 2 * self.shift

    @property
    def chance(self) -> float:
        """The accuracy of a blind guess among the letters that are not the source."""
        return 1.0 / (self.letters - 1)

    @property
    def least(self) -> int:
        return 4

    def placed(self, generator: np.random.Generator, length: int, depth: float | None) -> Drawn:
        body = length - 2
        source = generator.integers(self.letters)
        tokens = generator.integers(self.letters - 1, size=length + 1)
        # Every letter but the source.
        tokens += tokens >= source
        start, width = band(body, depth, 1)
        place = start + generator.integers(width)
        # Shifts that stay within the text, each as likely.
        shifts = np.arange(max(-self.shift, -place), min(self.shift, body - 1 - place) + 1)
        shift = generator.choice(shifts[shifts != 0])
        tokens[place] = source
        tokens[body] = source
        tokens[body + 1] = self._shift_token(shift)
        tokens[body + 2] = tokens[place + shift]
        return tokens, np.arange(length + 1) > body + 1

    def _shift_token(self, shift: int) -> int:
        # Counted from the most negative one.
        token = self.letters + self.shift + shift
        # Without 0, those above it stand one further down.
        if shift > 0:
            token -= 1
        return token
