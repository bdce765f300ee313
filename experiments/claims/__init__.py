"""Claims of the field, each with the test that decides it: a file of them is a theme, and one line here adds it."""

from experiments.claims import biases, extrapolation, rotary, schedules
from experiments.claims.base import Claim

THEMES: dict[str, tuple[Claim, ...]] = {
    "RoPE, by arithmetic": rotary.CLAIMS,
    "Extensions of RoPE, by arithmetic": schedules.CLAIMS,
    "Biases and others, by arithmetic": biases.CLAIMS,
    "Past the trained length": extrapolation.CLAIMS,
}
"""The claims by theme, in the order in which they are told."""
CLAIMS = tuple(claim for claims in THEMES.values() for claim in claims)
