"""Claims about further encodings past the trained length, sums of two, and windows: suite `extrapolation`."""

from __future__ import annotations

from experiments.claims.base import Claim
from experiments.claims.deciding import all_of, at_most, lower, same
from experiments.claims.extrapolation import ANOTHER, FLAT, PAST, SUITE, is_flat, raw

FORGETTING = "Lin et al. 2025, arXiv:2503.02130"

CLAIMS = (
    Claim(
        name="a-window-fixes-any-encoding",
        words="A window of the trained length is a fix for any encoding.",
        source="practice",
        suite=SUITE,
        also=ANOTHER,
        # Absolute positions stay untrained within the window too, and NoPE has lost what counted the tokens.
        test=at_most(
            "loss_ratio", 1 + FLAT, variant="windowed", multiple=4, label=("RoPE", "ALiBi", "T5", "Sinusoidal")
        ),
    ),
    Claim(
        name="rope-and-alibi-have-both",
        words="RoPE and ALiBi together are as good as RoPE within the trained length and as flat as ALiBi past it.",
        source="a question of this project",
        suite=SUITE,
        test=all_of(
            same("loss", raw("RoPE and ALiBi"), raw("RoPE"), 0.03, multiple=1),
            is_flat("RoPE and ALiBi", *PAST),
        ),
    ),
    Claim(
        name="sandwich-is-flat",
        words="Sandwich keeps its loss past the trained length, as ALiBi does.",
        source="Chi et al. 2022, arXiv:2212.10356",
        suite=SUITE,
        test=is_flat("Sandwich", *PAST),
    ),
    Claim(
        name="clipped-distances-generalise",
        words="Distances clipped as Shaw has them let a model read lengths that it was never trained at.",
        source="Shaw et al. 2018, arXiv:1803.02155, section 3.2",
        suite=SUITE,
        test=at_most("loss_ratio", 1.1, **raw("Shaw"), multiple=(2, 4)),
    ),
    Claim(
        name="cope-generalises-better-than-relative",
        words="CoPE goes further past the trained length than relative positions.",
        source="Golovneva et al. 2024, arXiv:2405.18719",
        suite=SUITE,
        test=lower("loss_ratio", raw("CoPE"), raw("Shaw"), multiple=(2, 4, 8)),
    ),
    Claim(
        name="forgetting-extrapolates-better-than-rope",
        words="Forget gates go further past the trained length than RoPE.",
        source=FORGETTING,
        suite=SUITE,
        test=lower("loss_ratio", raw("Forgetting"), raw("RoPE"), multiple=(4, 8, 16)),
    ),
    Claim(
        name="forgetting-is-flat",
        words="Forget gates keep their loss to 16 times the trained length.",
        source=FORGETTING,
        suite=SUITE,
        test=is_flat("Forgetting", *PAST),
    ),
    Claim(
        name="forgetting-predicts-better-than-rope",
        words="Within the trained length forget gates without any positions predict better than RoPE.",
        source=FORGETTING,
        suite=SUITE,
        test=lower("loss", raw("Forgetting"), raw("RoPE"), multiple=1),
    ),
)
