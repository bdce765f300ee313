"""What runs measure: several evaluations, one that nobody has written yet, and models that nothing has trained."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest

from posjax import report, runs
from posjax.data import Needles
from posjax.errors import InputError
from posjax.evaluation import Evaluation, Extrapolation, Retrieval
from posjax.files import write_json
from posjax.results import Measurement, Measurements
from posjax.stages import Stage, Stages, Untrained
from tests.training.tiny import corpus, run, train


@dataclass(frozen=True)
class Widths(Evaluation):
    """An evaluation of a user: a number for each layer, of a model on any data."""

    name: ClassVar[str] = "widths"
    times: int = 2

    def run(self, trained_model, data, seed):
        for layer in range(trained_model.architecture.main_stack.layers):
            width = trained_model.architecture.width
            yield Measurement("width", float(self.times * width), coordinates={"layer": layer})


EXTRAPOLATION = Extrapolation(multiples=(1, 2), windows=2, extensions=())


def untrained(tmp_path, evaluation):
    mine = run(corpus(tmp_path / "text"))
    return replace(mine, train=Untrained(length=8), evaluation=evaluation)


def measured(mine, folder):
    write_json(folder / "experiment.json", {"name": "x", "title": "x"})
    return runs.evaluate(mine, folder / mine.name, runs.train(mine, folder / mine.name, say=lambda line: None))


def test_each_evaluation_of_a_run_is_measured_and_reported(tmp_path):
    mine = untrained(tmp_path, (EXTRAPOLATION, Widths()))
    found = measured(mine, tmp_path / "work")
    table = Measurements.from_tree(found["measurements"])
    assert table.distinct("evaluation") == ("extrapolation", "widths")
    assert table.one("width", layer=0).value == 2 * mine.model.width
    told = report.load(tmp_path / "work")
    assert [one.name for one in told.runs] == [mine.name]
    assert told.language[0].raw.lengths[2].loss == table.one("loss", variant="raw", multiple=2).value
    assert told.other[0].measurements == table.select("width")
    assert json.loads((tmp_path / "work" / mine.name / "results.json").read_text())["seed"] == mine.seed


@pytest.mark.exhaustive
def test_a_report_is_made_of_rows_that_nobody_knows(tmp_path):
    mine = untrained(tmp_path, Widths())
    measured(mine, tmp_path / "work")
    page, *_ = report.write(tmp_path / "work")
    report.show(tmp_path / "work")
    assert mine.label in page.read_text()


def test_nothing_is_trained_where_weights_are_initial(tmp_path):
    mine = untrained(tmp_path, EXTRAPOLATION)
    found = measured(mine, tmp_path / "work")
    assert (found["tokens"], found["seconds"]["train"]) == (0, 0.0)
    assert not (tmp_path / "work" / mine.name / "checkpoints").exists()
    again = runs.restore(mine, tmp_path / "work" / mine.name)
    assert again.trained_length == 8
    runs.check(mine)
    with pytest.raises(InputError, match="a stage is Untrained"):
        Stages((Stage(Untrained(8)), Stage(train())))


@pytest.mark.parametrize(
    ("evaluation", "why"),
    [
        ((), "has the evaluations (): needed is one or more"),
        ((Widths(), Widths(3)), "widths, widths: needed is one or more, each of another name"),
        (Retrieval(), "has no answers at a depth"),
        ((Widths(), "loss"), "a value of Evaluation"),
    ],
)
def test_evaluations_that_a_run_cannot_have_are_refused(tmp_path, evaluation, why):
    with pytest.raises(InputError) as refused:
        untrained(tmp_path, evaluation)
    assert why in str(refused.value)


def test_a_task_is_not_read_as_text(tmp_path):
    with pytest.raises(InputError, match="Needles is a task, and Extrapolation reads text"):
        replace(untrained(tmp_path, EXTRAPOLATION), data=Needles())
