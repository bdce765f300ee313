"""Claims over a whole record: a complete one decides each of them, and the opposite numbers give the other verdict."""

from __future__ import annotations

import math

import pytest

from experiments.claims import extrapolation, others
from experiments.claims.base import Claim, decide
from posjax.results import Measurement, Measurements

pytestmark = pytest.mark.versionless

MULTIPLES = (1, 2, 4, 8, 16)
RATIOS = {
    ("Learned", "raw"): (8, 8, 8, 9),
    ("Learned", "clamp"): (6, 7, 8, 9),
    ("Learned", "wrap"): (9, 9, 7, 8),
    ("Learned", "interpolate"): (1.2, 1.7, 2.8, 5),
    ("Sinusoidal", "raw"): (4.8, 5.3, 6.4, 6.3),
    ("T5", "raw"): (1.1, 1.3, 1.8, 2.2),
    ("NoPE", "raw"): (1.2, 1.3, 1.35, 1.5),
    ("RoPE", "raw"): (1.6, 7, 9, 10),
    ("RoPE", "windowed"): (1.01, 1.01, 1.01, 1.01),
    ("RoPE", "linear"): (1.7, 2.9, 4.2, 5.4),
    ("RoPE", "ntk"): (1.05, 3.1, 7.8, 7.4),
    ("RoPE", "yarn"): (1.1, 1.3, 1.8, 2.7),
    ("RoPE", "parts"): (1.12, 1.5, 2.4, 3.9),
    ("RoPE base 100", "raw"): (2.5, 6.7, 8.7, 10),
    ("ALiBi", "raw"): (1.0, 1.0, 1.0, 1.0),
    ("ALiBi", "windowed"): (1.0, 1.0, 1.0, 1.0),
    ("KERPLE", "raw"): (1.0, 1.0, 1.0, 1.0),
    ("FIRE", "raw"): (1.1, 1.3, 1.5, 1.8),
    ("T5", "windowed"): (1.04, 1.04, 1.04, 1.04),
    ("Sinusoidal", "windowed"): (4.9, 5.6, 4.3, 6),
    ("RoPE and ALiBi", "raw"): (1.0, 1.0, 1.0, 1.0),
    ("Sandwich", "raw"): (1.1, 1.2, 1.2, 1.2),
    ("Shaw", "raw"): (1.01, 1.02, 1.1, 1.2),
    ("CoPE", "raw"): (1.1, 1.2, 1.4, 1.7),
    ("Forgetting", "raw"): (1.0, 1.1, 1.1, 1.1),
    ("XPos", "raw"): (1.02, 1.07, 1.2, 1.7),
}
"""Past the trained length, as small trials found them."""
WITHIN = {
    "RoPE": 1.49,
    "ALiBi": 1.63,
    "KERPLE": 1.49,
    "Learned": 1.62,
    "Sinusoidal": 1.73,
    "NoPE": 2.0,
    "Forgetting": 1.6,
    "RoPE and ALiBi": 1.48,
    "T5": 1.68,
}


def rows(label: str, variant: str, ratios: tuple[float, ...]) -> list[Measurement]:
    """What the evaluation of an encoding yields, for three seeds that differ a little."""
    found = []
    for seed in range(3):
        within = WITHIN.get(label, 1.5) + 0.001 * seed
        for multiple, ratio in zip(MULTIPLES, (1.0, *ratios), strict=True):
            seeded = ratio ** (1 + 0.01 * seed)
            at = {"run": f"{label}-s{seed}", "label": label, "seed": seed, "variant": variant, "multiple": multiple}
            loss = within + math.log(seeded)
            # The mean over a window has fewer early tokens the longer it is.
            numbers = {"loss": loss, "loss_ratio": seeded, "mean_loss": loss + 0.2 / multiple, "mass_beyond": 0.9}
            found += [Measurement(name, value, coordinates=at) for name, value in numbers.items()]
    return found


def record(ratios: dict[tuple[str, str], tuple[float, ...]]) -> Measurements:
    found = [row for (label, variant), given in ratios.items() for row in rows(label, variant, given)]
    for name, loss in (("unigram", 3.3), ("bigram", 2.4)):
        found.append(Measurement("yardstick_loss", loss, coordinates={"label": "RoPE", "seed": 0, "counted": name}))
    return Measurements(tuple(found))


