"""Claims over records of tasks: a complete record decides each, and planted numbers give the other verdict."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from experiments import loading
from experiments.claims import algorithmic, recall, retrieval
from experiments.claims.base import Claim, decide
from posjax.results import Measurement, Measurements

pytestmark = pytest.mark.versionless

ROOT = Path(__file__).resolve().parents[2]
MULTIPLES = (1, 2, 4, 16)
DEPTHS = (0.0, 0.25, 0.5, 0.75, 0.9)

# Accuracy at 16 times the trained length, far and near; at 4 times; within, everything is found.
FOUND = {
    ("RoPE", "raw"): (0.1, 0.7),
    ("RoPE", "linear"): (0.63, 0.7),
    ("RoPE", "ntk"): (0.2, 0.8),
    ("RoPE", "yarn"): (0.98, 0.99),
    ("RoPE", "windowed"): (0.06, 0.6),
    ("ALiBi", "raw"): (0.12, 0.96),
    ("T5", "raw"): (0.79, 0.79),
    ("NoPE", "raw"): (0.77, 0.77),
    ("KERPLE", "raw"): (0.65, 0.94),
    ("RoPE, multi-key", "yarn"): (0.98, 0.99),
}
# At 2 and 4 times, for those that are not as good as within.
EARLIER = {
    ("RoPE", "raw"): (0.7, 0.54),
    ("RoPE", "windowed"): (0.06, 0.06),
    ("ALiBi", "raw"): (0.82, 0.53),
}


def accuracy(method, multiple, depth):
    far, near = FOUND[method]
    if multiple == 1:
        return 0.999
    if multiple == 16:
        return far + (near - far) * depth / 0.9
    start = EARLIER.get(method, (0.99, 0.99))[multiple // 4]
    return start + (0.99 - start) * depth / 0.9


def row(metric, value, seed, **coordinates):
    return Measurement(metric, value * (1 - 0.002 * seed), coordinates={"seed": seed, **coordinates})


def of_retrieval(changes=()):
    rows = []
    for method, multiple, depth, seed in product(FOUND, MULTIPLES, DEPTHS, range(3)):
        value = dict(changes).get((method, multiple, depth), accuracy(method, multiple, depth))
        at = {"label": method[0], "variant": method[1], "multiple": multiple, "depth": depth}
        rows.append(row("accuracy", value, seed, **at))
    losses = {"ALiBi": 1.0, "T5": 2.2}
    ratios = [row("loss_ratio", losses[a], s, label=a, variant="raw", multiple=16) for a in losses for s in range(3)]
    return {"retrieval": Measurements(tuple(rows)), "extrapolation": Measurements(tuple(ratios))}


WITHIN = 0.99
RULES = {
    ("Sort", "RoPE"): (0.8, 0.5),
    ("Sort", "RoPE, randomised"): (0.95, 0.9),
    ("Sort", "ALiBi"): (0.8, 0.6),
    ("Sort", "NoPE"): (0.9, 0.8),
    ("FlipFlop", "RoPE"): (0.9, 0.7),
    ("FlipFlop", "RoPE, randomised"): (0.95, 0.85),
    ("FlipFlop", "ALiBi"): (0.95, 0.8),
    ("FlipFlop", "NoPE"): (0.6, 0.5),
    ("Majority", "NoPE"): (0.99, 0.97),
}


def of_tasks(changes=()):
    rows = []
    for ((task, label), past), seed in product({**RULES, **dict(changes)}.items(), range(3)):
        for multiple, value in zip((1, 2, 4), (WITHIN, *past), strict=True):
            at = {"task": task, "label": label, "variant": "raw", "multiple": multiple}
            rows += [row("accuracy", value, seed, **at), row("exact", value, seed, **at)]
    return {"algorithmic": Measurements(tuple(rows))}


RECALLED = {
    ("Needles", "RoPE", "raw"): (0.95, 0.7, 0.5),
    ("Needles", "RoPE", "rerope"): (0.99, 0.98, 0.94),
    ("Needles", "RoPE", "self-extend"): (0.99, 0.98, 0.92),
    ("Needles", "RoPE", "yarn"): (0.99, 0.99, 0.99),
    ("Needles", "FoX", "raw"): (0.99, 0.92, 0.6),
    ("InductionAtDistance", "RoPE", "raw"): (0.6, 0.2, 0.1),
    ("InductionAtDistance", "RoPE", "rerope"): (0.99, 0.99, 0.99),
    ("InductionAtDistance", "RoPE", "yarn"): (0.99, 0.93, 0.7),
}


def of_recall(changes=()):
    rows = []
    for ((task, label, variant), past), seed in product({**RECALLED, **dict(changes)}.items(), range(3)):
        for multiple, value in zip((1, 2, 4, 8), (WITHIN, *past), strict=True):
            at = {"task": task, "label": label, "variant": variant, "multiple": multiple}
            rows.append(row("accuracy", value, seed, **at))
    return {"recall": Measurements(tuple(rows))}


def kinds(claims, tables):
    found: dict[str, str] = {}
    for claim in claims:
        verdict = decide(claim, tables)
        assert verdict.words and verdict.kind not in ("not run", "needs scale"), verdict.words
        found[verdict.kind] = f"{found.get(verdict.kind, '')} {claim.name}".strip()
    return found


def test_a_complete_record_of_retrieval_decides_every_claim():
    assert kinds(retrieval.CLAIMS, of_retrieval()) == {
        "does not hold": "alibi-remembers-what-is-far a-flat-loss-is-memory loss-ranks-as-recall-does "
        "a-window-is-all-it-takes lost-in-the-middle",
        "holds": "alibi-prefers-what-is-near rope-loses-what-is-far yarn-finds-needles-untrained "
        "yarn-finds-more-than-linear-and-ntk t5-finds-needles-to-four-times nope-finds-needles-to-four-times "
        "nope-attention-thins-out kerple-remembers-more-than-alibi yarn-finds-one-of-many-keys",
    }


def test_a_complete_record_of_tasks_decides_every_claim():
    assert kinds(algorithmic.CLAIMS, of_tasks()) == {
        "partly": "nope-generalises-best",
        "holds": "nope-learns-as-well-within randomised-positions-help randomised-positions-cost-nothing-within "
        "rope-does-not-generalise-in-length attention-glitches counting-needs-no-positions",
        "does not hold": "alibi-generalises-in-length",
    }


def test_a_complete_record_of_recall_decides_every_claim():
    assert kinds(recall.CLAIMS, of_recall()) == {
        "does not hold": "rope-copies-past-its-length rerope-finds-more-needles-than-yarn",
        "holds": "rerope-copies-untrained rerope-copies-better-than-yarn near-and-far-forms-find-needles "
        "forget-gates-find-more-than-rope",
        "partly": "forget-gates-find-needles-far-back",
    }


@pytest.mark.parametrize(
    "name, changes, kind",
    [
        ("rope-copies-past-its-length", {("InductionAtDistance", "RoPE", "raw"): (0.99, 0.98, 0.95)}, "holds"),
        ("rerope-copies-untrained", {("InductionAtDistance", "RoPE", "rerope"): (0.6, 0.5, 0.4)}, "does not hold"),
        ("rerope-copies-better-than-yarn", {("InductionAtDistance", "RoPE", "yarn"): (1, 1, 1)}, "does not hold"),
        ("forget-gates-find-needles-far-back", {("Needles", "FoX", "raw"): (0.99, 0.98, 0.97)}, "holds"),
        ("forget-gates-find-more-than-rope", {("Needles", "FoX", "raw"): (0.5, 0.4, 0.3)}, "does not hold"),
    ],
)
def test_planted_recall_flips_the_verdict(name, changes, kind):
    claim = one(recall.CLAIMS, name)
    assert decide(claim, of_recall(changes)).kind == kind != decide(claim, of_recall()).kind


def test_a_curve_that_sags_is_lost_in_the_middle():
    shape = {0.0: 0.9, 0.5: 0.6, 0.9: 0.95}
    labels = ("RoPE", "ALiBi", "T5", "NoPE", "KERPLE")
    sagging = {((label, "raw"), 4, depth): value for label in labels for depth, value in shape.items()}
    claim = one(retrieval.CLAIMS, "lost-in-the-middle")
    assert decide(claim, of_retrieval(sagging)).kind == "holds"
    flat = {place: value for place, value in sagging.items() if place[0][0] == "RoPE"}
    assert decide(claim, of_retrieval(flat)).kind == "partly"


@pytest.mark.parametrize(
    "name, changes, kind",
    [
        ("alibi-remembers-what-is-far", {(("ALiBi", "raw"), m, 0.0): 0.97 for m in (4, 16)}, "holds"),
        ("a-flat-loss-is-memory", {(("ALiBi", "raw"), 16, 0.0): 0.97}, "partly"),
        (
            "yarn-finds-needles-untrained",
            {(("RoPE", "yarn"), m, d): 0.3 for m in (4, 16) for d in DEPTHS},
            "does not hold",
        ),
        ("kerple-remembers-more-than-alibi", {(("KERPLE", "raw"), 16, 0.0): 0.05}, "does not hold"),
        ("rope-loses-what-is-far", {(("RoPE", "raw"), 16, 0.0): 0.8}, "does not hold"),
    ],
)
def test_planted_numbers_flip_the_verdict(name, changes, kind):
    claim = one(retrieval.CLAIMS, name)
    assert decide(claim, of_retrieval(changes)).kind == kind != decide(claim, of_retrieval()).kind


@pytest.mark.parametrize(
    "name, changes, kind",
    [
        (
            "randomised-positions-help",
            {(t, "RoPE, randomised"): (0.3, 0.2) for t in ("Sort", "FlipFlop")},
            "does not hold",
        ),
        (
            "rope-does-not-generalise-in-length",
            {(t, "RoPE"): (0.99, 0.98) for t in ("Sort", "FlipFlop")},
            "does not hold",
        ),
        ("alibi-generalises-in-length", {(t, "ALiBi"): (0.99, 0.98) for t in ("Sort", "FlipFlop")}, "holds"),
    ],
)
def test_planted_rules_flip_the_verdict(name, changes, kind):
    claim = one(algorithmic.CLAIMS, name)
    assert decide(claim, of_tasks(changes)).kind == kind != decide(claim, of_tasks()).kind


def test_the_configs_measure_what_the_claims_read():
    runs = configured("retrieval")
    assert {run.label for run in runs} == {label for label, _ in FOUND}
    assert {run.evaluation.multiples for run in runs} == {MULTIPLES}
    assert all(set(retrieval.EVERYWHERE) <= set(run.evaluation.depths) for run in runs)
    assert set(RULES) <= {(type(run.data).__name__, run.label) for run in configured("algorithmic")}
    recalled = {(task, label) for task, label, _ in RECALLED}
    assert recalled <= {(type(run.data).__name__, run.label) for run in configured("recall")}
    extended = {variant for _, _, variant in RECALLED} - {"raw"}
    assert extended <= {name for run in configured("recall") for name in run.evaluation.extensions}
    for run in (*runs, *configured("algorithmic"), *configured("recall")):
        assert run.name.endswith(f"-s{run.seed}")


def configured(suite):
    return loading.load(ROOT / f"configs/{suite}.py")[0].runs


def one(claims: tuple[Claim, ...], name: str) -> Claim:
    return next(claim for claim in claims if claim.name == name)
