"""Runs of other objectives than the next token, and how the loss of any training fell."""

from __future__ import annotations

import json

import pytest

from posjax.stages import spent
from tests.training.tiny import corpus, run


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return corpus(tmp_path_factory.mktemp("text"))


def written(folder, losses):
    lines = [json.dumps({"step": step, "loss": loss, "seconds": 0.5}) for step, loss in losses.items()]
    (folder / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))


def test_the_loss_by_step_is_the_mean_of_each_tenth(tmp_path, text):
    written(tmp_path, {step: float(step) for step in range(1, 41)})
    found = spent(run(text, steps=40).parts(), tmp_path, ["0"])
    assert [row.at("step") for row in found.losses] == list(range(4, 41, 4))
    assert [row.value for row in found.losses] == [2.5 + 4 * tenth for tenth in range(10)]
    assert {row.count for row in found.losses} == {4} and (found.seconds, found.tokens) == (20.0, 40 * 4 * 8)


def test_a_tenth_without_lines_is_left_out(tmp_path, text):
    written(tmp_path, {step: 1.0 for step in range(1, 41) if not 9 <= step <= 12})
    found = spent(run(text, steps=40).parts(), tmp_path, ["0"])
    assert [row.at("step") for row in found.losses] == [4, 8, *range(16, 41, 4)]
    assert found.seconds != found.seconds
    few = spent(run(text, steps=3).parts(), tmp_path / "nothing", ["0"])
    assert len(few.losses) == 0
