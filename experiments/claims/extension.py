"""Claims about extending one trained RoPE: suite `extension`; and about found schedules: suite `search`."""

from __future__ import annotations

from typing import Any

from experiments.claims.base import Claim
from experiments.claims.deciding import all_of, at_least, at_most, between, denied, higher, lower, lowest, same

PENG = "Peng et al. 2023, arXiv:2309.00071"
CHEN = "Chen et al. 2023, arXiv:2306.15595"
DING = "Ding et al. 2024, arXiv:2402.13753"

ROPE: dict[str, Any] = {"label": "RoPE", "evaluation": "extrapolation"}
# Without the evaluation a loss at some multiple would be ambiguous: two of them measure it.
SEARCHED: dict[str, Any] = {"label": "RoPE", "evaluation": "search"}
BYTES: dict[str, Any] = {"variant": "raw", "evaluation": "fixed-lengths"}
"""Losses of one and the same targets, before fine-tuning and after it."""
LONGER = 256
"""The length of the fine-tuning, four times the trained one."""
# Labels of the runs, as a page shows them.
TUNED = ("RoPE, tuned", "PI, tuned", "NTK, tuned", "YaRN, tuned")

SEARCH_CLAIMS = (
    Claim(
        name="gradient-search-beats-yarn",
        words="Divisors found by gradient, with frozen weights, read further than YaRN's at 2, 4, 8 and 16 times.",
        source="a claim of this library",
        suite="search",
        test=lower("loss_ratio", {"variant": "found"}, {"variant": "yarn"}, multiple=(2, 4, 8, 16), **SEARCHED),
    ),
    Claim(
        name="search-beats-formulas-far-out",
        words="Far past the trained length a search beats every formula: PI, NTK and YaRN.",
        source=f"{DING}, of a search by evolution and large models",
        suite="search",
        test=lowest(
            "loss_ratio",
            {"variant": "found"},
            [{"variant": name} for name in ("linear", "ntk", "yarn")],
            multiple=(8, 16),
            **SEARCHED,
        ),
    ),
    Claim(
        name="search-makes-extension-free",
        words="With searched divisors a context of eight times the trained length costs nothing without fine-tuning.",
        source=f"{DING}: eight times without fine-tuning",
        suite="search",
        test=at_most("loss_ratio", 1.05, variant="found", multiple=8, **SEARCHED),
    ),
    Claim(
        name="found-pairs-differ-in-need",
        words="Pairs need different divisors: the fastest next to none, those in the middle the most.",
        source=f"{DING} and {PENG}: fast pairs are kept",
        suite="search",
        test=all_of(
            between("divisor", 0.9, 1.1, variant="found", multiple=8, pair=0, **SEARCHED),
            lower("divisor", {"pair": 0}, {"pair": 3}, variant="found", multiple=8, **SEARCHED),
        ),
    ),
)

