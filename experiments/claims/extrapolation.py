"""Claims about encodings past the trained length: suite `extrapolation`, and `corpora` for another text."""

from __future__ import annotations

from experiments.claims.base import Claim
from experiments.claims.deciding import at_most

CLAIMS = (
    Claim(
        name="alibi-is-flat",
        words="ALiBi's loss stays flat far past the trained length.",
        source="Press et al. 2021, arXiv:2108.12409",
        suite="extrapolation",
        also=("corpora",),
        test=at_most("loss_ratio", 1.05, label="ALiBi", variant="raw", multiple=(2, 4, 8, 16)),
    ),
)
