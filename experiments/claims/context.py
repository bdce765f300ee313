"""Claims about what models do with context past the trained length: suites layouts, base_scaling and use_of_context."""

from __future__ import annotations

from experiments.claims.base import Claim
from experiments.claims.deciding import against_control, all_of, at_least, at_most, flat, higher, lower, same

ROPE = "RoPE 10,000"
RAW = {"variant": "raw"}
WINDOWED = {"variant": "windowed"}
ONE_GLOBAL = ("NRRR", "RNRR", "RRNR", "RRRN")
"""Layouts from the first layer to the last: three of windowed RoPE, and one that sees everything without positions."""
PAST = (2, 4, 8)

LAYOUTS = (
    Claim(
        name="hybrid-layouts-extrapolate",
        words="Three windowed RoPE layers and a full one without positions keep their loss past the trained length.",
        source="Puvvada et al. 2025, arXiv:2504.08719 (SWAN-GPT)",
        suite="layouts",
        test=at_most("loss_ratio", 1.05, label=ONE_GLOBAL, variant="raw", multiple=PAST),
    ),
    Claim(
        name="full-nope-layers-extrapolate",
        words="Four full layers without positions keep their loss past the trained length, with no local layer.",
        source="circulates, of Kazemnejad et al. 2023, arXiv:2305.19466, who say it of small tasks",
        suite="layouts",
        test=at_most("loss_ratio", 1.05, label="NNNN", variant="raw", multiple=PAST),
    ),
    Claim(
        name="full-rope-layers-extrapolate",
        words="Four full RoPE layers keep their loss past the trained length, with no window.",
        source="tutorials",
        suite="layouts",
        test=at_most("loss_ratio", 1.05, label="RoPE", variant="raw", multiple=PAST),
    ),
    Claim(
        name="one-global-layer-keeps-far-text",
        words="One full layer without positions is enough to use text that no windowed layer reaches.",
        source="Yang et al. 2025, arXiv:2501.18795 (RNoPE-SWA)",
        suite="layouts",
        # Four layers of windows of 16 reach 60 bytes back: text past 64 is the full layer's alone.
        test=all_of(
            at_least("swap_cost", 0.001, label=ONE_GLOBAL, variant="raw", distance=64),
            at_most("swap_cost", 0.0, label="RRRR", variant="raw", distance=64),
        ),
    ),
)

BASES = (
    Claim(
        name="larger-base-in-training",
        words="A larger base in training makes for a smaller rise of the loss past the trained length.",
        source="tutorials; Xiong et al. 2023, arXiv:2309.16039, say it of further training at greater length",
        suite="base_scaling",
        test=lower("loss_ratio", {"label": "RoPE 1,000,000"}, {"label": ROPE}, variant="raw", multiple=PAST),
    ),
    Claim(
        name="larger-base-after-training",
        words="A larger base after training, with no further training, lowers the loss past the trained length.",
        source="the NTK-aware interpolation that Peng et al. 2023, arXiv:2309.00071, describe",
        suite="base_scaling",
        test=lower("loss_ratio", {"variant": "base"}, RAW, label=ROPE, multiple=PAST),
    ),
    Claim(
        name="scaling-is-free-within-the-length",
        words="Scaled to eight times its length, a model is within it as good as before.",
        source="tutorials, whose tables have one number for all methods at the trained length",
        suite="base_scaling",
        test=flat(0.05, label=ROPE, variant=("linear@8", "ntk@8", "yarn@8"), multiple=1),
    ),
    Claim(
        name="rope-can-be-dropped-at-once",
        words="A model that was trained with RoPE does as well without it, with no further training.",
        source="a question of this project, since Gelberg et al. 2025, arXiv:2512.12167, train on",
        suite="base_scaling",
        test=at_most("loss_ratio", 1.05, label=ROPE, variant="drop", multiple=1),
    ),
    Claim(
        name="drope-keeps-its-loss",
        words="A short training without it makes a model that RoPE was dropped from as good as it was.",
        source="Gelberg et al. 2025, arXiv:2512.12167 (DroPE)",
        suite="base_scaling",
        test=same("loss", {"label": "DroPE"}, {"label": ROPE}, 0.02, variant="raw", multiple=1),
    ),
    Claim(
        name="drope-is-better-than-nope",
        words="A model whose RoPE was dropped late predicts better than one that never had positions.",
        source="Gelberg et al. 2025, arXiv:2512.12167 (DroPE)",
        suite="base_scaling",
        test=lower("loss", {"label": "DroPE"}, {"label": "NoPE"}, variant="raw", multiple=1),
    ),
    Claim(
        name="drope-extrapolates",
        words="A model that RoPE was dropped from keeps its loss past the trained length.",
        source="Gelberg et al. 2025, arXiv:2512.12167 (DroPE)",
        suite="base_scaling",
        test=at_most("loss_ratio", 1.05, label="DroPE", variant="raw", multiple=PAST),
    ),
    Claim(
        name="stages-are-better-than-a-jump",
        words="To double the length twice is better than to quadruple it at once, for as many bytes.",
        source="a common recipe of long-context training",
        suite="base_scaling",
        test=lower("loss", {"label": "Progressive"}, {"label": "At once"}, variant="raw", multiple=1),
    ),
)

