"""Claims are decided by numbers: planted ones give the verdict, their opposite flips it, and too few leave it open."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from experiments import claims
from experiments.claims import base, deciding
from experiments.claims.__main__ import command
from experiments.claims.base import Claim, Verdict
from experiments.pages import claims_page
from posjax.errors import InputError
from posjax.results import Measurement, Measurements

ROOT = Path(__file__).resolve().parents[2]
ROPE = {"label": "RoPE"}
ALIBI = {"label": "ALiBi"}


def table(metric: str = "loss_ratio", /, **by_label: tuple[float, ...]) -> Measurements:
    """A value for each seed of each label, raw, at 4x."""
    rows = []
    for label, values in by_label.items():
        for seed, value in enumerate(values):
            at = {"run": f"{label}-s{seed}", "label": label, "seed": seed, "variant": "raw", "multiple": 4}
            rows.append(Measurement(metric, value, value - 0.1, value + 0.1, 64, at))
    return Measurements(tuple(rows))


def kind(test: base.Test, taken: Measurements) -> str:
    return test(taken).kind


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ((1.00, 1.01, 1.02), "holds"),
        ((1.90, 2.00, 2.10), "does not hold"),
        ((1.00, 1.05, 1.40), "needs scale"),
        # Two seeds that differ have an interval that is six times as wide as they are apart.
        ((1.00, 1.04), "needs scale"),
        ((1.00,), "needs scale"),
        ((0.90,), "holds"),
    ],
)
def test_a_bound_is_decided_by_the_interval_alone(values, wanted):
    assert kind(deciding.at_most("loss_ratio", 1.05, label="RoPE"), table(RoPE=values)) == wanted


def test_at_least_is_the_mirror_of_at_most():
    taken = table("accuracy", RoPE=(0.97, 0.98, 0.99))
    assert kind(deciding.at_least("accuracy", 0.9, label="RoPE"), taken) == "holds"
    assert kind(deciding.at_least("accuracy", 1.1, label="RoPE"), taken) == "does not hold"
    assert kind(deciding.at_least("accuracy", 0.98, label="RoPE"), taken) == "needs scale"


def test_flat_has_two_sides():
    for values, wanted in (((1.0, 1.0, 1.01), "holds"), ((0.8, 0.81, 0.8), "does not hold")):
        assert kind(deciding.flat(0.05, label="RoPE"), table(RoPE=values)) == wanted


LOWER = deciding.lower("loss_ratio", ALIBI, ROPE, multiple=4)


@pytest.mark.parametrize(
    ("alibi", "rope", "wanted"),
    [
        ((1.0, 1.1, 1.2), (2.0, 2.1, 2.2), "holds"),
        ((2.0, 2.1, 2.2), (1.0, 1.1, 1.2), "does not hold"),
        # Far apart on the mean, but one seed says otherwise.
        ((1.0, 1.0, 3.0), (2.0, 2.1, 2.2), "needs scale"),
        # Seeds alike in sign, whose difference has an interval with zero in it.
        ((1.0, 1.0, 1.0), (1.01, 1.01, 3.0), "needs scale"),
        ((1.0, 1.1), (2.0, 2.1), "needs scale"),
    ],
)
def test_an_ordering_is_paired_over_seeds(alibi, rope, wanted):
    assert kind(LOWER, table(ALiBi=alibi, RoPE=rope)) == wanted


def test_pairing_sees_what_the_means_do_not():
    """Seeds that are far apart from each other, with the same small difference in each."""
    taken = table(ALiBi=(1.0, 2.0, 3.0), RoPE=(1.1, 2.1, 3.1))
    assert kind(LOWER, taken) == "holds"
    assert kind(deciding.lower("loss_ratio", ALIBI, ROPE, by=0.2), taken) == "does not hold"


def test_one_seed_of_many_that_says_otherwise_leaves_an_ordering_open():
    many = (1.0,) * 30
    assert kind(LOWER, table(ALiBi=many, RoPE=(2.0,) * 30)) == "holds"
    assert kind(LOWER, table(ALiBi=many, RoPE=(2.0,) * 29 + (0.9,))) == "needs scale"


def test_too_few_seeds_say_so():
    said = LOWER(table(ALiBi=(1.0, 1.1), RoPE=(2.0, 2.1))).words
    assert "2 seeds (an ordering takes 3 seeds)" in said


def test_same_within():
    taken = table(ALiBi=(1.0, 1.1, 1.2), RoPE=(1.001, 1.101, 1.2011))
    assert kind(deciding.same("loss_ratio", ALIBI, ROPE, 0.01), taken) == "holds"
    assert kind(deciding.same("loss_ratio", ALIBI, ROPE, 0.0001), taken) == "does not hold"
    assert kind(deciding.same("loss_ratio", ALIBI, ROPE, 0.001), taken) == "needs scale"


def test_orders_of_several():
    taken = table(ALiBi=(1.0, 1.1, 1.2), RoPE=(2.0, 2.1, 2.2), T5=(3.0, 3.1, 3.2))
    t5 = {"label": "T5"}
    assert kind(deciding.ordering("loss_ratio", ALIBI, ROPE, t5), taken) == "holds"
    assert kind(deciding.ordering("loss_ratio", ALIBI, t5, ROPE), taken) == "partly"
    assert kind(deciding.ordering("loss_ratio", t5, ROPE, ALIBI), taken) == "does not hold"
    assert kind(deciding.lowest("loss_ratio", ALIBI, (ROPE, t5)), taken) == "holds"
    assert kind(deciding.highest("loss_ratio", ROPE, (ALIBI, t5)), taken) == "partly"


def given(one: base.Kind) -> base.Test:
    return lambda table: Verdict(one, f"it {one}.")


@pytest.mark.parametrize(
    ("kinds", "wanted"),
    [
        (("holds", "holds"), "holds"),
        (("does not hold", "does not hold"), "does not hold"),
        (("holds", "does not hold"), "partly"),
        (("holds", "needs scale"), "needs scale"),
        (("holds", "does not hold", "needs scale"), "partly"),
        (("does not hold", "needs scale"), "needs scale"),
    ],
)
def test_parts_together(kinds, wanted):
    assert kind(deciding.all_of(*map(given, kinds)), Measurements()) == wanted


def test_denied():
    turned = [kind(deciding.denied(given(one)), Measurements()) for one in base.KINDS]
    assert turned == ["does not hold", "holds", "partly", "needs scale", "not run"]


@pytest.mark.parametrize(("control", "first"), [((1.0, 1.0, 1.0), True), ((4.0, 4.1, 4.3), False)])
def test_a_control_that_does_as_well_is_told_first(control, first):
    taken = table(RoPE=(1.3, 1.31, 1.32), ALiBi=control)
    test = deciding.at_most("loss_ratio", 1.5, label="RoPE")
    verdict = deciding.against_control(test, "loss_ratio", ROPE, ALIBI, multiple=4)(taken)
    assert verdict.kind == "holds"
    assert verdict.words.startswith("The control does as well (ALiBi: loss ratio 1.00 [1.00, 1.00] at 4x)") == first
    assert ("The control does worse (ALiBi" in verdict.words) != first


def test_words_have_the_number_the_interval_and_the_seeds():
    verdict = deciding.at_most("loss_ratio", 1.05, label="RoPE", multiple=4)(table(RoPE=(1.0, 2.0, 3.0)))
    assert verdict.words == "RoPE: loss ratio 2.00 [-0.484, 4.48] at 4x; 3 seeds (at most 1.05 asked)."
    assert [row.value for row in verdict.measurements] == [2.0]


def test_a_seed_that_diverged_is_told():
    taken = table(RoPE=(1.0, 1.01)) + Measurements((Measurement("diverged", 1, coordinates={**ROPE, "seed": 2}),))
    assert "Of RoPE, 1 seed diverged" in deciding.at_most("loss_ratio", 1.05, label="RoPE")(taken).words


def test_several_numbers_for_one_seed_are_refused():
    twice = table(RoPE=(1.0,)) + table(RoPE=(1.0,)).placed(depth=0.5)
    with pytest.raises(InputError, match="several of loss_ratio at RoPE: name one of each of depth"):
        deciding.at_most("loss_ratio", 1.05, label="RoPE")(twice)


CLAIM = Claim(
    "rope-is-flat", "RoPE is flat.", deciding.at_most("loss_ratio", 1.05, label="RoPE"), "nobody", "", "one", ("other",)
)
FLAT = table(RoPE=(1.0, 1.01, 1.02))
STEEP = table(RoPE=(2.0, 2.01, 2.02))


def test_a_claim_without_results_names_the_command():
    verdict = base.decide(CLAIM, {})
    assert verdict.kind == "not run" and "python -m experiments.run configs/one.py" in verdict.words


def test_results_that_lack_the_method_are_not_run_either():
    verdict = base.decide(CLAIM, {"one": table(ALiBi=(1.0, 1.0, 1.0))})
    assert verdict.kind == "not run" and "no loss_ratio at RoPE" in verdict.words


def test_another_suite_confirms_or_denies():
    assert base.decide(CLAIM, {"one": FLAT}).kind == "holds"
    assert "So too in other" in base.decide(CLAIM, {"one": FLAT, "other": FLAT}).words
    denied = base.decide(CLAIM, {"one": FLAT, "other": STEEP})
    assert denied.kind == "partly" and "Otherwise in other" in denied.words
    open_there = base.decide(CLAIM, {"one": FLAT, "other": table(RoPE=(1.0, 1.05, 1.4))})
    assert open_there.kind == "holds" and "Undecided in other" in open_there.words


def test_a_verdict_says_that_no_other_text_was_tried():
    test = deciding.at_most("loss_ratio", 1.05, label="RoPE")
    flat = {"extrapolation": table(RoPE=(1.0, 1.01, 1.02)), "corpora": table(RoPE=(1.0, 1.01, 1.02))}
    alone = Claim("flat", "It is flat.", test, "tutorials", suite="extrapolation")
    assert base.decide(alone, flat).words.endswith("Seen on one text alone.")
    again = dataclasses.replace(alone, also=("corpora",))
    assert "one text alone" not in base.decide(again, flat).words
    task = dataclasses.replace(alone, suite="corpora")
    assert "one text alone" not in base.decide(task, flat).words


def test_several_suites_are_read_together():
    test = deciding.lower("loss_ratio", {"suite": "one"}, {"suite": "other"}, label="RoPE")
    both = dataclasses.replace(CLAIM, test=test, suite=("one", "other"), also=())
    assert base.decide(both, {"one": FLAT, "other": STEEP}).kind == "holds"
    assert base.decide(both, {"one": FLAT}).kind == "not run"


def test_names_are_slugs_and_unique():
    names = [claim.name for claim in claims.CLAIMS]
    assert len(set(names)) == len(names)
    with pytest.raises(InputError, match="small letters"):
        dataclasses.replace(CLAIM, name="RoPE is flat")


@pytest.fixture(scope="module")
def verdicts() -> dict[str, Verdict]:
    return claims_page.verdicts(claims.CLAIMS)


def test_every_claim_has_a_verdict_in_words(verdicts):
    assert all(verdict.kind in base.KINDS and verdict.words for verdict in verdicts.values())
    computed = [claim.name for claim in claims.CLAIMS if not claim.suites]
    assert len(computed) > 25 and all(verdicts[name].kind in base.DECIDED for name in computed)


def test_the_committed_pages_are_what_the_results_say(verdicts):
    page = claims_page.page(claims.THEMES, verdicts)
    assert (ROOT / "docs/claims.md").read_text() == page, "write it anew: python -m experiments.docs --no-pictures"
    readme = (ROOT / "README.md").read_text()
    assert claims_page.marked(readme, claims_page.short_table(verdicts)) == readme


def test_headlines_are_claims_and_the_first_decided_ones_are_shown(verdicts):
    assert {claim.name for claim in claims.CLAIMS} >= set(claims.HEADLINES)
    shown = claims_page.short_table(verdicts).splitlines()[2:]
    assert len(shown) == claims_page.SHOWN
    nothing = dict.fromkeys(verdicts, Verdict("not run", ""))
    assert claims_page.short_table(nothing).splitlines()[2:] == []


def test_a_table_is_put_between_its_marks():
    first, last = claims_page.MARKS
    assert claims_page.marked(f"a\n{first}old\n{last}b\n", "new\n") == f"a\n{first}new\n{last}b\n"
    with pytest.raises(InputError, match=r"README\.md lacks one of the lines"):
        claims_page.marked(f"a\n{first}b\n", "new\n")


def test_the_page_links_to_what_is_there(verdicts):
    quickstart = dataclasses.replace(CLAIM, suite="quickstart")
    page = claims_page.page({"One": (quickstart,)}, {CLAIM.name: Verdict("holds", "a | b")})
    assert "[quickstart](../configs/quickstart.py)" in page and "configs/other.py" not in page
    assert "a \\| b" in page


def shown(capsys, *arguments: str) -> str:
    command(arguments)
    return capsys.readouterr().out


def test_the_command_prints_claims_in_80_columns(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out = shown(capsys, "--only", "ntk-base-is-20700", "alibi-is-flat", "--results", "nowhere")
    assert "does not hold: For twice the length" in out and "20,452.2" in out
    assert "2 claims, 1 decided: 1 does not hold, 1 not run." in out
    assert max(map(len, out.splitlines())) <= 80


def test_the_command_prints_the_page_too(capsys):
    out = shown(capsys, "--only", "ntk-base-is-20700", "--markdown")
    assert "| does not hold | The grown base is 20,452.2" in out


def test_a_claim_that_is_none_is_refused_with_the_nearest():
    with pytest.raises(InputError, match="there is no claim 'alibi-flat': the nearest is 'alibi-is-flat'"):
        command(["--only", "alibi-flat"])
