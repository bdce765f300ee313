"""Claims about what an encoding does before any training: suites `decay`, `invariance` and `cost`.

They read numbers without seeds: a kernel, a share of steps, an error of rounding is what it is.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from experiments.claims.base import Claim, Test, Verdict
from experiments.claims.deciding import all_of, at_least, at_most, denied, fact
from experiments.claims.seeds import digits, spelled
from posjax.results import Measurements

ROUNDING = 1e-5
"""An error of scores, in units of the largest: more than this is no rounding of float32 sums."""
ROTARY = ("RoPE", "RoPE, head size 128", "RoPE, base 500,000", "RoPE, NTK by 8")
RELATIVE = (
    "NoPE",
    "RoPE",
    "RoPE, base 500,000",
    "RoPE, YaRN by 8",
    "RoPE and ALiBi",
    "ALiBi",
    "T5",
    "KERPLE",
    "Sandwich",
    "Shaw",
    "Transformer-XL",
    "CoPE",
)
CHEAP = 1.1
"""A pass that takes up to this many times NoPE's costs what it does."""


def never_rises(label: str, of: str = "equal") -> Test:
    """Holds where a score falls, or stays, on every step from a distance to the next."""
    return partial(_never_rises, label, of)


def _never_rises(label: str, of: str, table: Measurements) -> Verdict:
    share = table.one("rising_share", label=label, of=of)
    what = {"equal": "the mean score of equal vectors", "bound": "the bound", "positions": "what is embedded"}[of]
    return fact(share.value == 0, f"{label}: {what} rises on {share.value:.0%} of {share.count:,} steps.", share)


def unmoved(distances: tuple[int, ...], *labels: str) -> Test:
    """Holds where independent queries and keys score nothing on average, and as widely at each distance as at 0."""
    return all_of(*(partial(_unmoved, distances, label) for label in labels))


def _unmoved(distances: tuple[int, ...], label: str, table: Measurements) -> Verdict:
    at: dict[str, Any] = {"label": label, "of": "independent"}
    widths = {d: table.one("score_deviation", distance=d, **at) for d in (0, *distances)}
    scores = [table.one("score", distance=d, **at) for d in distances]
    nothing = all(score.low <= 0 <= score.high for score in scores)
    # A tenth is what the deviation of as many draws is known to.
    as_wide = all(abs(widths[d].value / widths[0].value - 1) < 0.1 for d in distances)
    told = ", ".join(f"{digits(score.value)} at {d:,}" for d, score in zip(distances, scores, strict=True))
    spread = ", ".join(f"{digits(width.value)} at {d:,}" for d, width in widths.items())
    words = f"{label}: unrelated vectors score {told} on average, with the deviation {spread}."
    return fact(nothing and as_wide, words, *scores, *widths.values())


def starts_flat(within: float, *labels: str) -> Test:
    """Holds where the score of equal vectors differs between distances by less than that part of it."""
    return all_of(*(partial(_starts_flat, within, label) for label in labels))


def _starts_flat(within: float, label: str, table: Measurements) -> Verdict:
    rows = table.select("score", label=label, of="equal")
    values = [row.value for row in rows]
    # Of a table without the method: named by the error, and no verdict.
    first = table.one("score", label=label, of="equal", distance=0).value
    range_of = (max(values) - min(values)) / first
    words = f"{label}: over all distances the score of equal vectors moves by {range_of:.1%} of its size."
    return fact(range_of < within, words, *rows)


def keeps_scores(*labels: str, angles: str = "posjax", offset: tuple[int, ...] = (), bound: float = ROUNDING) -> Test:
    """Holds where moving all positions changes no score by more than a bound; at every offset where none is named."""
    return all_of(*(partial(_keeps_scores, label, angles, offset, bound) for label in labels))


def _keeps_scores(label: str, angles: str, offset: tuple[int, ...], bound: float, table: Measurements) -> Verdict:
    at: dict[str, Any] = {"label": label, "angles": angles}
    if offset:
        at["offset"] = offset
    rows = [row for row in table.select("shift_error", **at) if row.at("offset") != 0]
    if not rows:
        # The error names what is there instead.
        table.one("shift_error", **at)
    worst = max(rows, key=lambda row: row.value)
    words = f"{spelled(at)}: moved by {worst.at('offset'):,} a score changes by {worst.value:.1g} of the largest"
    return fact(worst.value <= bound, f"{words} (at most {bound:.0e} asked).", *rows)


PASSES: dict[str, Any] = {"pass": ("forward", "training"), "length": (256, 1024)}


def costs_at_most(times: float, *labels: str) -> Test:
    """Holds where both passes take at most that many times NoPE's CPU seconds, at both lengths."""
    return all_of(*(at_most("cpu_ratio", times, label=label, **PASSES) for label in labels))


