"""Claims about what no training needs: a complete record decides each, and planted numbers turn the verdict."""

from __future__ import annotations

import pytest

from experiments.claims import untrained
from experiments.claims.base import decide
from posjax.results import Measurement, Measurements

RISING = {"ALiBi": 0, "KERPLE": 0, "xPos": 0.47, "Sandwich": 0.47, "Sinusoidal": 0.41}
RISING |= dict.fromkeys(untrained.ROTARY, 0.48)


def decay(rising=RISING, deviation: float = 1.0) -> Measurements:
    rows = []
    for label, share in rising.items():
        for of in ("equal", "positions"):
            rows.append(Measurement("rising_share", share, count=512, coordinates={"label": label, "of": of}))
    for label in untrained.ROTARY:
        for distance in (0, 64, 512):
            at = {"label": label, "of": "independent", "distance": distance}
            rows.append(Measurement("score", 0.01, -0.1, 0.12, 64, at))
            width = 1.0 if distance == 0 else deviation
            rows.append(Measurement("score_deviation", width, coordinates=at))
    for label in ("Learned", "T5", "Shaw", "CoPE"):
        for distance in (0, 64, 512):
            at = {"label": label, "of": "equal", "distance": distance}
            rows.append(Measurement("score", 8.0 + distance / 1e4, coordinates=at))
    return Measurements(tuple(rows))


OFFSETS = {1000: 1e-5, 10_000: 1e-4, 100_000: 1.4e-3, 1_000_000: 0.01, 2**24: 0.5}


def invariance(exact: float = 4e-7, rounded=OFFSETS) -> Measurements:
    rows = []
    for offset, error in rounded.items():
        for label in untrained.RELATIVE:
            at = {"label": label, "angles": "posjax", "offset": offset}
            rows.append(Measurement("shift_error", exact, coordinates=at))
            if "base" in label or label == "RoPE":
                rows.append(Measurement("shift_error", error, coordinates=at | {"angles": "float32"}))
        at = {"label": "Sinusoidal", "angles": "posjax", "offset": offset}
        rows.append(Measurement("shift_error", 0.6, coordinates=at))
    return Measurements(tuple(rows))


def cost(alibi: float = 1.0, memory: float = 1.01) -> Measurements:
    rows = []
    for label, ratio in {"ALiBi": alibi, "RoPE": 1.08, "T5": 1.2, "KERPLE": 1.3}.items():
        for name in ("forward", "training"):
            for length in (256, 1024):
                at = {"label": label, "pass": name, "length": length}
                rows.append(Measurement("cpu_ratio", ratio, ratio - 0.02, ratio + 0.02, 15, at))
                rows.append(Measurement("temporary_ratio", memory, coordinates=at))
    return Measurements(tuple(rows))


RECORDS = {"decay": decay(), "invariance": invariance(), "cost": cost()}
WANTED = {
    "alibi-and-kerple-fall-on-every-step": "holds",
    "no-rotary-decay-is-monotone": "does not hold",
    "xpos-decays-monotonically": "does not hold",
    "sandwich-decays-monotonically": "does not hold",
    "sinusoidal-products-fall-monotonically": "does not hold",
    "rotation-alone-is-no-locality": "does not hold",
    "learned-biases-begin-without-preference": "holds",
    "relative-encodings-are-relative-at-every-position": "holds",
    "float32-angles-keep-the-relative-property": "does not hold",
    "float32-angles-do-for-published-windows": "holds",
    "sinusoidal-scores-are-relative": "does not hold",
    "alibi-costs-nothing": "holds",
    "alibi-is-cheaper-than-nothing": "does not hold",
    "rotation-is-nearly-free": "holds",
    "t5-bias-takes-twice-the-time": "does not hold",
    "biases-need-a-square-of-memory": "does not hold",
}


def verdicts(**changed: Measurements) -> dict[str, str]:
    return {claim.name: decide(claim, RECORDS | changed).kind for claim in untrained.CLAIMS}


def test_complete_records_decide_every_claim():
    assert verdicts() == WANTED


@pytest.mark.parametrize(
    ("changed", "turned"),
    [
        ({"decay": decay(dict.fromkeys(RISING, 0.0))}, {"no-rotary-decay-is-monotone", "xpos-decays-monotonically"}),
        ({"decay": decay(dict.fromkeys(RISING, 0.1))}, {"alibi-and-kerple-fall-on-every-step"}),
        ({"decay": decay(deviation=0.5)}, {"rotation-alone-is-no-locality"}),
        ({"invariance": invariance(exact=0.1)}, {"relative-encodings-are-relative-at-every-position"}),
        (
            {"invariance": invariance(rounded=dict.fromkeys(OFFSETS, 1e-6))},
            {"float32-angles-keep-the-relative-property"},
        ),
        ({"invariance": invariance(rounded=dict.fromkeys(OFFSETS, 0.1))}, {"float32-angles-do-for-published-windows"}),
        ({"cost": cost(alibi=0.8)}, {"alibi-is-cheaper-than-nothing"}),
        ({"cost": cost(alibi=1.3)}, {"alibi-costs-nothing"}),
        ({"cost": cost(memory=1.5)}, {"biases-need-a-square-of-memory"}),
    ],
)
def test_planted_numbers_flip_the_verdict(changed, turned):
    found = verdicts(**changed)
    opposite = {"holds": "does not hold", "does not hold": "holds"}
    for name in turned:
        assert found[name] == opposite[WANTED[name]], name


def test_a_record_without_a_method_decides_nothing():
    empty = dict.fromkeys(RECORDS, Measurements((Measurement("loss", 1.0, coordinates={"label": "RoPE"}),)))
    assert {decide(claim, empty).kind for claim in untrained.CLAIMS} == {"not run"}
