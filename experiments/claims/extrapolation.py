"""Claims about encodings past the trained length: suite `extrapolation`, and `corpora` for another text.

Ratios are exp(loss there - loss at the trained length) of the same bytes: 2 and more is called to fail, at most 1.05
flat, as the reports do.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from experiments.claims.base import Claim, Test, Verdict
from experiments.claims.deciding import (
    against_control,
    all_of,
    at_least,
    at_most,
    between,
    flat,
    higher,
    lower,
    lowest,
    same,
)
from experiments.claims.seeds import digits
from posjax.errors import InputError
from posjax.report.verdicts import EXPLODES
from posjax.results import Measurements

SUITE = "extrapolation"
ANOTHER = ("corpora",)
"""The suite on another text, with the four encodings that most claims are about."""
PAST = (2, 4, 8, 16)
"""The multiples of the trained length."""
FLAT = 0.05


def raw(label: str) -> dict[str, Any]:
    """An encoding as it was trained."""
    return {"label": label, "variant": "raw"}


def rope(variant: str) -> dict[str, Any]:
    """RoPE with an extension, or with a window of the trained length."""
    return {"label": "RoPE", "variant": variant}


def counting(table: Measurements, yardstick: str) -> float:
    """The loss of a yardstick, "unigram" or "bigram". Errors: `InputError` where the table has none."""
    found = table.select("yardstick_loss", counted=yardstick)
    if not found:
        raise InputError(f"no yardstick_loss of {yardstick}")
    # One text, and so one number in all of its runs.
    return found.rows[0].value


def above_counting(yardstick: str, **coordinates: Any) -> Test:
    """Holds where a loss lies above that of counting bytes, or pairs of them."""
    return partial(_above_counting, yardstick, coordinates)


def _above_counting(yardstick: str, coordinates: dict[str, Any], table: Measurements) -> Verdict:
    bound = counting(table, yardstick)
    verdict = at_least("loss", bound, **coordinates)(table)
    return replace(verdict, words=f"{verdict.words} Counting, the {yardstick}, reaches {digits(bound)}.")


def fails(label: str, *multiples: int) -> Test:
    """Holds where the ratio of an encoding as it was trained explodes."""
    return at_least("loss_ratio", EXPLODES, **raw(label), multiple=multiples)


def is_flat(label: str, *multiples: int) -> Test:
    """Holds where the ratio of an encoding as it was trained stays near one."""
    return flat(FLAT, **raw(label), multiple=multiples)


def leaks(label: str, *multiples: int) -> Test:
    """Holds where the ratio of an encoding as it was trained is neither flat nor explodes."""
    return between("loss_ratio", 1 + FLAT, EXPLODES, **raw(label), multiple=multiples)


def beside_window(test: Test, variant: str, *multiples: int) -> Test:
    """A test of an extension of RoPE, beside the same model with a window of the trained length."""
    return against_control(test, "loss_ratio", rope(variant), rope("windowed"), multiple=multiples)


def _claim(name: str, words: str, source: str, test: Test, also: tuple[str, ...] = (), published: str = "") -> Claim:
    return Claim(name, words, test, source, published, suite=SUITE, also=also)


PRESS = "Press et al. 2021, arXiv:2108.12409"
PENG = "Peng et al. 2023, arXiv:2309.00071"
CHEN = "Chen et al. 2023, arXiv:2306.15595"
KAZEMNEJAD = "Kazemnejad et al. 2023, arXiv:2305.19466"

# Those that the suite tries, whichever of them is best at a length.
EXTENSIONS = (rope("linear"), rope("ntk"), rope("yarn"), rope("parts"))

# Each test is of the sentence as it circulates: most are wrong somewhere, and the verdict says where.
AS_TRAINED = (
    _claim(
        "sinusoidal-fails-past-its-length",
        "Sinusoidal encodings fail past the trained length.",
        PRESS,
        # Further out its value is noise, above that of counting bytes.
        fails("Sinusoidal", 2, 4),
        ANOTHER,
    ),
    _claim(
        "learned-fails-past-its-length",
        "A learned table fails past the trained length, even with rows to spare.",
        "tutorials",
        fails("Learned", 2, 4),
    ),
    _claim(
        "no-filling-saves-a-learned-table",
        "No way of filling the rows that were never trained saves a learned table.",
        "tutorials",
        at_least("loss_ratio", EXPLODES, label="Learned", variant=("clamp", "wrap", "interpolate"), multiple=2),
    ),
    _claim(
        "rope-fails-at-four-times",
        "RoPE without an extension fails at four times the trained length and beyond.",
        CHEN,
        fails("RoPE", 4, 8, 16),
        ANOTHER,
    ),
    _claim(
        "rope-is-decent-at-twice",
        "RoPE without an extension is decent at twice the trained length.",
        "a tutorial, of 2.5 times the perplexity per token, which is some 1.3 per byte",
        at_most("loss_ratio", 1.3, **raw("RoPE"), multiple=2),
        ANOTHER,
    ),
    _claim(
        "rope-becomes-worse-than-counting",
        "Far past its length RoPE predicts worse than the frequencies of bytes do.",
        "tutorials, of perplexities in the thousands",
        above_counting("unigram", **raw("RoPE"), multiple=16),
    ),
    _claim(
        "rope-looks-where-it-never-trained",
        "Past its length RoPE spends most of its attention at distances that were never trained.",
        "a common explanation",
        at_least("mass_beyond", 0.5, **raw("RoPE"), multiple=(8, 16)),
    ),
    _claim(
        "rope-extrapolates-better-than-sinusoidal",
        "RoPE goes further past the trained length than sinusoidal encodings.",
        PRESS,
        # At twice the length alone: further out both have failed, and their order is that of noise.
        lower("loss_ratio", raw("RoPE"), raw("Sinusoidal"), multiple=2),
        ANOTHER,
    ),
    _claim(
        "t5-extrapolates-better-than-sinusoidal",
        "T5's bias goes further past the trained length than sinusoidal encodings.",
        PRESS,
        lower("loss_ratio", raw("T5"), raw("Sinusoidal"), multiple=(2, 4)),
        ANOTHER,
    ),
    _claim(
        "t5-is-worse-than-rope",
        "Past the trained length T5's bias does worse than RoPE without an extension.",
        "a tutorial's table",
        higher("loss_ratio", raw("T5"), raw("RoPE"), multiple=(2, 4)),
        ANOTHER,
    ),
    _claim(
        "a-small-base-makes-rope-extrapolate",
        "Trained with a small base, RoPE goes further without an extension.",
        "Liu et al. 2023, arXiv:2310.05209, of fine-tuning with base 500",
        lower("loss_ratio", raw("RoPE base 100"), raw("RoPE"), multiple=(2, 4, 8)),
    ),
    _claim(
        "xpos-extrapolates-better-than-rope",
        "xPos goes further past the trained length than RoPE.",
        "Sun et al. 2022, arXiv:2212.10554",
        lower("loss_ratio", raw("XPos"), raw("RoPE"), multiple=PAST),
    ),
    _claim(
        "xpos-extrapolates-from-four-times",
        "From four times the trained length on xPos predicts better than RoPE.",
        "Sun et al. 2022, arXiv:2212.10554, at the lengths that tell them apart",
        lower("loss_ratio", raw("XPos"), raw("RoPE"), multiple=(4, 8, 16)),
    ),
    _claim(
        "nope-extrapolates-better-than-all",
        "A decoder without positional encoding extrapolates better than with RoPE, T5's bias or ALiBi.",
        f"{KAZEMNEJAD}, of algorithmic tasks",
        lowest("loss_ratio", raw("NoPE"), (raw("RoPE"), raw("T5"), raw("ALiBi")), multiple=(2, 4)),
    ),
    _claim(
        "nope-is-a-bag-of-words",
        "A causal language model without positional encoding predicts no better than pairs of bytes.",
        "tutorials; denied by Haviv et al. 2022, arXiv:2203.16634",
        above_counting("bigram", **raw("NoPE"), multiple=1),
    ),
)

FLATNESS = (
    _claim(
        "alibi-is-flat",
        "ALiBi's loss stays flat to 16 times the trained length.",
        PRESS,
        against_control(
            is_flat("ALiBi", *PAST),
            "loss_ratio",
            raw("ALiBi"),
            {"label": "ALiBi", "variant": "windowed"},
            multiple=16,
        ),
        ANOTHER,
    ),
    _claim(
        "alibi-uses-the-long-context",
        "ALiBi gains from text beyond the trained length.",
        "tutorials",
        # By one in a hundred at least: of a difference that no reader would care for, three seeds can be sure too.
        lower(
            "loss_ratio",
            raw("ALiBi"),
            {"label": "ALiBi", "variant": "windowed"},
            by=0.01,
            multiple=(4, 8, 16),
        ),
        ANOTHER,
    ),
    _claim(
        "alibi-mean-loss-improves",
        "With longer windows ALiBi's mean perplexity improves.",
        PRESS,
        lower("mean_loss", {**raw("ALiBi"), "multiple": 4}, {**raw("ALiBi"), "multiple": 1}),
        ANOTHER,
    ),
    _claim(
        "alibi-gain-is-the-early-token-curse",
        "What ALiBi gains from longer windows is that fewer tokens have little context: its last tokens gain nothing.",
        PRESS,
        all_of(
            lower("mean_loss", {**raw("ALiBi"), "multiple": 4}, {**raw("ALiBi"), "multiple": 1}),
            flat(0.02, **raw("ALiBi"), multiple=(2, 4)),
        ),
    ),
    _claim(
        "rope-is-better-than-alibi-within",
        "Within the trained length RoPE predicts better than ALiBi.",
        "tutorials",
        lower("loss", raw("RoPE"), raw("ALiBi"), multiple=1),
        ANOTHER,
    ),
    _claim(
        "rope-is-better-than-absolute-within",
        "Within the trained length RoPE predicts better than learned and sinusoidal encodings.",
        "Su et al. 2021, arXiv:2104.09864",
        lowest("loss", raw("RoPE"), (raw("Learned"), raw("Sinusoidal")), multiple=1),
    ),
    _claim(
        "kerple-is-flat-and-better-than-alibi",
        "KERPLE's logarithmic form is as flat as ALiBi and predicts better.",
        "Chi et al. 2022, arXiv:2205.09921",
        all_of(is_flat("KERPLE", *PAST), lower("loss", raw("KERPLE"), raw("ALiBi"), multiple=(1, 4, 16))),
    ),
    _claim(
        "kerple-matches-rope-within",
        "Within the trained length KERPLE's logarithmic form predicts as well as RoPE.",
        "a question of this project",
        same("loss", raw("KERPLE"), raw("RoPE"), 0.03, multiple=1),
    ),
    _claim(
        "fire-goes-furthest",
        "FIRE goes further past the trained length than T5's bias, ALiBi and KERPLE.",
        "Li et al. 2023, arXiv:2310.04418",
        # Losses and not ratios: a bad beginning is easy to keep.
        lowest("loss", raw("FIRE"), (raw("T5"), raw("ALiBi"), raw("KERPLE")), multiple=(4, 16)),
    ),
    _claim(
        "three-groups",
        "At four times the trained length encodings fall into three groups: some fail, some leak, some are flat.",
        "a question of this project",
        all_of(
            *(fails(label, 4) for label in ("Learned", "Sinusoidal", "RoPE")),
            *(leaks(label, 4) for label in ("T5", "NoPE")),
            *(is_flat(label, 4) for label in ("ALiBi", "KERPLE")),
        ),
    ),
)

EXTENDED = (
    _claim(
        "linear-works-untrained",
        "Position interpolation keeps RoPE's loss without training.",
        f"tutorials, after {CHEN}, who fine-tune",
        beside_window(at_most("loss_ratio", 1.1, **rope("linear"), multiple=(2, 4)), "linear", 2, 4),
        ANOTHER,
    ),
    _claim(
        "ntk-carries-twice-the-length",
        "NTK-aware scaling keeps RoPE's loss at twice the length without training.",
        "bloc97 2023, NTK-aware scaled RoPE",
        beside_window(at_most("loss_ratio", 1.1, **rope("ntk"), multiple=2), "ntk", 2),
        ANOTHER,
    ),
    _claim(
        "yarn-rescues-rope",
        "YaRN rescues RoPE past its length without training.",
        PENG,
        beside_window(lower("loss_ratio", rope("yarn"), rope("raw"), multiple=(4, 8, 16)), "yarn", 4, 8, 16),
        ANOTHER,
    ),
    _claim(
        "extended-rope-is-as-good-as-new",
        "An extended RoPE is nearly as good at four times its length as within it.",
        "a tutorial's table",
        # The extension that does best at that length.
        beside_window(at_most("loss_ratio", 1.1, **rope("yarn"), multiple=4), "yarn", 4),
        ANOTHER,
    ),
    _claim(
        "yarn-then-ntk-then-linear",
        "At every length YaRN beats NTK-aware scaling, which beats position interpolation.",
        f"tutorials, after {PENG}",
        all_of(
            lower("loss_ratio", rope("yarn"), rope("ntk"), multiple=PAST),
            lower("loss_ratio", rope("ntk"), rope("linear"), multiple=PAST),
        ),
        ANOTHER,
    ),
    _claim(
        "yarn-temperature-matters",
        "YaRN's temperature helps, beyond its frequencies.",
        PENG,
        lower("loss_ratio", rope("yarn"), rope("parts"), multiple=(4, 8, 16)),
        ANOTHER,
    ),
    _claim(
        "a-window-beats-every-extension",
        "A window of the trained length predicts better than any schedule of RoPE, from four times on.",
        "a control that few tables have",
        lowest("loss_ratio", rope("windowed"), EXTENSIONS, multiple=(4, 8, 16)),
        ANOTHER,
    ),
)
