"""A mistake is answered by one line that names it and the way out, with exit code 2; and nothing is lost."""

from __future__ import annotations

import json

import pytest

from experiments import train as train_command
from posjax.errors import Busy, Diverged, InputError, StorageError
from tests.cases import first_of


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


ATTENTION = "--model.decoder.pattern.0.sublayers.0"
"""The options of the first layer's attention."""


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("tiny.py", "--bogus", "5"), ("unknown option --bogus; --help",)),
        (("tiny.py", "--trian.steps", "50"), ("--trian.steps", "--train.steps")),
        (("tiny.py", "--train.setps=50"), ("--train.setps", "--train.steps")),
        (("tiny.py", "--wrok", "x"), ("--wrok", "--work")),
        (("tiny.py", f"{ATTENTION}.encoding.bsae", "5.0"), ("encoding.bsae", "encoding.base")),
        (("tiny.py", "--train.steps", "fifty"), ("--train.steps", "fifty")),
        (("tiny.py", "--train.steps", "1.5"), ("--train.steps", "1.5")),
        (("tiny.py", "--train.steps"), ("--train.steps",)),
        (("tiny.py", "--train.steps", "0"), ("steps=0", "1 or more")),
        (("tiny.py", "--train.compute.dtype", "int8"), ("dtype", "int8", "bfloat16")),
        (("tiny.py", "50"), ("50", "--train.steps 50")),
        (("tinny.py",), ("tinny.py", "tiny.py")),
        (("nowhere/tiny.py",), ("nowhere/tiny.py",)),
        (("text",), ("text",)),
        ((), ("Missing", "PATH")),
        (("tiny.py", "--only", "alibu"), ("'alibu'", "'alibi'")),
        (("tiny.py", f"{ATTENTION}.key-value-heads", "3"), ("heads=2", "key_value_heads=3", "one of 1, 2")),
        (("tiny.py", f"{ATTENTION}.heads", "3"), ("width=16", "heads=3")),
        (("tiny.py", f"{ATTENTION}.head-size", "7"), ("head size of 7", "even number")),
        (("tiny.py", "--data.paths", "text/none.txt"), ("text/none.txt", "does not exist")),
        (("tiny.py", "--data.validation-share", "2.0"), ("validation_share", "2.0")),
        (("tiny.py", "--train.length", "100000"), ("100,000", "shorten the window")),
        (("tiny.py", "--train.length", "2000000000"), ("position", "2^31 - 1", "smaller multiples")),
        (("tiny.py", "--train.devices.data", "64"), ("64 devices", "devices.data")),
        (("tiny.py", "--train.devices.data", "2", "--train.batch", "3"), ("3 rows", "2 devices")),
        (("tiny.py", "--train.optimizer.learning-rate", "0"), ("learning_rate=0", "positive")),
        (("tiny.py", "--evaluation.multiples", "2", "4"), ("multiples=(2, 4)", "begin with 1")),
        (("tiny.py", "--train.compute.backend", "fast"), ("'fast'", "auto")),
        (("tiny.py", "--train.compute.backend", "cudnn"), ("this is a cpu", "backend='chunked' can")),
        (("tiny.py", "--train.compute.backend", "cudnn"), ("cudnn", "backend='chunked' can")),
        (("tiny.py", "--work", "tiny.py/x"), ("cannot write to tiny.py/x", "--work")),
    ],
    ids=lambda value: " ".join(value)[:50] if isinstance(value, tuple) else None,
)
def test_a_mistake_is_one_line_and_changes_no_file(shell, home, arguments, parts):
    before = contents(home)
    line = shell("run", *arguments).line
    for part in parts:
        assert part in line, line
    assert before.items() <= contents(home).items()
    assert not list(home.rglob("results.json"))


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("x = 1\nraise RuntimeError('no\\nluck')", ("line 2", "RuntimeError", "no luck")),
        ("def experiment():\n    x = 1\n    return 1 / 0", ("line 3", "ZeroDivisionError")),
        ("def experiment(:\n    pass", ("line 1", "SyntaxError")),
        ("from posjax import Roope", ("line 1", "ImportError", "Roope")),
        ("x = 1", ("experiment()",)),
        ("def experiment():\n    return 3", ("returned a int", "Experiment")),
        ("from posjax import Rope\nRope(base=-1.0)", ("line 2", "base=-1.0")),
        ("from posjax.runs import Experiment\ndef experiment():\n    return Experiment('t', 'q?', ())", ("no runs",)),
    ],
    ids=[
        "raises",
        "raises later",
        "does not parse",
        "imports nothing",
        "no function",
        "another type",
        "bad field",
        "no runs",
    ],
)
def test_a_config_that_raises_is_one_line_with_its_place(shell, home, source, parts):
    (home / "mine.py").write_text(source)
    line = shell("run", "mine.py").line
    for part in ("mine.py", *parts):
        assert part in line, line


