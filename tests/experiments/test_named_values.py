"""Extensions on a command line: by name, by name and factor, and as a config has them where nothing is said."""

from __future__ import annotations

from dataclasses import replace

import pytest

from experiments import cli
from posjax.encodings import Interpolation
from posjax.errors import InputError
from posjax.evaluation import Fixed, Static
from posjax.runs import Run
from tests.experiments.tiny_config import experiment

RUN = experiment().runs[0]


def asked(*words, run=RUN):
    """The extensions of a run after these words."""
    changed, unknown = cli.parse(Run, "experiments.run", words, default=run)
    assert unknown == []
    return changed.evaluation.extensions


def test_a_name_stays_a_name_and_a_factor_makes_a_value():
    assert asked("--evaluation.extensions", "drop", "linear@8") == ("drop", Static(8.0, "linear"))
    assert asked("--evaluation.extensions") == ()


def test_values_of_a_config_stay_where_nothing_is_said():
    kept = ("yarn", Fixed("found", Interpolation(3.0)))
    run = replace(RUN, evaluation=replace(RUN.evaluation, extensions=kept))
    assert asked("--seed", "3", run=run) == kept
    assert asked("--evaluation.extensions", "yarn", run=run) == ("yarn",)


@pytest.mark.parametrize("word", ["yarm", "yarn@", "yarn@x", "yarm@8"])
def test_what_is_no_extension_is_told_with_all_that_are(word):
    with pytest.raises(InputError, match=r"extensions=.*'linear', 'ntk', .* or 'drop'"):
        asked("--evaluation.extensions", word)
