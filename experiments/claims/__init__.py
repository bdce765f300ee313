"""Claims of the field, each with the test that decides it: a file of them is a theme, and one line here adds it."""

from experiments.claims import (
    algorithmic,
    biases,
    context,
    extension,
    extrapolation,
    objectives,
    others,
    recall,
    retrieval,
    rotary,
    schedules,
    untrained,
)
from experiments.claims.base import Claim

THEMES: dict[str, tuple[Claim, ...]] = {
    "RoPE, by arithmetic": rotary.CLAIMS,
    "Extensions of RoPE, by arithmetic": schedules.CLAIMS,
    "Biases and absolute positions, by arithmetic": biases.CLAIMS,
    "Past the trained length, as trained": extrapolation.AS_TRAINED,
    "Flat, and better within the trained length": extrapolation.FLATNESS,
    "Other encodings, and windows": others.CLAIMS,
    "RoPE extended without training": extrapolation.EXTENDED,
    "What stands far back": retrieval.CLAIMS,
    "Needles and pairs, for those that predict best": recall.CLAIMS,
    "Rules on longer sequences": algorithmic.CLAIMS,
    "What context is used for": context.CLAIMS,
    "Extended, searched and fine-tuned": extension.CLAIMS,
    "Beside the next token": objectives.CLAIMS,
    "Before any training": untrained.CLAIMS,
}
"""The claims by theme, in the order in which they are told."""
CLAIMS = tuple(claim for claims in THEMES.values() for claim in claims)

HEADLINES = (
    "alibi-is-flat",
    "alibi-uses-the-long-context",
    "rope-fails-at-four-times",
    "yarn-then-ntk-then-linear",
    "a-window-beats-every-extension",
    "rope-decays-monotonically",
    "no-positions-no-order-in-a-decoder",
    "float32-angles-are-exact-enough",
    "relative-biases-break-the-cache",
    "yarn-interpolates-high-frequencies",
    "more-heads-look-further",
)
"""What a README tells first, as far as it is decided."""
