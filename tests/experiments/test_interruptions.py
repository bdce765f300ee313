"""A process that is killed or interrupted in the middle: the same command ends with the same table."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from posjax.lines import read
from tests.cases import wide

ROOT = Path(__file__).resolve().parents[2]

DRIVER = """
import os, pathlib, signal, sys, time
from experiments import cli, run
from posjax.lines import read
from posjax.data import Batches

real, kept = Batches.batch, pathlib.Path("runs/tiny/rope/checkpoints/2")

def batch(self, step):
    if step == {step}:
        # The checkpoint of step 2 is written, that of step 4 is not.
        while {step} > 2 and not kept.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.{name})
    return real(self, step)

Batches.batch = batch
sys.argv = ["run", *sys.argv[1:]]
cli.main(run.command)
"""


def interrupted(folder: Path, name: str) -> subprocess.CompletedProcess:
    """`experiments.run tiny.py` in a process of its own, which gets a signal in the middle of the first run."""
    (folder / "driver.py").write_text(DRIVER.format(name=name, step=3 if name == "SIGKILL" else 2))
    return subprocess.run(
        [sys.executable, "driver.py", "tiny.py", "--only", "rope"],
        cwd=folder,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


def results(folder: Path) -> dict:
    found = json.loads((folder / "runs/tiny/rope/results.json").read_text())
    assert found.pop("seconds")["train"] > 0
    return found


def losses(folder: Path) -> list[tuple]:
    lines = read(folder / "runs/tiny/rope/metrics.jsonl")
    assert lines.damaged == ()
    return [(line["step"], line["loss"], line["gradient_norm"]) for line in lines.steps]


@pytest.mark.slow
@pytest.mark.parametrize("name", wide(["SIGKILL", "SIGINT", "SIGTERM", "SIGHUP"], ["SIGKILL", "SIGTERM"]))
def test_the_same_command_ends_with_the_same_table(shell, home, finished_once, name):
    process = interrupted(home, name)
    if name == "SIGKILL":
        assert process.returncode == -signal.SIGKILL
        assert sorted(p.name for p in (home / "runs/tiny/rope/checkpoints").iterdir() if p.name.isdigit()) == ["2"]
    else:
        assert process.returncode == 75, process.stderr
        assert "stopped at step 3 of 4; the checkpoint is kept" in process.stderr
        assert process.stderr.count("\n") == 1 and "Traceback" not in process.stderr
    assert not (home / "runs/tiny/rope/results.json").exists()
    answer = shell("run", "tiny.py", "--only", "rope")
    assert answer.code == 0, answer.err
    assert results(home) == results(finished_once)
    assert losses(home) == losses(finished_once)