def _no_memory(times: float, label: str, table: Measurements) -> Verdict:
    rows = table.select("temporary_ratio", label=label)
    if not rows:
        table.one("temporary_ratio", label=label)
    worst = max(rows, key=lambda row: row.value)
    where = f"{worst.at('pass')}, length {worst.at('length')}"
    words = f"{label}: a pass needs at most {worst.value:.2f} times the temporary memory of NoPE ({where})."
    return fact(worst.value <= times, words, *rows)


def _claim(suite: str, name: str, words: str, source: str, test: Test) -> Claim:
    return Claim(name, words, test, source, suite=suite)


CLAIMS = (
    _claim(
        "decay",
        "alibi-and-kerple-fall-on-every-step",
        "With ALiBi and KERPLE a farther key of the same content always scores less.",
        "Press et al. 2021, arXiv:2108.12409; Chi et al. 2022, arXiv:2205.09921",
        all_of(never_rises("ALiBi"), never_rises("KERPLE")),
    ),
    _claim(
        "decay",
        "no-rotary-decay-is-monotone",
        "With another base, head size or schedule RoPE's decay is monotone.",
        "a question of this project",
        all_of(*(never_rises(label) for label in ROTARY)),
    ),
    _claim(
        "decay",
        "xpos-decays-monotonically",
        "xPos makes RoPE's score fall monotonically with the distance.",
        "tutorials, after Sun et al. 2022, arXiv:2212.10554",
        never_rises("xPos"),
    ),
    _claim(
        "decay",
        "sandwich-decays-monotonically",
        "Sandwich's bias falls with the distance on every step, as ALiBi's does.",
        "a question of this project, after Chi et al. 2022, arXiv:2212.10356",
        never_rises("Sandwich"),
    ),
    _claim(
        "decay",
        "sinusoidal-products-fall-monotonically",
        "The product of two sinusoidal encodings falls monotonically with their distance.",
        "tutorials",
        never_rises("Sinusoidal", "positions"),
    ),
    _claim(
        "decay",
        "rotation-alone-is-no-locality",
        "A rotation makes far keys score less than near ones, whatever they hold.",
        "tutorials",
        denied(unmoved((64, 512), *ROTARY)),
    ),
    _claim(
        "decay",
        "learned-biases-begin-without-preference",
        "Encodings that are learned begin without a preference for near keys.",
        "a question of this project",
        starts_flat(0.02, "Learned", "T5", "Shaw", "CoPE"),
    ),
    _claim(
        "invariance",
        "relative-encodings-are-relative-at-every-position",
        "Scores of a relative encoding depend on the distance alone, also at the last positions of int32.",
        "a question of this project",
        keeps_scores(*RELATIVE),
    ),
    _claim(
        "invariance",
        "float32-angles-keep-the-relative-property",
        "RoPE with angles in float32, as most code has it, depends on the distance alone up to 2^24 positions.",
        "a common assumption",
        keeps_scores("RoPE", "RoPE, base 500,000", angles="float32", offset=(1_000_000, 2**24), bound=1e-3),
    ),
    _claim(
        "invariance",
        "float32-angles-do-for-published-windows",
        "At 100,000 positions and less, RoPE's angles in float32 change scores by less than bfloat16 rounds them.",
        "a question of this project",
        # The rounding of bfloat16's eight bits.
        keeps_scores("RoPE", "RoPE, base 500,000", angles="float32", offset=(1000, 10_000, 100_000), bound=2.0**-9),
    ),
    _claim(
        "invariance",
        "sinusoidal-scores-are-relative",
        "With sinusoidal encodings a score depends on the distance alone.",
        "tutorials, of a hypothesis in Vaswani et al. 2017, arXiv:1706.03762, section 3.5",
        keeps_scores("Sinusoidal", bound=1e-2),
    ),
    _claim(
        "cost",
        "alibi-costs-nothing",
        "ALiBi takes no more time than no positions at all.",
        "Press et al. 2021, arXiv:2108.12409",
        costs_at_most(CHEAP, "ALiBi"),
    ),
    _claim(
        "cost",
        "alibi-is-cheaper-than-nothing",
        "ALiBi has a lower computational cost than attention without it.",
        "tutorials",
        all_of(at_most("cpu_ratio", 1 - (CHEAP - 1), label="ALiBi", **PASSES)),
    ),
    _claim(
        "cost",
        "rotation-is-nearly-free",
        "RoPE's rotation costs little beside attention: at most 15 % of a pass.",
        "tutorials",
        costs_at_most(1.15, "RoPE"),
    ),
    _claim(
        "cost",
        "t5-bias-takes-twice-the-time",
        "T5's bias takes twice the time of a pass.",
        "Press et al. 2021, arXiv:2108.12409, of their implementation",
        at_least("cpu_ratio", 2.0, label="T5", **PASSES),
    ),
    _claim(
        "cost",
        "biases-need-a-square-of-memory",
        "A bias of each pair takes memory that no positions would not.",
        "tutorials, of a bias that is materialised",
        denied(all_of(*(partial(_no_memory, CHEAP, label) for label in ("ALiBi", "T5", "KERPLE")))),
    ),
)
