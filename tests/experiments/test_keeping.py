"""What may not happen to somebody's run: weights or results of another, steps pruned away, lines lost."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
from pathlib import Path

import jax
import numpy as np
import pytest

from posjax import report, runs, workfolder
from posjax.errors import Busy, InputError, StorageError
from posjax.files import owned, refused, write_json
from posjax.lines import read
from posjax.training.checkpoints import Checkpoints
from posjax.training.metrics import Metrics


def test_weights_of_another_run_are_not_taken(shell, finished):
    folders = finished / "runs/tiny"
    shutil.rmtree(folders / "rope/checkpoints")
    shutil.copytree(folders / "alibi/checkpoints", folders / "rope/checkpoints")
    before = (folders / "rope/results.json").read_bytes()
    for program in ("evaluate", "generate"):
        assert "is of another config" in shell(program, "tiny.py", "--only", "rope").line
    assert (folders / "rope/results.json").read_bytes() == before


def test_results_elsewhere_replace_no_run(shell, finished):
    shutil.copytree(finished / "runs/tiny", finished / "runs/other")
    before = {path: path.read_bytes() for path in (finished / "runs/other").rglob("*.json")}
    assert "holds a run of its own" in shell("evaluate", "tiny.py", "--only", "rope", "--to", "runs/other").line
    assert {path: path.read_bytes() for path in (finished / "runs/other").rglob("*.json")} == before


@pytest.mark.exhaustive
def test_results_elsewhere_replace_none_of_another_config(shell, finished):
    for _ in range(2):
        assert shell("evaluate", "tiny.py", "--only", "rope", "--to", "other").code == 0
    for name in ("run.json", "results.json"):
        assert (finished / "other/rope" / name).is_file()
    before = {path: path.read_bytes() for path in (finished / "other").rglob("*.json")}
    changed = ("--work", "seven", "--only", "rope", "--seed", "7")
    assert shell("train", "tiny.py", *changed).code == 0
    answer = shell("evaluate", "tiny.py", *changed, "--to", "other")
    assert answer.code == 2 and "other/rope belongs to another config: seed is 0 there and 7 here" in answer.line
    assert {path: path.read_bytes() for path in (finished / "other").rglob("*.json")} == before


@pytest.mark.exhaustive
def test_results_that_a_full_disk_did_not_replace_stay_sound(shell, finished, monkeypatch):
    rope = finished / "runs/tiny/rope"
    before = (rope / "results.json").read_bytes()

    def full(path, value):
        if path.name == "results.json":
            raise refused(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        return write_json(path, value)

    with monkeypatch.context() as patch:
        patch.setattr(workfolder, "write_json", full)
        for _ in range(2):
            assert shell("evaluate", "tiny.py", "--only", "rope").code == 74
            workfolder.check_results(rope)
    assert (rope / "results.json").read_bytes() == before
    assert shell("report", "runs/tiny").code == 0
    assert shell("evaluate", "tiny.py", "--only", "rope").code == 0
    workfolder.check_results(rope)
    # Those of before are not this run's any more, where they are put back.
    (rope / "results.json").write_bytes(before)
    with pytest.raises(InputError, match="was changed since"):
        workfolder.check_results(rope)


def test_a_run_begun_anew_has_no_results_of_the_one_before(shell, finished):
    rope = finished / "runs/tiny/rope"
    (rope / "run.json").unlink()
    shutil.rmtree(rope / "checkpoints")
    answer = shell("train", "tiny.py", "--only", "rope")
    assert answer.code == 0 and "what it held is results.json." in answer.out, answer
    assert not (rope / "results.json").exists() and len(list(rope.glob("results.json.*"))) == 1


@pytest.mark.parametrize("said", [{"sessions": 5}, {"sessions": [1]}, {"devices": None}, {"versions": [1]}], ids=str)
def test_a_manifest_of_other_types_is_damaged(shell, finished, said):
    path = finished / "runs/tiny/rope/run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | said))
    (path.parent / "results.json").unlink()
    answer = shell("run", "tiny.py", "--only", "rope")
    assert answer.code == 0 or "run.json is damaged" in answer.line, answer


@pytest.mark.exhaustive
def test_a_line_without_its_seconds_is_no_traceback(shell, finished):
    path = finished / "runs/tiny/rope/metrics.jsonl"
    path.write_text(path.read_text().replace('"seconds"', '"secondz"', 1))
    (path.parent / "results.json").unlink()
    assert shell("run", "tiny.py", "--only", "rope").code == 0
    assert json.loads((path.parent / "results.json").read_text())["seconds"]["train"] is None


def test_a_prompt_of_any_bytes_and_any_width_of_a_terminal(shell, finished, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000000000")
    answer = shell("generate", "tiny.py", "--only", "rope", "--prompt", os.fsdecode(b"\xff to"), "--tokens", "2")
    assert answer.code == 0 and " to" in answer.out, answer


def test_larger_names_of_somebody_elses_take_no_step_away(tmp_path):
    folder, state = tmp_path / "checkpoints", {"x": np.ones(3, np.float32)}
    with Checkpoints(folder) as checkpoints:
        for step in (1, 2, 3, 4):
            checkpoints.save(step, state)
            checkpoints.wait()
            (folder / "20261127").mkdir(exist_ok=True)
            (folder / "20261128").mkdir(exist_ok=True)
    assert {path.name for path in folder.iterdir()} == {"3", "4", "20261127", "20261128"}


def test_another_folder_in_its_place_gets_no_step(tmp_path):
    folder = tmp_path / "checkpoints"
    with Checkpoints(folder) as checkpoints:
        folder.rename(tmp_path / "moved")
        folder.mkdir()
        with pytest.raises(StorageError, match="is gone"):
            checkpoints.save(1, {"x": np.ones(3, np.float32)})
    assert list(folder.iterdir()) == []


@pytest.fixture
def moved(finished, monkeypatch):
    """`moved(swap)` has `swap` move folders while a run is measured, and gives the work folder."""
    work = finished / "runs/tiny"

    def prepare(swap):
        real = runs._measured

        def measured(*given):
            results = real(*given)
            swap(work)
            return results

        monkeypatch.setattr(runs, "_measured", measured)
        return work

    return prepare


def another_in_its_place(work):
    (work / "rope").rename(work.parent / "moved")
    shutil.copytree(work / "alibi", work / "rope")


def test_another_run_in_its_place_gets_no_results(shell, moved):
    work = moved(another_in_its_place)
    line = shell("evaluate", "tiny.py", "--only", "rope").line
    assert "runs/tiny/rope is gone: put it back" in line
    for name in ("run.json", "results.json"):
        assert (work / "rope" / name).read_bytes() == (work / "alibi" / name).read_bytes()


def test_a_folder_that_is_gone_is_not_made_anew_for_results(shell, moved):
    work = moved(lambda work: (work / "rope").rename(work.parent / "moved"))
    answer = shell("evaluate", "tiny.py", "--only", "rope")
    assert answer.code == 74 and "is gone" in answer.line
    assert not (work / "rope").exists()


def test_a_work_folder_in_its_place_gets_no_report(shell, moved):
    def swap(work):
        work.rename(work.parent / "moved")
        shutil.copytree(work.parent / "moved", work)

    work = moved(swap)
    (work / "rope/results.json").unlink()
    (work / "report.html").unlink()
    answer = shell("run", "tiny.py", "--only", "rope")
    assert answer.code == 74 and "is gone" in answer.line
    assert not (work / "report.html").exists() and not (work / "rope/results.json").exists()


def test_metrics_that_were_replaced_are_noticed(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with Metrics(path, 0) as metrics:
        metrics.write(1, {"loss": 1.0})
        metrics.keep()
        shutil.copy(path, tmp_path / "edited")
        (tmp_path / "edited").replace(path)
        metrics.write(2, {"loss": 1.0})
        with pytest.raises(StorageError, match="was replaced by another file"):
            metrics.keep()


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "metrics.jsonl")
    with pytest.raises(InputError, match="is no file"):
        read(tmp_path / "metrics.jsonl")


def test_the_owner_is_told_apart_from_one_of_its_number_elsewhere(tmp_path, monkeypatch):
    with owned(tmp_path), owned(tmp_path):
        told = (tmp_path / "owner.lock").read_text()
    assert told.startswith(f"process {os.getpid()} on ")
    real = os.readlink
    monkeypatch.setattr(os, "readlink", lambda path, **more: "pid:[1]" if "ns/pid" in str(path) else real(path, **more))
    if Path("/proc/self/ns/pid").exists():
        with owned(tmp_path):
            assert (tmp_path / "owner.lock").read_text().split("(")[1][:8] != told.split("(")[1][:8]


def in_a_thread(work):
    """What a function returns in a second thread of this process."""
    told = []
    thread = threading.Thread(target=lambda: told.append(work()))
    thread.start()
    thread.join()
    return told[0]


def refused_to_another_thread(folder):
    """Whether a second thread is told that the folder is in use."""

    def refused():
        try:
            with owned(folder):
                return False
        except Busy:
            return True

    return in_a_thread(refused)


def test_a_folder_has_one_thread_and_no_lock_that_can_be_taken_away(tmp_path):
    with owned(tmp_path):
        assert refused_to_another_thread(tmp_path)
        (tmp_path / "owner.lock").unlink()
        assert refused_to_another_thread(tmp_path)
        with owned(tmp_path):
            assert refused_to_another_thread(tmp_path)
    assert not refused_to_another_thread(tmp_path)


def test_a_copy_by_hard_links_is_a_folder_of_its_own(tmp_path):
    with owned(tmp_path / "run"):
        shutil.copytree(tmp_path / "run", tmp_path / "backup", copy_function=os.link)
        with owned(tmp_path / "backup"):
            assert refused_to_another_thread(tmp_path / "run")


def test_metrics_of_a_backup_by_hard_links_stay_as_they_are(tmp_path):
    path, backup = tmp_path / "metrics.jsonl", tmp_path / "backup.jsonl"
    with Metrics(path, 0) as metrics:
        metrics.write(1, {"loss": 1.0})
    os.link(path, backup)
    kept = backup.read_bytes()
    with Metrics(path, 1) as metrics:
        metrics.write(2, {"loss": 1.0})
        metrics.keep()
    assert backup.read_bytes() == kept
    assert [line["step"] for line in read(path).steps] == [1, 2]


@pytest.mark.exhaustive
def test_results_of_another_run_are_not_shown_as_this_ones(shell, finished):
    folders = finished / "runs/tiny"
    kept = (folders / "rope/results.json").read_bytes()
    shutil.copy(folders / "alibi/results.json", folders / "rope/results.json")
    for command in (("run", "tiny.py"), ("report", "runs/tiny")):
        assert "is of 'alibi', or was changed since" in shell(*command).line
    # Of the same name, from another folder of the same config.
    (folders / "rope/results.json").write_bytes(kept.replace(b"1", b"2"))
    assert "is not what the evaluation of this run wrote" in shell("report", "runs/tiny").line
    (folders / "rope/results.json").unlink()
    assert shell("run", "tiny.py").code == 0


@pytest.mark.exhaustive
def test_a_finished_run_of_a_text_that_was_edited_is_told(shell, home):
    assert shell("run", "tiny.py", "--only", "rope").code == 0
    (home / "text/d.txt").write_text("one more\n")
    answer = shell("run", "tiny.py")
    assert answer.code == 0 and "rope: done before, on a text of fingerprint" in answer.out
    assert "The text was edited between these runs" in " ".join(answer.out.split())
    assert "The text was edited between these runs" in " ".join(shell("report", "runs/tiny").out.split())
    assert "The text was edited between these runs" in (home / "runs/tiny/report.html").read_text()


def test_a_command_that_is_refused_does_not_change_what_was_asked(shell, finished):
    path = finished / "runs/tiny/experiment.json"
    before = path.read_bytes()
    (finished / "runs/tiny/rope/results.json").unlink()
    config = finished / "tiny.py"
    config.write_text(config.read_text().replace("Does it work?", "Does it?"))
    with owned(finished / "runs/tiny/rope"):
        told = in_a_thread(lambda: shell("run", "tiny.py"))
    assert told.code == 75 and "is in use by process" in told.line
    assert path.read_bytes() == before


@pytest.mark.exhaustive
def test_a_command_forgets_no_run_whose_turn_has_not_come(shell, finished):
    path = finished / "runs/tiny/experiment.json"
    before = json.loads(path.read_text())["commands"]
    shutil.rmtree(finished / "runs/tiny/alibi")
    assert shell("run", "tiny.py", "--only", "rope").code == 0
    assert json.loads(path.read_text())["commands"]["alibi"] == before["alibi"]


def test_a_folder_that_checkpoints_would_be_lost_in_is_refused_before_anything_is_written(shell, home):
    assert "has '[' in its name, by which checkpoints would be lost" in shell("train", "tiny.py", "--work", "a[1]").line
    assert not (home / "a[1]").exists()


def test_a_text_is_not_where_its_run_is_written(shell, home):
    (home / "here/rope").mkdir(parents=True)
    (home / "here/rope/a.txt").write_text("to be or not to be")
    for work, text in ((".", home), ("text/..", home), ("here", home / "here/rope")):
        line = shell("run", "tiny.py", "--work", work, "--train.length", "2", "--data.paths", text).line
        assert "what is written there would become text: choose another folder with --work" in line


@pytest.mark.exhaustive
def test_settings_of_jax_that_change_numbers_are_told(shell, finished):
    jax.config.update("jax_random_seed_offset", 1)
    try:
        answer = shell("evaluate", "tiny.py", "--only", "rope")
    finally:
        jax.config.update("jax_random_seed_offset", 0)
    assert answer.code == 0, answer
    assert "this goes on elsewhere than it was begun: jax_random_seed_offset was 0 and is 1" in answer.out


@pytest.mark.exhaustive
def test_a_copy_of_a_run_is_no_row_of_its_own(shell, finished):
    work = finished / "runs/tiny"
    shutil.copytree(work / "rope", work / "rope-copy")
    answer = shell("report", "runs/tiny")
    said = "Left out: rope-copy, which is a copy of the run rope"
    assert answer.code == 0 and said in answer.out.replace("\n", " ")
    assert said in (work / "report.html").read_text()
    assert [run.name for run in report.load(work).runs] == ["rope", "alibi"]


def test_metrics_of_another_run_are_not_believed(shell, finished):
    work = finished / "runs/tiny"
    shutil.copy(work / "alibi/metrics.jsonl", work / "rope/metrics.jsonl")
    assert "rope/metrics.jsonl holds lines of another run (line 1)" in shell("report", "runs/tiny").line
    (work / "rope/results.json").unlink()
    answer = shell("train", "tiny.py", "--only", "rope")
    assert "metrics.jsonl holds 4 lines of another run" in answer.out.replace("\n", " "), answer
    assert shell("evaluate", "tiny.py", "--only", "rope").code == 0
    assert json.loads((work / "rope/results.json").read_text())["seconds"]["train"] is None


@pytest.mark.exhaustive
def test_two_questions_do_not_share_a_folder(shell, finished):
    before = (finished / "runs/tiny/experiment.json").read_bytes()
    text = (finished / "tiny.py").read_text()
    (finished / "other.py").write_text(
        text.replace('run("rope", Rope()), run("alibi"', 'run("rope", Rope()), run("third"')
    )
    line = shell("run", "other.py", "--work", "runs/tiny").line
    assert "runs/tiny holds runs of the config tiny (alibi)" in line and "--work" in line
    assert (finished / "runs/tiny/experiment.json").read_bytes() == before
    # By another name the same question may go on; and of a run that an edit took out the text is kept.
    (finished / "same.py").write_text(text)
    assert shell("run", "same.py", "--work", "runs/tiny").code == 0
    (finished / "same.py").write_text(text.replace(', run("alibi", Alibi())', ","))
    for _ in range(2):
        assert shell("run", "same.py", "--work", "runs/tiny").code == 0
    asked = json.loads((finished / "runs/tiny/experiment.json").read_text())
    assert asked["configs"] == {"alibi": text} and 'run("alibi"' not in asked["config"]
