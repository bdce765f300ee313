"""What commands may not write over, or wait for: files of the user's own, pipes, devices and folders."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest


@pytest.mark.exhaustive
def test_exports_replace_no_file_of_another_kind(shell, finished, monkeypatch):
    monkeypatch.chdir(finished)
    os.mkfifo("pipe")
    Path("folder").mkdir()
    Path("mine.csv").write_text("old")
    Path("link.csv").symlink_to("mine.csv")
    rope = Path("runs/tiny/rope/results.json")
    before, page = rope.read_bytes(), Path("runs/tiny/report.html").stat().st_mtime_ns
    for name in ("pipe", "folder", rope, "mine.csv/x", f"{'x' * 250}.csv"):
        for option in ("--csv", "--latex"):
            answer = shell("report", "runs/tiny", option, name)
            assert answer.code == 2 and answer.line
    # Nothing was spent before that was told.
    assert rope.read_bytes() == before and Path("runs/tiny/report.html").stat().st_mtime_ns == page
    assert Path("pipe").is_fifo()
    assert shell("report", "runs/tiny", "--csv", "link.csv").code == 0
    assert Path("link.csv").is_symlink() and Path("mine.csv").read_text().startswith("metric,")


def test_a_page_or_a_table_of_ones_own_stays(shell, finished, monkeypatch):
    monkeypatch.chdir(finished)
    for name in ("one/report.html", "two/table.csv", "three/figures/loss_by_length.png"):
        Path(name).parent.mkdir(parents=True)
        Path(name).write_text("mine")
    for program, name in (("report", "one"), ("record", "two"), ("report", "three"), ("record", "two/table.csv")):
        answer = shell(program, "runs/tiny", "--to", name)
        assert answer.code == 2, answer
    shutil.copytree(finished / "runs/tiny", "work")
    Path("work/report.html").write_text("mine")
    answer = shell("run", "tiny.py", "--work", "work")
    assert answer.code == 2 and "work/report.html is not of a report" in answer.line
    assert {path.read_text() for path in Path().glob("*/report.html")} == {"mine"}
    assert (
        Path("two/table.csv").read_text() == "mine" and Path("three/figures/loss_by_length.png").read_text() == "mine"
    )


def test_a_folder_that_no_step_could_be_kept_in_is_told_first(shell, home):
    for work in (os.fsdecode(b"w\xe9rk"), "x" * 300, "tiny.py"):
        answer = shell("train", "tiny.py", "--work", work)
        assert answer.code == 2 and "choose another folder with --work" in answer.line
    assert not Path("runs").exists()


@pytest.mark.parametrize("name", ["run.json", "experiment.json", "config.json"])
def test_a_pipe_where_a_file_should_be_is_not_waited_for(shell, finished, monkeypatch, name):
    monkeypatch.chdir(finished)
    folder = {"run.json": Path("runs/tiny/rope"), "experiment.json": Path("runs/tiny")}.get(name, Path())
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    commands = [("train", "tiny.py", "--only", "rope"), ("generate", "tiny.py", "--only", "rope", "--tokens", "1")]
    if name == "experiment.json":
        commands = [("train", "tiny.py", "--only", "rope"), ("report", "runs/tiny"), ("record", "runs/tiny")]
    if name == "config.json":
        commands = [("audit", "config.json"), ("convert", "config.json", "out")]
    for words in commands:
        answer = shell(*words)
        assert (answer.code == 2 and "in its place" in answer.line) or "no" in answer.line, answer


def test_two_configs_of_one_name_do_not_share_a_folder(shell, finished):
    text = (finished / "tiny.py").read_text()
    other = finished / "elsewhere/tiny.py"
    other.parent.mkdir()
    asked = finished / "runs/tiny/experiment.json"
    before = asked.read_bytes()
    changed = text.replace('"Does it work?", (run("rope", Rope()), run("alibi"', '"Another?", (run("third"')
    other.write_text(changed.replace("Alibi())", "Rope()),"))
    answer = shell("train", "elsewhere/tiny.py")
    assert answer.code == 2 and "of another config named tiny (rope, alibi): its question is" in answer.line
    assert asked.read_bytes() == before and not (finished / "runs/tiny/third").exists()
