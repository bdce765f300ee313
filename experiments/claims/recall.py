"""Claims about needles and pairs past the trained length: suite `recall`, in sequences of 32 tokens and up to 256.

Found is an accuracy of 0.9 and more. A blind guess among needles earns 1/16, and among the second halves of pairs 1/10.
"""

from __future__ import annotations

from typing import Any

from experiments.claims.base import Claim, Test
from experiments.claims.deciding import at_least, higher

SUITE = "recall"
NEEDLES: dict[str, Any] = {"task": "Needles"}
PAIRS: dict[str, Any] = {"task": "InductionAtDistance"}
FARTHEST = 8
PAST = (2, 4, 8)


def at(label: str, variant: str = "raw") -> dict[str, Any]:
    """Where a method stands, as it was trained unless a variant is named."""
    return {"label": label, "variant": variant}


def found(task: dict[str, Any], method: dict[str, Any], multiple: Any) -> Test:
    """Holds where nearly all that is asked is found."""
    return at_least("accuracy", 0.9, **task, **method, multiple=multiple)


CLAIMS = (
    Claim(
        name="rope-copies-past-its-length",
        words="What a RoPE model has learned to copy it copies at 8 times the trained length.",
        source="Read into induction heads, Olsson et al. 2022, arXiv:2209.11895",
        suite=SUITE,
        test=found(PAIRS, at("RoPE"), FARTHEST),
    ),
    Claim(
        name="rerope-copies-untrained",
        words="With ReRoPE, RoPE says what followed a token at 8 times the trained length, without training.",
        source="Su 2023 (ReRoPE), of any length",
        suite=SUITE,
        test=found(PAIRS, at("RoPE", "rerope"), PAST),
    ),
    Claim(
        name="rerope-copies-better-than-yarn",
        words="ReRoPE recalls more pairs than YaRN at 8 times the trained length, without training.",
        source="Su 2023, of ReRoPE beside NTK",
        suite=SUITE,
        test=higher("accuracy", at("RoPE", "rerope"), at("RoPE", "yarn"), **PAIRS, multiple=FARTHEST),
    ),
    Claim(
        name="near-and-far-forms-find-needles",
        words="With ReRoPE or Self-Extend, RoPE finds needles at 4 times the trained length, without training.",
        source="Jin et al. 2024, arXiv:2401.01325, section 4 (passkeys)",
        suite=SUITE,
        test=found(NEEDLES, {"label": "RoPE", "variant": ("rerope", "self-extend")}, 4),
    ),
    Claim(
        name="rerope-finds-more-needles-than-yarn",
        words="ReRoPE, which loses least on text, finds more needles than YaRN.",
        source="Read into losses, as of Su 2023",
        suite=SUITE,
        test=higher("accuracy", at("RoPE", "rerope"), at("RoPE", "yarn"), **NEEDLES, multiple=FARTHEST),
    ),
    Claim(
        name="forget-gates-find-needles-far-back",
        words="A forget gate, flat in loss at 16 times the trained length, finds needles at 8 times.",
        source="Lin et al. 2025, arXiv:2503.02130, of needles within the trained length and losses beyond",
        suite=SUITE,
        test=found(NEEDLES, at("FoX"), PAST),
    ),
    Claim(
        name="forget-gates-find-more-than-rope",
        words="Past the trained length a forget gate finds more needles than RoPE as it was trained.",
        source="Lin et al. 2025, arXiv:2503.02130",
        suite=SUITE,
        test=higher("accuracy", at("FoX"), at("RoPE"), **NEEDLES, multiple=(2, 4)),
    ),
)