def test_two_runs_of_one_name_are_refused(shell, home):
    text = (home / "tiny.py").read_text().replace('"alibi"', '"rope"')
    (home / "tiny.py").write_text(text)
    assert "two runs named 'rope'" in shell("run", "tiny.py").line


def test_an_empty_corpus_is_refused(shell, home):
    (home / "empty").mkdir()
    assert "0 bytes of text in empty" in shell("run", "tiny.py", "--data.paths", "empty").line
    assert "/missing" in shell("run", "tiny.py", "--data.paths", home / "missing").line


def test_a_validation_file_shorter_than_the_longest_window_is_refused(shell, home):
    line = shell("run", "tiny.py", "--evaluation.multiples", "1", "4096").line
    assert "longest validation file" in line and "shorten" in line


@pytest.mark.exhaustive
@first_of("program", ["run", "train", "evaluate", "generate"], keep=1)
def test_a_folder_of_another_config_says_what_differs_and_stays_as_it_is(shell, finished, program):
    before = contents(finished)
    line = shell(program, "tiny.py", "--train.steps", "6", "--model.decoder.layers", "2").line
    assert "train.steps is 4 there and 6 here" in line and "model.decoder.layers is 1 there and 2 here" in line
    assert "runs/tiny/rope" in line and "--work" in line
    assert contents(finished) == before


@pytest.mark.exhaustive
def test_a_corpus_that_changed_is_noticed(shell, finished, monkeypatch):
    (finished / "runs/tiny/rope/results.json").unlink()
    manifest = finished / "runs/tiny/rope/run.json"
    found = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(found | {"corpus": "0" * 16}))
    line = shell("run", "tiny.py").line
    assert "0" * 16 in line and found["corpus"] in line


@first_of("content", ["[]", "{}", "", "{"], keep=1)
def test_a_damaged_manifest_is_one_line(shell, finished, content):
    (finished / "runs/tiny/rope/run.json").write_text(content)
    assert "run.json" in shell("run", "tiny.py").line


@pytest.mark.parametrize("program", ["evaluate", "generate"])
def test_what_is_not_trained_cannot_be_used(shell, home, program):
    line = shell(program, "tiny.py").line
    assert "train it first" in line
    assert not (home / "runs").exists()


@pytest.mark.parametrize("folder", ["nowhere", "text"])
def test_a_report_of_no_runs_is_one_line(shell, home, folder):
    assert folder in shell("report", folder).line


def test_a_report_without_a_folder_is_one_line(shell, home):
    assert shell("report").line
    assert "--dark" in shell("report", "text", "--dark").line


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--tokens", "0"), "new is 0"),
        (("--prompt", ""), "prompt"),
        (("--temperature", "-1"), "temperature=-1"),
        (("--top-k", "0"), "top_k=0"),
        (("--top-p", "1.5"), "top_p=1.5"),
        (("--tokens", "many"), "--tokens"),
    ],
)
def test_generation_refuses_what_it_cannot_draw(shell, finished, arguments, part):
    assert part in shell("generate", "tiny.py", "--only", "rope", *arguments).line


@pytest.mark.parametrize(
    ("error", "part", "code"),
    [
        (KeyboardInterrupt(), "the same command goes on", 75),
        (Diverged("the loss is nan"), "the loss is nan", 3),
        (OSError(28, "No space left on device", "x.json"), "x.json: No", 74),
        (InputError("given wrongly"), "wrongly", 2),
        (StorageError("cannot write"), "cannot write", 74),
        (Busy("in use"), "in use", 75),
        (MemoryError(), "memory", 2),
    ],
)
def test_every_end_is_one_line_and_a_code_for_a_scheduler(shell, home, monkeypatch, error, part, code):
    def fail(arguments):
        raise error

    monkeypatch.setattr(train_command, "command", fail)
    answer = shell("train", "tiny.py")
    assert part in answer.line and answer.code == code


def test_a_bug_is_not_dressed_up_as_a_mistake(shell, home, monkeypatch):
    def fail(arguments):
        raise ZeroDivisionError

    monkeypatch.setattr(train_command, "command", fail)
    with pytest.raises(ZeroDivisionError):
        shell("train", "tiny.py")
