"""The claims about extension read what the suites' evaluations write: each is decided by a table of three seeds."""

from __future__ import annotations

import pytest

from experiments.claims.base import decide
from experiments.claims.extension import EXTENSION_CLAIMS, SEARCH_CLAIMS, TUNED
from posjax.results import Measurement, Measurements

SEEDS = (0, 1, 2)
RATIOS = {"linear": 2.0, "ntk": 1.9, "yarn": 1.4, "parts": 1.6, "llama3": 1.7, "self-extend": 1.02, "rerope": 1.01}


def rows(metric, value, **at):
    """One number for each seed, a little apart."""
    return [Measurement(metric, value + seed / 1000, coordinates={**at, "seed": seed}) for seed in SEEDS]


def extension() -> Measurements:
    found = []
    for multiple in (2, 4, 8, 16):
        at = {"label": "RoPE", "evaluation": "extrapolation", "multiple": multiple}
        for variant, ratio in RATIOS.items():
            found += rows("loss_ratio", ratio, variant=variant, **at)
    for label in ("RoPE", *TUNED):
        for length in (64, 256, 512, 1024):
            at = {"label": label, "evaluation": "fixed-lengths", "variant": "raw", "length": length}
            found += rows("loss", 1.5 + (label == TUNED[0]), **at)
    return Measurements.of(found)


def search(found_ratio: float) -> Measurements:
    found = []
    for multiple in (2, 4, 8, 16):
        at = {"label": "RoPE", "evaluation": "search", "on": "text", "multiple": multiple}
        for variant, ratio in {"linear": 2.0, "ntk": 1.9, "yarn": 1.4, "found": found_ratio}.items():
            found += rows("loss_ratio", ratio, variant=variant, **at)
        for pair, divisor in enumerate((1.0, 1.4, 2.1, 5.6)):
            found += rows("divisor", divisor, variant="found", pair=pair, **at)
    return Measurements.of(found)


TABLES = {"extension": extension(), "search": search(1.2)}


@pytest.mark.parametrize("claim", EXTENSION_CLAIMS + SEARCH_CLAIMS, ids=lambda claim: claim.name)
def test_a_claim_finds_what_it_reads(claim):
    verdict = decide(claim, TABLES)
    assert verdict.kind != "not run", verdict.words


def test_a_search_is_held_to_its_numbers():
    (claim,) = (claim for claim in SEARCH_CLAIMS if claim.name == "gradient-search-beats-yarn")
    assert decide(claim, TABLES).kind == "holds"
    assert decide(claim, {"search": search(1.5)}).kind == "does not hold"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("pi-fails-zero-shot", "does not hold"),
        ("pi-needs-little-tuning", "holds"),
        ("tuning-needs-no-schedule", "does not hold"),
        ("near-far-beats-schedules", "holds"),
        ("tuned-models-keep-short-contexts", "holds"),
    ],
)
def test_verdicts_follow_the_numbers(name, kind):
    (claim,) = (claim for claim in EXTENSION_CLAIMS if claim.name == name)
    assert decide(claim, TABLES).kind == kind