EXTENSION_CLAIMS = (
    Claim(
        name="pi-fails-zero-shot",
        words="Linear interpolation (PI) works without fine-tuning.",
        source="tutorials; the paper fine-tunes",
        suite="extension",
        test=at_most("loss_ratio", 1.5, variant="linear", multiple=(2, 4, 8), **ROPE),
    ),
    Claim(
        name="pi-needs-little-tuning",
        words="After a short fine-tuning a model with PI reads four times its length as well as it read its own.",
        source=f"{CHEN}: fine-tuned for at most 1,000 steps",
        suite="extension",
        test=all_of(
            at_least("loss_ratio", 1.5, variant="linear", multiple=4, **ROPE),
            same("loss", {"label": "PI, tuned", "length": LONGER}, {"label": "RoPE", "length": 64}, 0.05, **BYTES),
        ),
    ),
    Claim(
        name="yarn-best-zero-shot-from-4x",
        words="Without fine-tuning YaRN is better than PI and NTK, at every length.",
        source=PENG,
        suite="extension",
        test=lowest(
            "loss_ratio",
            {"variant": "yarn"},
            [{"variant": "linear"}, {"variant": "ntk"}],
            multiple=(2, 4, 8, 16),
            **ROPE,
        ),
    ),
    Claim(
        name="temperature-matters",
        words="YaRN's temperature lowers the loss beyond what its interpolation by parts does.",
        source=f"{PENG}, section 3.4",
        suite="extension",
        test=lower("loss_ratio", {"variant": "yarn"}, {"variant": "parts"}, multiple=(4, 8, 16), **ROPE),
    ),
    Claim(
        name="parts-beat-ntk",
        words="NTK by parts is better than NTK-aware scaling without fine-tuning.",
        source=f"{PENG}, section 3.2",
        suite="extension",
        test=lower("loss_ratio", {"variant": "parts"}, {"variant": "ntk"}, multiple=(2, 4, 8, 16), **ROPE),
    ),
    Claim(
        name="llama3-extends-zero-shot",
        words="Llama 3's scaling serves a model that was not trained with it.",
        source="tutorials; it was published for models that are trained on with it",
        suite="extension",
        test=at_most("loss_ratio", 1.5, variant="llama3", multiple=(2, 4), **ROPE),
    ),
    Claim(
        name="self-extend-without-training",
        words="Self-Extend keeps the loss past the trained length without any training.",
        source="Jin et al. 2024, arXiv:2401.01325",
        suite="extension",
        test=at_most("loss_ratio", 1.1, variant="self-extend", multiple=(2, 4, 8), **ROPE),
    ),
    Claim(
        name="rerope-without-training",
        words="ReRoPE keeps the loss past the trained length without any training.",
        source="Su 2023, https://kexue.fm/archives/9706",
        suite="extension",
        test=at_most("loss_ratio", 1.1, variant="rerope", multiple=(2, 4, 8), **ROPE),
    ),
    Claim(
        name="near-far-beats-schedules",
        words="Without training, clipping or grouping distances beats every change of frequencies, from 4 times on.",
        source="Su 2023 and Jin et al. 2024, of their own forms beside NTK",
        suite="extension",
        test=all_of(
            *(
                lowest("loss_ratio", {"variant": form}, [{"variant": "yarn"}, {"variant": "ntk"}], **ROPE, multiple=at)
                for form in ("rerope", "self-extend")
                for at in (4, 8, 16)
            )
        ),
    ),
    *(
        Claim(
            name=f"{variant}-beats-yarn-untrained",
            words=f"Without training {form} reads four and eight times the trained length better than YaRN.",
            source="a question of this project, at the lengths that tell them apart",
            suite="extension",
            test=lower("loss_ratio", {"variant": variant}, {"variant": "yarn"}, multiple=(4, 8), **ROPE),
        )
        for form, variant in (("ReRoPE", "rerope"), ("Self-Extend", "self-extend"))
    ),
    Claim(
        name="tuning-needs-no-schedule",
        words="A short fine-tuning at the longer length is enough: a schedule adds nothing.",
        source="a control of this library",
        suite="extension",
        test=denied(
            lower("loss", {"label": "YaRN, tuned"}, {"label": "RoPE, tuned"}, length=LONGER, **BYTES),
        ),
    ),
    Claim(
        name="tuning-closes-the-gap",
        words="After a short fine-tuning PI, NTK and YaRN are alike at the length that they were tuned at.",
        source=f"{PENG}: the gaps after fine-tuning are small",
        suite="extension",
        test=all_of(
            same("loss", {"label": "PI, tuned"}, {"label": "YaRN, tuned"}, 0.05, length=LONGER, **BYTES),
            same("loss", {"label": "NTK, tuned"}, {"label": "YaRN, tuned"}, 0.05, length=LONGER, **BYTES),
        ),
    ),
    Claim(
        name="yarn-tuned-goes-past-its-tuning",
        words="YaRN extrapolates past the length that it was fine-tuned at, further than PI does.",
        source=f"{PENG}, section 4: trained at 64k, evaluated at 128k",
        suite="extension",
        test=lower("loss", {"label": "YaRN, tuned"}, {"label": "PI, tuned"}, length=(512, 1024), **BYTES),
    ),
    Claim(
        name="tuned-models-keep-short-contexts",
        words="Fine-tuning at four times the length costs nothing at the length of before.",
        source=f"{CHEN}: within its original window a model degrades little",
        suite="extension",
        test=all_of(
            *(
                denied(higher("loss", {"label": label}, {"label": "RoPE"}, length=64, by=0.02, **BYTES))
                for label in TUNED[1:]
            )
        ),
    ),
)

CLAIMS = EXTENSION_CLAIMS + SEARCH_CLAIMS