WANTED = {
    "holds": (
        "sinusoidal-fails-past-its-length learned-fails-past-its-length rope-fails-at-four-times "
        "rope-becomes-worse-than-counting rope-looks-where-it-never-trained rope-extrapolates-better-than-sinusoidal "
        "t5-extrapolates-better-than-sinusoidal xpos-extrapolates-better-than-rope alibi-is-flat "
        "alibi-mean-loss-improves alibi-gain-is-the-early-token-curse rope-is-better-than-alibi-within "
        "rope-is-better-than-absolute-within kerple-is-flat-and-better-than-alibi kerple-matches-rope-within "
        "three-groups ntk-carries-twice-the-length yarn-rescues-rope yarn-temperature-matters "
        "a-window-beats-every-extension rope-and-alibi-have-both clipped-distances-generalise "
        "forgetting-extrapolates-better-than-rope xpos-extrapolates-from-four-times"
    ),
    "does not hold": (
        "rope-is-decent-at-twice t5-is-worse-than-rope nope-is-a-bag-of-words alibi-uses-the-long-context "
        "linear-works-untrained extended-rope-is-as-good-as-new "
        "sandwich-is-flat cope-generalises-better-than-relative forgetting-predicts-better-than-rope"
    ),
    "partly": (
        "no-filling-saves-a-learned-table a-small-base-makes-rope-extrapolate nope-extrapolates-better-than-all "
        "fire-goes-furthest a-window-fixes-any-encoding yarn-then-ntk-then-linear forgetting-is-flat"
    ),
}


CLAIMS = (*extrapolation.AS_TRAINED, *extrapolation.FLATNESS, *extrapolation.EXTENDED, *others.CLAIMS)


def test_a_complete_record_decides_every_claim_of_the_suite():
    taken = {"extrapolation": record(RATIOS)}
    found = {claim.name: decide(claim, taken) for claim in CLAIMS}
    wanted = {name: kind for kind, names in WANTED.items() for name in names.split()}
    assert {name: verdict.kind for name, verdict in found.items()} == wanted


OPPOSITE = {
    "alibi-is-flat": {("ALiBi", "raw"): (1.2, 1.4, 1.6, 1.8)},
    "alibi-uses-the-long-context": {("ALiBi", "raw"): (0.9, 0.8, 0.7, 0.6)},
    "rope-fails-at-four-times": {("RoPE", "raw"): (1.0, 1.1, 1.2, 1.3)},
    "t5-is-worse-than-rope": {("T5", "raw"): (3, 9, 9, 9)},
    "yarn-rescues-rope": {("RoPE", "yarn"): (2, 20, 20, 20)},
    "yarn-temperature-matters": {("RoPE", "parts"): (1.0, 1.1, 1.2, 1.3)},
    "a-window-beats-every-extension": {("RoPE", "windowed"): (12, 12, 12, 12)},
    "linear-works-untrained": {("RoPE", "linear"): (1.0, 1.01, 1.02, 1.03)},
    "ntk-carries-twice-the-length": {("RoPE", "ntk"): (1.5, 1.5, 1.5, 1.5)},
    "three-groups": {
        ("Learned", "raw"): (1, 1, 1, 1),
        ("Sinusoidal", "raw"): (1, 1, 1, 1),
        ("RoPE", "raw"): (1, 1, 1, 1),
        ("T5", "raw"): (1, 1, 1, 1),
        ("NoPE", "raw"): (1, 1, 1, 1),
        ("ALiBi", "raw"): (3, 3, 3, 3),
        ("KERPLE", "raw"): (3, 3, 3, 3),
    },
}


@pytest.mark.parametrize("name", OPPOSITE)
def test_planted_numbers_flip_the_verdict(name):
    claim = _claim(name)
    before = decide(claim, {"extrapolation": record(RATIOS)}).kind
    after = decide(claim, {"extrapolation": record({**RATIOS, **OPPOSITE[name]})}).kind
    assert {before, after} == {"holds", "does not hold"}


def test_another_text_is_told():
    claim = _claim("rope-fails-at-four-times")
    first = {"extrapolation": record(RATIOS)}
    assert "So too in corpora" in decide(claim, {**first, "corpora": record(RATIOS)}).words
    other = record({**RATIOS, ("RoPE", "raw"): (1.0, 1.1, 1.2, 1.3)})
    assert decide(claim, {**first, "corpora": other}).kind == "partly"


def test_a_control_stands_in_the_first_words():
    verdict = decide(_claim("yarn-rescues-rope"), {"extrapolation": record(RATIOS)})
    assert verdict.words.startswith("The control does as well (RoPE, windowed: loss ratio 1.01")


def _claim(name: str) -> Claim:
    return next(claim for claim in CLAIMS if claim.name == name)
