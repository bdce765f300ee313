"""The words follow the numbers: other numbers, other words."""

from __future__ import annotations

import copy

import pytest

from posjax.report import verdicts, words
from posjax.report.load import load
from tests.report import synthetic

pytestmark = pytest.mark.versionless


@pytest.fixture
def said(tmp_path):
    """What the report says of some ratios and of some recall, by topic."""

    def say(ratios=None, recall=None):
        report = load(synthetic.make(tmp_path / "work", ratios, recall))
        return {conclusion.topic: conclusion.text for conclusion in words.conclusions(report)}

    return say


@pytest.fixture
def ratios():
    return copy.deepcopy(synthetic.RATIOS)


@pytest.fixture
def recall():
    return copy.deepcopy(synthetic.RECALL)


def test_the_picture_of_the_quickstart(said):
    found = said()
    assert (
        "Sinusoidal (2.65 at 4x, 2.32 at 16x) and RoPE (2.98 at 4x, 8.68 at 16x)"
        in found["Explodes past the trained length"]
    )
    assert "T5 (1.33 at 4x, 1.82 at 16x)" in found["Leaks"]
    assert "ALiBi (1.00 at 4x, 1.01 at 16x)" in found["Stays flat"]
    assert "Learned has no positions past 1x" in found["Ends"]
    assert "Linear 2.37, NTK 1.55, Yarn 1.36" in found["Yarn rescues RoPE"]


def test_methods_that_swap_their_numbers_swap_their_words(said, ratios):
    ratios["alibi"]["raw"], ratios["sinusoidal"]["raw"] = ratios["sinusoidal"]["raw"], ratios["alibi"]["raw"]
    found = said(ratios)
    assert "ALiBi" in found["Explodes past the trained length"] and "Sinusoidal" in found["Stays flat"]


def test_where_nothing_explodes_and_nothing_is_flat_it_says_so(said):
    found = said({"t5": {"raw": (1.0, 1.2, 1.3, 1.4, 1.5)}, "rope": {"raw": (1.0, 1.2, 1.9, 1.9, 1.9)}})
    assert {"Nothing explodes", "Nothing stays flat", "Leaks"} <= set(found)


def test_a_method_that_is_flat_at_4x_only_is_not_called_flat(said):
    found = said({"rope": {"raw": (1.0, 1.02, 1.07, 1.22, 1.71)}})
    assert "RoPE (1.71 at 16x)" in found["Holds at first"] and "Stays flat" not in found


def test_a_ratio_that_is_no_number_has_exploded(said):
    assert verdicts.verdict(float("nan")) == "explodes"
    found = said({"rope": {"raw": (1.0, 1.1, float("nan"), float("nan"), float("nan"))}})
    assert "RoPE" in found["Explodes past the trained length"]


def test_the_best_extension_is_the_one_with_the_best_number(said, ratios):
    ratios["rope"]["ntk"], ratios["rope"]["yarn"] = ratios["rope"]["yarn"], ratios["rope"]["ntk"]
    assert "NTK rescues RoPE" in said(ratios)


@pytest.mark.parametrize(
    ("yarn", "topic"),
    [(1.59, "Yarn rescues RoPE"), (1.9, "Yarn helps RoPE, but does not"), (3.5, "No extension helps RoPE")],
)
def test_a_rescue_is_a_ratio_below_1_6(said, ratios, yarn, topic):
    for name in ("linear", "ntk", "yarn"):
        ratios["rope"][name] = (1.0, 1.5, max(yarn, 3.0) if name != "yarn" else yarn, 4.0, 5.0)
    assert any(found.startswith(topic) for found in said(ratios))


def test_a_raw_model_that_does_not_explode_is_not_rescued(said, ratios):
    ratios["rope"]["raw"] = (1.0, 1.2, 1.6, 1.7, 1.8)
    found = said(ratios)
    assert "Yarn helps RoPE" in found and "Yarn rescues RoPE" not in found


def test_what_lies_within_the_interval_helps_nobody(said, ratios):
    ratios["rope"]["raw"] = (1.0, 1.2, 1.4, 1.5, 1.6)
    found = said(ratios)
    assert "No extension is told apart from RoPE as trained" in found and "Yarn helps RoPE" not in found


