"""Where runs stand, told from their files alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from experiments.status import status
from posjax.files import owned
from posjax.owners import Owner, owner


def begun(folder, step, steps=10, seconds=2.0, **more):
    """The files of a run that has come to a step."""
    folder.mkdir(parents=True)
    manifest = {"name": folder.name, "training": "f", "corpus": None}
    manifest |= {"config_tree": {"is": "Run", "train": {"steps": steps}}, **more}
    (folder / "run.json").write_text(json.dumps(manifest))
    for at in range(1, step + 1):
        line = {"step": at, "loss": 5.0 - at / 10, "tokens_per_second": 1234.5, "seconds": seconds, "run": "f"}
        with (folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
    (folder / f"checkpoints/{step}").mkdir(parents=True)
    return folder


def killed(folder):
    """A run whose process was killed: the lock still names it."""
    program = "import os, sys; from posjax.files import owned; from pathlib import Path\n"
    program += "with owned(Path(sys.argv[1])):\n    os._exit(9)"
    assert subprocess.run([sys.executable, "-c", program, folder], check=False).returncode == 9
    return folder


def test_a_run_that_was_killed_is_interrupted(tmp_path):
    folder = killed(begun(tmp_path / "a", 4))
    assert owner(folder).is_alive is False
    told = status(folder)
    assert (told.name, told.state, told.step, told.steps, told.loss) == ("a", "interrupted", 4, 10, 4.6)
    # Six steps are left, of two seconds each.
    assert told.speed == 1234.5 and told.left == pytest.approx(12.0) and 0 <= told.age < 100


def test_a_run_that_is_owned_is_training_and_then_evaluating(tmp_path):
    half, whole = begun(tmp_path / "a", 4), begun(tmp_path / "b", 10)
    with owned(half), owned(whole):
        assert status(half).state == f"training, process {os.getpid()}"
        assert status(whole).state == f"evaluating, process {os.getpid()}"
    # Given back, though its process lives on, as that of a notebook does.
    assert status(half).state == "interrupted" and status(whole).state == "trained"
    assert status(whole).left is None and owner(whole) is None


@pytest.mark.parametrize("place", ["", "(01234567) "])
def test_a_process_of_another_machine_is_told_as_such(tmp_path, place):
    folder = begun(tmp_path / "a", 4)
    (folder / "owner.lock").write_text(f"process 7 on node-3.cluster {place}since 2030-01-01 00:00:00 (run x.py)\n")
    assert owner(folder) == Owner(7, "node-3.cluster", None)
    assert status(folder).state == "training on node-3.cluster?"


@pytest.mark.parametrize("said", ["", "process", "process 7 on", "\xff\xfe", "process x on y since z"])
def test_a_lock_that_says_nothing_names_nobody(tmp_path, said):
    (tmp_path / "owner.lock").write_bytes(said.encode("latin-1"))
    assert owner(tmp_path) is None
    with owned(tmp_path):
        assert owner(tmp_path) == Owner(os.getpid(), os.uname().nodename, True)


def test_ends_come_before_whoever_holds_the_folder(tmp_path):
    done, wild = begun(tmp_path / "a", 10), begun(tmp_path / "b", 3)
    (done / "results.json").write_text("{}")
    (wild / "diverged.json").write_text('{"reason": "the loss is nan"}')
    with owned(done), owned(wild):
        assert status(done).state == "evaluated" and status(wild).state == "diverged"
    assert status(wild).left is None


def test_lines_that_were_taken_back_and_another_run_s_do_not_count(tmp_path):
    folder = begun(tmp_path / "a", 6)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"from": 4, "run": "f"}\n{"step": 9, "loss": 0.0, "run": "another"}\n{"step": 5, "lo')
    assert (status(folder).step, status(folder).loss) == (4, 4.6)


def test_a_table_for_each_folder_in_eighty_columns(shell, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    long = "a-long-name-" * 8
    killed(begun(tmp_path / "work/b", 4, steps=100_000, seconds=60.0))
    begun(tmp_path / f"work/{long}", 10)
    begun(tmp_path / "work/c", 0)
    (tmp_path / "work/d").mkdir()
    (tmp_path / "work/d/run.json").write_text("{")
    (tmp_path / "work/experiment.json").write_text(json.dumps({"name": "n", "runs": ["z", "b", long]}))
    begun(tmp_path / "other/e", 0, config_tree={"train": {"is": "Pretrained"}})
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    answer = shell("status", "work", "other", "work/b")
    assert answer.code == 0 and answer.err == ""
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    told = answer.out.splitlines()
    assert max(map(len, told)) <= 80
    assert "work: 1 never begun, 2 interrupted, 1 trained, 1 damaged" in told and "other: 1 interrupted" in told
    first = [line.split()[0] for line in told if line.strip()]
    assert first.index("z") < first.index("b") < first.index("c") < first.index("d")
    (row,) = [line.split() for line in told if line.startswith(" b ")][:1]
    assert row[:6] == ["b", "interrupted", "4/100000", "4.600", "1,234", "69"] and row[6] == "d"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("none",), "none holds no runs: name a folder"),
        (("there", "none"), "none holds no runs"),
        ((".",), "holds no runs"),
        ((), "no folder is named"),
        (("there", "--bogus"), "unknown option --bogus"),
    ],
)
def test_a_folder_that_is_none_is_one_line(shell, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    begun(tmp_path / "there/a", 1)
    begun(tmp_path / "there/deeper/b", 1)
    answer = shell("status", *arguments)
    assert answer.code == 2 and said in answer.line and answer.out == ""


def test_a_finished_experiment_is_evaluated(shell, finished):
    answer = shell("status", "runs/tiny", "runs/tiny/alibi")
    assert answer.code == 0 and "runs/tiny: 2 evaluated" in answer.out and answer.out.count("4/4") == 3


def test_lines_without_their_checkpoint_are_no_trained_run(finished):
    rope = finished / "runs/tiny/rope"
    (rope / "results.json").unlink()
    assert status(rope).state == "trained"
    shutil.rmtree(rope / "checkpoints/4")
    assert status(rope).state == "interrupted"


def test_a_copy_of_a_folder_in_use_has_no_owner(tmp_path):
    with owned(tmp_path / "run"):
        shutil.copytree(tmp_path / "run", tmp_path / "copy")
        found, copy = owner(tmp_path / "run"), owner(tmp_path / "copy")
    assert found is not None and found.is_alive and copy is not None and copy.is_alive is False
