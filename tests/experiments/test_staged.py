"""Stages from a shell: each training's fields are options, and the page shows all of them."""

from __future__ import annotations

import json

import pytest

CONFIG = """
from dataclasses import replace

import tiny
from posjax import Rope, Yarn
from posjax.runs import Experiment
from posjax.stages import Stage, Stages

FIRST = tiny.run("long", Rope())
LONGER = FIRST.model.with_encodings(lambda rope: Rope(schedule=Yarn(factor=2.0, original_length=8)))
LAST = Stage(replace(tiny.TRAIN, length=16))


def experiment():
    run = replace(FIRST, model=LONGER, train=Stages((Stage(tiny.TRAIN, model=FIRST.model), LAST)))
    return Experiment("Stages", "Does it go on?", (run,))
"""


@pytest.mark.exhaustive
def test_stages_run_from_a_shell(shell, home):
    (home / "staged.py").write_text(CONFIG)
    given = ("staged.py", "--work", "out", "--train.stages.1.train.steps", "3", "--evaluation.windows", "2")
    listed = shell("run", *given, "--list")
    assert listed.code == 0 and " 7 " in listed.out and f"{4 * 32 + 3 * 64:,}" in listed.out
    answer = shell("run", *given)
    assert answer.code == 0 and "training 7 steps" in answer.out, (answer.out, answer.err)
    results = json.loads((home / "out/long/results.json").read_text())
    assert results["tokens"] == 4 * 32 + 3 * 64 and results["trained_length"] == 16
    assert "7/7" in shell("status", "out").out
    assert "done before" in shell("run", *given).out
    other = shell("run", *given[:-2], "--train.stages.0.train.optimizer", "Lion")
    assert "belongs to another config: train.stages.0.train.optimizer" in other.line
    # Without its manifest too: nothing is set aside for another config.
    (home / "out/long/run.json").unlink()
    held = sorted(path.name for path in (home / "out/long").iterdir())
    other = shell("run", *given, "--train.stages.0.train.optimizer.learning-rate", "0.5")
    assert "belongs to another config" in other.line and "learning_rate is 0.01 there and 0.5 here" in other.line
    assert sorted(path.name for path in (home / "out/long").iterdir()) == held
    assert shell("run", *given).code == 0


@pytest.mark.exhaustive
def test_a_smoke_test_is_of_every_stage(shell, home):
    (home / "staged.py").write_text(CONFIG)
    answer = shell("run", "staged.py", "--smoke")
    assert answer.code == 0 and "training 4 steps" in answer.out, (answer.out, answer.err)