def test_a_flat_ratio_says_that_its_control_is_as_flat(said, ratios):
    assert "So does the windowed control of ALiBi, which sees the trained length alone" in said()["Stays flat"]
    ratios["alibi"]["windowed"] = (1.0, 1.2, 1.2, 1.2, 1.2)
    assert "windowed control" not in said(ratios)["Stays flat"]


def test_a_model_that_learned_nothing_is_neither_flat_nor_helped(said, ratios):
    ratios["rope"]["raw"] = (9.0, 9.0, 9.0, 9.0, 9.0)
    found = said(ratios)
    assert found["Learned too little"].startswith("RoPE: at the trained length already the loss is above the unigram")
    assert "RoPE learned too little to tell what helps it" in found


def test_the_windowed_control_beats_extensions_only_where_it_does(said, ratios):
    assert "beats every extension at every length: none gains from text" in said()["Yarn rescues RoPE"]
    ratios["rope"]["windowed"] = (1.0, 1.01, 1.4, 1.4, 1.4)
    found = said(ratios)["Yarn rescues RoPE"]
    assert "no better than Yarn's" in found and "only at 2x, 8x and 16x" in found and "none gains" not in found
    ratios["rope"]["windowed"] = (1.0, 3.0, 3.0, 3.0, 9.0)
    assert "at no length beats all extensions" in said(ratios)["Yarn rescues RoPE"]


def test_flat_perplexity_is_not_memory_where_far_needles_are_lost(said):
    found = said()["Flat perplexity is not memory"]
    assert "lost by ALiBi (12 %) and RoPE, windowed (7 %)" in found
    assert "RoPE + Yarn (99 %) finds it" in found and "Guessing finds 6.25 %" in found


def test_of_several_that_find_the_needle_the_best_is_named(said, recall):
    recall["rope"]["raw"] = 4 * ((0.6, 1, 1),)
    assert "RoPE + Yarn (99 %) finds it" in said(recall=recall)["Flat perplexity is not memory"]


def test_flat_perplexity_goes_with_memory_where_far_needles_are_found(said, recall):
    recall["alibi"]["raw"] = 4 * ((0.98, 1, 1),)
    recall["rope"]["windowed"] = 4 * ((0.97, 1, 1),)
    found = said(recall=recall)
    assert "Flat perplexity is not memory" not in found
    assert "ALiBi (98 %) and RoPE, windowed (97 %)" in found["Here flat perplexity goes with memory"]


def test_some_flat_methods_may_remember_while_others_do_not(said, recall):
    recall["alibi"]["raw"] = 4 * ((0.98, 1, 1),)
    found = said(recall=recall)["Flat perplexity is not always memory"]
    assert "lost by RoPE, windowed (7 %)" in found and "found by ALiBi (98 %), flat in loss as well" in found


def test_where_yarn_loses_the_needle_too_nothing_finds_it(said, recall):
    recall["rope"]["yarn"] = ((1, 1, 1), (0.3, 1, 1), (0.2, 1, 1), (0.1, 1, 1))
    assert "no other variant finds it either" in said(recall=recall)["Flat perplexity is not memory"]


def test_a_method_whose_loss_is_not_flat_is_no_example(said, ratios):
    ratios["alibi"]["raw"] = ratios["t5"]["raw"]
    assert "ALiBi (" not in said(ratios)["Flat perplexity is not memory"]


def test_a_task_that_was_not_learned_says_nothing_of_memory(said, recall):
    recall["alibi"]["raw"] = 4 * ((0.4, 0.4, 0.4),)
    found = said(recall=recall)
    assert "ALiBi" in found["Did not learn the needle task"]
    assert "ALiBi" not in found["Flat perplexity is not memory"]


def test_broken_is_worse_than_the_unigram_yardstick(said, ratios):
    assert said()["Broken"].startswith("RoPE at 16x: worse than the unigram yardstick of 3.31")
    ratios["rope"]["raw"] = (1.0, 1.28, 2.98, 4.34, 5.2)
    assert "Broken" not in said(ratios)


def test_the_caveats_give_unit_budget_and_seed(folder):
    text = " ".join(words.caveats(load(folder)))
    assert "per byte, not per token" in text and "819,200" in text and "One seed" in text
    assert "1,024,000" in text and "131,072 parameters" in text
