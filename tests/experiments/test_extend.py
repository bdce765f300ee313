"""experiments.extend: a trained run's schedule for a longer context, found, shown and written."""

from __future__ import annotations

import json
import shutil

import pytest

from experiments import trained
from experiments.check import value
from posjax import runs
from posjax.encodings.published import from_rope_parameters
from posjax.results import Measurements
from posjax.search import Comparison
from posjax.search.model import with_schedule

FEW = ("--steps", "2", "--windows", "3")


@pytest.fixture
def extended(shell, finished):
    answer = shell("extend", "runs/tiny/rope", "--to", "2x", *FEW)
    assert answer.code == 0, answer.err
    return answer


@pytest.mark.exhaustive
def test_what_it_writes_is_what_it_measured(extended, finished):
    folder = finished / "runs/tiny/rope"
    written = json.loads((folder / "extension.json").read_text())
    lines = extended.out.splitlines()
    for name in ("as trained", "linear (PI)", "NTK", "YaRN", "found"):
        assert any(line.strip().startswith(name) for line in lines), extended.out
    # The line of Python is the value, and a config with it measures the same.
    assert written["encoding"] in lines
    rope = value(written["encoding"])
    run = trained.run_of(folder)
    compared = Comparison.draw(runs.restore(run, folder), run.data.load(), 2, 3, run.seed)
    again = Measurements.of(compared.of(2, {"found": rope.schedule})).one("loss", variant="found").value
    told = Measurements.from_tree(written["measurements"]).one("loss", variant="found").value
    assert again == pytest.approx(told, rel=1e-6)
    assert run.model.with_encodings(with_schedule(rope.schedule)).encoding == rope
    assert from_rope_parameters(written["rope_parameters"]) == rope
    losses = [step["loss"] for step in written["checked"]]
    assert written["to"] == 2 and min(losses) <= losses[0]


@pytest.mark.exhaustive
def test_a_table_fits_a_terminal(extended):
    table = [line for line in extended.out.splitlines() if not line.startswith(("Rope(", "/", "runs"))]
    assert max(map(len, table)) <= 80


@pytest.mark.exhaustive
def test_a_folder_that_is_only_read_takes_a_file_elsewhere(shell, finished):
    folder = finished / "runs/tiny/rope"
    before = sorted(path.name for path in folder.iterdir())
    answer = shell("extend", folder, "--to", "2x", *FEW, "--to-file", "out.json", "--on", "needles")
    assert answer.code == 0, answer.err
    assert sorted(path.name for path in folder.iterdir()) == before
    assert json.loads((finished / "out.json").read_text())["on"] == "needles"


@pytest.mark.parametrize(
    ("run", "more", "named"),
    [
        ("alibi", ("--to", "2x"), "0 rotary encodings"),
        ("rope", ("--to", "1x"), "--to 1x: needed is a whole multiple"),
        ("rope", ("--to", "far"), "--to far: needed is a whole multiple"),
        ("rope", ("--to", "1000x"), "validation file"),
        ("rope", ("--to", "2x", "--steps", "-1"), "steps=-1"),
        ("rope", ("--to", "2x", "--windows", "0"), "--windows 0"),
        ("none", ("--to", "2x"), "run.json"),
    ],
)
def test_what_cannot_be_extended_is_one_line(shell, finished, run, more, named):
    assert named in shell("extend", f"runs/tiny/{run}", *more).line


def test_a_run_that_has_not_ended_is_refused(shell, finished):
    shutil.rmtree(finished / "runs/tiny/rope/checkpoints")
    assert "rope" in shell("extend", "runs/tiny/rope", "--to", "2x", *FEW).line


def test_what_was_found_for_another_length_is_not_replaced(shell, finished):
    path = finished / "runs/tiny/rope/extension.json"
    path.write_text('{"run": "rope", "to": 3, "on": "text"}')
    answer = shell("extend", "runs/tiny/rope", "--to", "2x", *FEW)
    assert "to 3, and this is 2" in answer.line and "--to-file" in answer.line
    assert json.loads(path.read_text())["to"] == 3


def test_a_text_that_was_edited_is_refused(shell, finished):
    # As if the text had changed since: that of the fixture is shared with other tests.
    path = finished / "runs/tiny/rope/run.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "corpus": "0123"}))
    answer = shell("extend", "runs/tiny/rope", "--to", "2x", *FEW)
    assert "of fingerprint 0123, and it is" in answer.line
    assert not (finished / "runs/tiny/rope/extension.json").exists()
