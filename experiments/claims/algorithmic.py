"""Claims about rules that go on to longer sequences than they were learned on: suite `algorithmic`."""

from __future__ import annotations

from typing import Any

from experiments.claims.base import Claim
from experiments.claims.deciding import all_of, at_least, higher, highest, lower, same

SUITE = "algorithmic"
PAST = (2, 4)
"""The multiples of the trained length."""
ORDERED = ("Sort", "FlipFlop")
"""Tasks in which order matters, where some encodings fail."""


def raw(label: str) -> dict[str, Any]:
    """Where a method stands as it was trained."""
    return {"label": label, "variant": "raw"}


CLAIMS = (
    Claim(
        name="nope-generalises-best",
        words="A decoder without positions generalises to longer sequences better than with RoPE or ALiBi.",
        source="Kazemnejad et al. 2023, arXiv:2305.19466",
        suite=SUITE,
        # In tasks apart, since one may show what another does not; three seeds each.
        test=highest("accuracy", raw("NoPE"), (raw("RoPE"), raw("ALiBi")), task=ORDERED, multiple=PAST),
    ),
    Claim(
        name="nope-learns-as-well-within",
        words="A decoder without positions learns such tasks as well as with RoPE.",
        source="Kazemnejad et al. 2023, arXiv:2305.19466",
        suite=SUITE,
        test=same("accuracy", raw("NoPE"), raw("RoPE"), 0.05, task=ORDERED, multiple=1),
    ),
    Claim(
        name="randomised-positions-help",
        words="Training at randomised positions makes RoPE generalise to longer sequences.",
        source="Ruoss et al. 2023, arXiv:2305.16843",
        published="12.0 % more on average over 15 tasks (abstract; encoders)",
        suite=SUITE,
        test=higher("accuracy", raw("RoPE, randomised"), raw("RoPE"), task=ORDERED, multiple=PAST),
    ),
    Claim(
        name="randomised-positions-cost-nothing-within",
        words="Randomised positions cost nothing within the trained length.",
        source="Ruoss et al. 2023, arXiv:2305.16843",
        suite=SUITE,
        test=same("accuracy", raw("RoPE, randomised"), raw("RoPE"), 0.05, task=ORDERED, multiple=1),
    ),
    Claim(
        name="rope-does-not-generalise-in-length",
        words="With RoPE a rule that was learned on short sequences is lost on sequences four times as long.",
        source="Kazemnejad et al. 2023, arXiv:2305.19466",
        suite=SUITE,
        # A tenth at least: what is learned to 0.99 may waver by a hundredth.
        test=lower("accuracy", {"multiple": 4}, {"multiple": 1}, 0.1, **raw("RoPE"), task=ORDERED),
    ),
    Claim(
        name="alibi-generalises-in-length",
        words="ALiBi's flat loss carries over to rules: they are kept on sequences four times as long.",
        source="Press et al. 2021, arXiv:2108.12409, as it is often read",
        suite=SUITE,
        test=same("accuracy", {"multiple": 4}, {"multiple": 1}, 0.05, **raw("ALiBi"), task=ORDERED),
    ),
    Claim(
        name="attention-glitches",
        words="Trained perfectly on short ones, transformers forget a written bit in longer sequences.",
        source="Liu et al. 2023, arXiv:2306.00637",
        suite=SUITE,
        test=all_of(
            # Without this it could as well be that nothing was learned.
            at_least("exact", 0.95, **raw("RoPE"), task="FlipFlop", multiple=1),
            lower("exact", {"multiple": 4}, {"multiple": 1}, 0.05, **raw("RoPE"), task="FlipFlop"),
        ),
    ),
    Claim(
        name="counting-needs-no-positions",
        words="The most frequent symbol is found without positions, in sequences four times as long too.",
        source="Kazemnejad et al. 2023, arXiv:2305.19466 (mode)",
        suite=SUITE,
        # Without the others: that positions do no harm here is not the claim.
        test=at_least("accuracy", 0.9, **raw("NoPE"), task="Majority", multiple=(1, 2, 4)),
    ),
)
