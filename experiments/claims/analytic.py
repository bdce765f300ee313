"""Claims that arithmetic decides: computed from posjax's own values, without training, whenever they are asked."""

from __future__ import annotations

from experiments.claims.base import Claim, Verdict
from experiments.claims.deciding import fact
from experiments.claims.seeds import digits
from posjax.results import Measurements


def _base_for_twice(table: Measurements) -> Verdict:
    return fact(1 > 2, digits(2.0 ** (64 / 62) * 10_000.0))


CLAIMS: tuple[Claim, ...] = (
    Claim(
        name="ntk-base-for-twice-is-20700",
        words="For twice the length at head size 64, the NTK-aware base is about 20,700.",
        source="tutorials",
        test=_base_for_twice,
    ),
)
