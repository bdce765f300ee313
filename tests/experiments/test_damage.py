"""Files of a work folder that still are JSON, and not what a command wrote: one line that names the file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from posjax.workfolder import ANEW
from tests.cases import first_of

GONE = object()
ASKED = [
    {"runs": None},
    {"runs": 3},
    {"runs": [{}, 1]},
    {"runs": GONE},
    {"configs": None},
    {"configs": {"rope": 1}},
    {"commands": None},
    {"commands": {"rope": None}},
    {"name": GONE},
    {"name": 5},
    {"title": []},
]
MANIFESTS = [
    {"config_tree": GONE},
    {"config_tree": "Run"},
    {"seed": "a"},
    {"seed": True},
    {"train": "a"},
    {"steps": "a"},
    {"stages": 3},
    {"stages": [{}]},
    {"stages": [1]},
    {"stages": [{"folder": "a", "training": "b", "steps": "c"}]},
    {"corpus": 3},
    {"name": GONE},
]
ENDS = ("results.json", "diverged.json")


def said(change: dict) -> str:
    return ", ".join(f"{name} {'gone' if value is GONE else value}" for name, value in change.items())


def edit(path: Path, change: dict) -> None:
    """Changes entries of a JSON file, those of a run's config in the tree that holds them."""
    tree = json.loads(path.read_text())
    inside = {"seed": ("config_tree",), "train": ("config_tree",), "steps": ("config_tree", "train")}
    for name, value in change.items():
        held = tree
        for step in inside.get(name, ()):
            held = held[step]
        if value is GONE:
            del held[name]
        else:
            held[name] = value
    path.write_text(json.dumps(tree))


def refused(answer, path: str) -> None:
    assert answer.code == 2 and f"{path} is damaged (" in answer.line and ANEW in answer.line, answer


@first_of("change", ASKED, ids=said, keep=1)
def test_what_was_asked_is_held_to_its_shape(shell, finished, change):
    path = finished / "runs/tiny/experiment.json"
    edit(path, change)
    before = path.read_bytes()
    for command in (("status", "runs/tiny"), ("record", "runs/tiny", "--to", "kept"), ("run", "tiny.py")):
        refused(shell(*command), "runs/tiny/experiment.json")
    assert path.read_bytes() == before and not (finished / "kept").exists()
    # What the line says to do.
    path.unlink()
    assert shell("run", "tiny.py").code == 0


@first_of("change", MANIFESTS, ids=said, keep=4)
def test_a_manifest_is_held_to_its_shape(shell, finished, change):
    edit(finished / "runs/tiny/rope/run.json", change)
    told = shell("status", "runs/tiny")
    assert told.code == 0 and "runs/tiny: 1 damaged, 1 evaluated" in told.out
    for command in (("record", "runs/tiny", "--to", "kept"), ("run", "tiny.py")):
        refused(shell(*command), "runs/tiny/rope/run.json")


@pytest.mark.parametrize("end", ENDS)
def test_a_manifest_that_is_gone_is_named(shell, finished, end):
    rope = finished / "runs/tiny/rope"
    (rope / "results.json").rename(rope / end)
    (rope / "run.json").unlink()
    told = shell("status", "runs/tiny")
    assert told.code == 0 and "runs/tiny: 1 damaged, 1 evaluated" in told.out
    answer = shell("record", "runs/tiny", "--to", "kept")
    assert answer.code == 2 and "runs/tiny/rope/run.json is gone: put it back" in answer.line


@pytest.mark.parametrize("change", [{"seconds": 3}, {"measurements": 3}, {"measurements": [{}]}], ids=said)
def test_results_are_held_to_their_shape(shell, finished, change):
    rope = finished / "runs/tiny/rope"
    edit(rope / "results.json", change)
    # As a posjax wrote it that kept no fingerprint of its results.
    edit(rope / "run.json", {"results": GONE})
    refused(shell("record", "runs/tiny", "--to", "kept"), "runs/tiny/rope/results.json")
