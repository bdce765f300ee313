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

real, kept = Batches.rows, pathlib.Path("runs/tiny/rope/checkpoints/2")

def rows(self, step, start, stop):
    if step == {step}:
        # The checkpoint of step 2 is written, that of step 4 is not.
        while {step} > 2 and not kept.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.{name})
    return real(self, step, start, stop)

Batches.rows = rows
sys.argv = ["run", *sys.argv[1:]]
cli.main(run.command)
"""


def interrupted(folder: Path, name: str, step: int, *only: str) -> subprocess.CompletedProcess:
    """`experiments.run tiny.py` in a process of its own, which gets a signal before a step of the first run."""
    (folder / "driver.py").write_text(DRIVER.format(name=name, step=step))
    return subprocess.run(
        [sys.executable, "driver.py", "tiny.py", *only],
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


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize("name", wide(["SIGKILL", "SIGINT", "SIGTERM", "SIGHUP"], ["SIGKILL"]))
def test_the_same_command_ends_with_the_same_table(shell, home, finished_once, name):
    process = interrupted(home, name, 3 if name == "SIGKILL" else 2, "--only", "rope")
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


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_signal_within_the_last_step_lets_nothing_else_begin(home):
    process = interrupted(home, "SIGINT", 3)
    assert process.returncode == 75 and "stopped at step 4 of 4" in process.stderr, process
    assert process.stderr.count("\n") == 1
    assert "evaluating" not in process.stdout and not (home / "runs/tiny/alibi/run.json").exists()
    assert (home / "runs/tiny/rope/checkpoints/4").is_dir()


LATE = """
import os, signal
from experiments import cli

class Late:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)

def command(arguments):
    raise KeyboardInterrupt

late = Late()
cli.program(command)
"""


@pytest.mark.slow
def test_a_second_signal_while_python_ends_changes_no_code():
    process = subprocess.run(
        [sys.executable, "-c", LATE], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert process.returncode == 75 and process.stderr.count("\n") == 1, process