USE = (
    Claim(
        name="alibi-reads-further-than-a-window",
        words="ALiBi uses text further back than its trained length.",
        source="tutorials, as unlimited memory",
        suite="use_of_context",
        test=against_control(
            at_least("swap_cost", 0.001, label="ALiBi", variant="raw", distance=64),
            "swap_cost",
            {"label": "ALiBi", "variant": "raw"},
            {"label": "ALiBi", "variant": "windowed"},
            lower_is_better=False,
            distance=64,
        ),
    ),
    Claim(
        name="alibi-with-a-window-is-as-good",
        words="ALiBi loses nothing where it may look at its trained length alone.",
        source="a question of this project",
        suite="use_of_context",
        test=same("loss", RAW, WINDOWED, 0.01, label="ALiBi", multiple=PAST),
    ),
    Claim(
        name="longer-windows-have-fewer-early-tokens",
        words="ALiBi's loss falls in longer windows, and with a stride of a quarter of the length no more.",
        source="Press et al. 2021, arXiv:2108.12409, appendix B, of sliding windows",
        suite="use_of_context",
        test=all_of(
            at_most("sliding_ratio", 0.99, label="ALiBi", variant="raw", multiple=4, stride=256),
            same("sliding_loss", {"multiple": 4}, {"multiple": 1}, 0.01, label="ALiBi", variant="raw", stride=16),
        ),
    ),
    Claim(
        name="yarn-reads-past-the-length",
        words="Scaled by YaRN, a model uses text further back than with a window of its trained length.",
        source="Peng et al. 2023, arXiv:2309.00071, by perplexity and passkeys",
        suite="use_of_context",
        test=higher("effective_context", {"variant": "yarn"}, WINDOWED, label="RoPE"),
    ),
    Claim(
        name="evenness-explains-failure",
        words="RoPE fails past its length since its attention becomes too even.",
        source="a common explanation, and the case for log-n scaling",
        suite="use_of_context",
        # ALiBi does not fail: where its attention is the more even one, evenness explains nothing.
        test=higher("mean_entropy", {"label": "RoPE"}, {"label": "ALiBi"}, variant="raw", multiple=PAST),
    ),
    Claim(
        name="log-n-sharpens-attention",
        words="Queries that grow with the logarithm of their position keep attention sharper past the trained length.",
        source="Chiang and Cholak 2022, arXiv:2202.12172",
        suite="use_of_context",
        test=lower("mean_entropy", {"variant": "log-n"}, RAW, label=("RoPE", "NoPE"), multiple=PAST),
    ),
    Claim(
        name="log-n-mends-rope",
        words="Queries that grow with the logarithm of their position lower RoPE's loss past the trained length.",
        source="a common recipe; Chiang and Cholak 2022, arXiv:2202.12172, of models that were trained with it",
        suite="use_of_context",
        test=lower("loss_ratio", {"variant": "log-n"}, RAW, label="RoPE", multiple=PAST),
    ),
    Claim(
        name="log-n-mends-nope",
        words="The same queries lower the loss of a decoder without positions past the trained length.",
        source="a common recipe; Wang et al. 2024, arXiv:2404.12224, of a factor for each head",
        suite="use_of_context",
        test=lower("loss_ratio", {"variant": "log-n"}, RAW, label="NoPE", multiple=PAST),
    ),
)

CLAIMS = (*LAYOUTS, *BASES, *USE)
