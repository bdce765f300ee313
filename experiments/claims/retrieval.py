"""Claims about finding again what stands far back: suite `retrieval`, beside the losses of `extrapolation`.

Found is an accuracy of 0.9 and more, lost one of 0.5 at most; a blind guess earns 1/16.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from experiments.claims.base import Claim, Test, Verdict
from experiments.claims.deciding import (
    against_control,
    all_of,
    at_least,
    at_most,
    denied,
    flat,
    higher,
    highest,
    lower,
)
from posjax.results import Measurements

SUITE = "retrieval"
BOTH = ("extrapolation", SUITE)
FAR = 0.0
MIDDLE = 0.5
NEAR = 0.9
EVERYWHERE = (FAR, MIDDLE, NEAR)
"""Depths, as the suite asks them."""


def at(label: str, variant: str = "raw", **coordinates: Any) -> dict[str, Any]:
    """Where a method stands, as it was trained unless a variant is named."""
    return {"label": label, "variant": variant, **coordinates}


def found(label: str, multiple: Any, depth: Any = EVERYWHERE, variant: str = "raw") -> Test:
    """Holds where an encoding finds nearly all needles."""
    return at_least("accuracy", 0.9, **at(label, variant), multiple=multiple, depth=depth)


def lost(label: str, multiple: Any, depth: Any = FAR, variant: str = "raw", **coordinates: Any) -> Test:
    """Holds where an encoding finds half of the needles at most."""
    return at_most("accuracy", 0.5, **at(label, variant), multiple=multiple, depth=depth, **coordinates)


def sags(label: str, multiple: int, by: float = 0.05) -> Test:
    """Holds where what lies in the middle is found more rarely than what lies at either end, and only there."""
    shared = {**at(label), "multiple": multiple}
    ends = [lower("accuracy", {"depth": MIDDLE}, {"depth": end}, by, **shared) for end in (FAR, NEAR)]

    def tested(table: Measurements) -> Verdict:
        verdict = all_of(*ends)(table)
        # A curve that falls from one end to the other is half of it, and no such curve.
        if any(end(table).kind == "does not hold" for end in ends):
            return replace(verdict, kind="does not hold")
        return verdict

    return tested


def more_from_far(one: str, other: str, multiple: int, **coordinates: Any) -> Test:
    """Holds where one encoding finds more of what is far than another."""
    return higher("accuracy", at(one), at(other), multiple=multiple, depth=FAR, **coordinates)


CLAIMS = (
    Claim(
        name="alibi-remembers-what-is-far",
        words="ALiBi extrapolates, so it finds what stands far beyond the trained length.",
        source="Press et al. 2021, arXiv:2108.12409, as its flat loss is often read",
        suite=SUITE,
        test=found("ALiBi", (4, 16), FAR),
    ),
    Claim(
        name="a-flat-loss-is-memory",
        words="An encoding whose loss stays flat past the trained length uses what is far.",
        source="Read into figures of loss by length, such as figure 1 of Press et al. 2021, arXiv:2108.12409",
        suite=BOTH,
        # Denied by one encoding that is flat and forgets.
        test=denied(
            all_of(
                flat(0.05, suite="extrapolation", **at("ALiBi"), multiple=16),
                lost("ALiBi", 16, suite=SUITE),
            )
        ),
    ),
    Claim(
        # Two that the one measure ranks one way, and the other the other way.
        name="loss-ranks-as-recall-does",
        words="Encodings that extrapolate better in loss also recall better.",
        source="Comparisons of encodings by loss alone, such as Press et al. 2021, arXiv:2108.12409",
        suite=BOTH,
        test=denied(
            all_of(
                lower("loss_ratio", at("ALiBi"), at("T5"), suite="extrapolation", multiple=16),
                more_from_far("T5", "ALiBi", 16, suite=SUITE),
            )
        ),
    ),
    Claim(
        name="alibi-prefers-what-is-near",
        words="ALiBi finds what is near more often than what is far.",
        source="Press et al. 2021, arXiv:2108.12409, section 3 (a bias towards recent tokens)",
        suite=SUITE,
        # Past the trained length alone: within it both are found.
        test=lower("accuracy", {"depth": FAR}, {"depth": NEAR}, **at("ALiBi"), multiple=(4, 16)),
    ),
    Claim(
        name="rope-loses-what-is-far",
        words="RoPE as it was trained does not find what stands far beyond the trained length.",
        source="Chen et al. 2023, arXiv:2306.15595 (direct extrapolation fails)",
        suite=SUITE,
        # At 4 times it still finds about half, which is on neither side.
        test=lost("RoPE", 16),
    ),
    Claim(
        name="yarn-finds-needles-untrained",
        words="With YaRN, RoPE finds needles at 4 and at 16 times the trained length, without further training.",
        source="Peng et al. 2023, arXiv:2309.00071 (its passkeys after fine-tuning)",
        suite=SUITE,
        test=against_control(
            found("RoPE", (4, 16), variant="yarn"),
            "accuracy",
            at("RoPE", "yarn"),
            at("RoPE", "windowed"),
            lower_is_better=False,
            multiple=16,
            depth=FAR,
        ),
    ),
    Claim(
        name="yarn-finds-more-than-linear-and-ntk",
        words="Of the extensions without training, YaRN finds the most.",
        source="Peng et al. 2023, arXiv:2309.00071",
        suite=SUITE,
        test=highest(
            "accuracy", at("RoPE", "yarn"), (at("RoPE", "linear"), at("RoPE", "ntk")), multiple=16, depth=EVERYWHERE
        ),
    ),
    Claim(
        name="a-window-is-all-it-takes",
        words="RoPE that sees its last tokens alone needs no extension.",
        source="Its loss, which a window keeps flat; Xiao et al. 2023, arXiv:2309.17453, say that it does not remember",
        suite=SUITE,
        # The far alone: what is near lies within the window.
        test=found("RoPE", (2, 4, 16), FAR, variant="windowed"),
    ),
    Claim(
        name="t5-finds-needles-to-four-times",
        words="T5's bias finds needles at up to 4 times the trained length, wherever they lie.",
        source="Raffel et al. 2019, arXiv:1910.10683 (one bucket for all that is far)",
        suite=SUITE,
        test=found("T5", (2, 4)),
    ),
    Claim(
        name="nope-finds-needles-to-four-times",
        words="A decoder without positions finds needles at up to 4 times the trained length, wherever they lie.",
        source="Kazemnejad et al. 2023, arXiv:2305.19466",
        suite=SUITE,
        test=found("NoPE", (2, 4)),
    ),
    Claim(
        name="nope-attention-thins-out",
        words="Without positions attention spreads over a long text, and finds less at every depth.",
        source="Wang et al. 2024, arXiv:2404.12224",
        suite=SUITE,
        # At every depth, since what is nearer is lost as well: it is no question of distance.
        test=lower("accuracy", {"multiple": 16}, {"multiple": 1}, 0.05, **at("NoPE"), depth=EVERYWHERE),
    ),
    Claim(
        name="kerple-remembers-more-than-alibi",
        words="KERPLE's logarithmic bias finds more of what is far than ALiBi's straight one.",
        source="Chi et al. 2022, arXiv:2205.09921 (of losses)",
        suite=SUITE,
        test=more_from_far("KERPLE", "ALiBi", 16),
    ),
    Claim(
        name="lost-in-the-middle",
        words="What lies in the middle of a long text is found more rarely than what lies at either end.",
        source="Liu et al. 2023, arXiv:2307.03172 (of large models and questions in English)",
        suite=SUITE,
        # At 4 times: at 16 times some find too little to have a shape.
        test=all_of(*(sags(label, 4) for label in ("RoPE", "ALiBi", "T5", "NoPE", "KERPLE"))),
    ),
    Claim(
        name="yarn-finds-one-of-many-keys",
        words="With YaRN, RoPE tells a needle from others with other keys at 4 times the trained length.",
        source="Hsieh et al. 2024, arXiv:2404.06654 (multi-key retrieval, of large models)",
        suite=SUITE,
        # Absolute, and not against the needles of other runs, which another training has taught.
        test=found("RoPE, multi-key", 4, variant="yarn"),
    ),
)
