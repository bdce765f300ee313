"""`metrics.jsonl`: whole lines, in order, once each, whatever ended the process that wrote them."""

from __future__ import annotations

import contextlib
import functools
import json
import sys
import types

import pytest

from posjax import Rope
from posjax.errors import InputError, StorageError
from posjax.lines import read
from posjax.training import metrics
from posjax.training.metrics import Metrics


def write(path, first, last, after=0):
    with Metrics(path, after) as lines:
        for step in range(first, last + 1):
            lines.write(step, {"loss": step / 10})


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, 1, 3)
    assert list(read(path).steps) == [{"step": 1, "loss": 0.1}, {"step": 2, "loss": 0.2}, {"step": 3, "loss": 0.3}]
    assert read(tmp_path / "none.jsonl").steps == ()


def test_each_line_is_there_before_the_file_is_closed(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with Metrics(path, 0) as lines:
        lines.write(1, {"loss": 1.0})
        assert json.loads(path.read_text()) == {"step": 1, "loss": 1.0}


def test_starting_again_drops_what_was_written_past_the_checkpoint(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, 1, 5)
    before = path.read_bytes()
    write(path, 4, 6, after=3)
    assert path.read_bytes().startswith(before)  # Nothing is written in place.
    assert [line["step"] for line in read(path).steps] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("cut", ['{"step": 4, "lo', '{"step": 4, "loss": 0.4}', "{", '{"step": 4, "loss": {}'])
def test_a_line_that_a_kill_cut_off_is_dropped(tmp_path, cut):
    path = tmp_path / "metrics.jsonl"
    write(path, 1, 3)
    path.write_text(path.read_text() + cut)
    assert [line["step"] for line in read(path).steps] == [1, 2, 3]
    write(path, 4, 5, after=3)
    assert [line["step"] for line in read(path).steps] == [1, 2, 3, 4, 5]
    assert read(path).damaged == ()


@pytest.mark.parametrize("held", [b"", b"\n", b"\n\n", b'{"step": 1'])
def test_a_file_without_a_whole_line_is_empty(tmp_path, held):
    (tmp_path / "metrics.jsonl").write_bytes(held)
    lines = read(tmp_path / "metrics.jsonl")
    assert lines.steps == () and lines.damaged == ()


def test_damage_in_the_middle_is_told_by_its_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, 1, 4)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b'{"step": 2, "lo\xff\n' + lines[2] + b'{"loss": 1}\n' + lines[3])
    assert [line["step"] for line in read(path).steps] == [1, 3, 4] and read(path).damaged == (2, 4)
    assert read(path).missing(4) == 1


def test_a_full_disk_takes_no_line_away(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, 1, 2)
    lines = Metrics(path, 2)
    before = path.read_bytes()

    class Full:
        def write(self, text):
            raise OSError(28, "No space left on device")

    with contextlib.closing(lines._file):
        lines._file = Full()
        with pytest.raises(StorageError, match=r"metrics.jsonl .No space left"):
            lines.write(3, {"loss": 1.0})
    assert path.read_bytes() == before


@pytest.mark.parametrize("sink", ["tensorboard", "wandb"])
def test_a_sink_that_is_not_installed_says_how_to_get_it(tmp_path, monkeypatch, sink):
    monkeypatch.setitem(__import__("sys").modules, {"tensorboard": "tensorboardX", "wandb": "wandb"}[sink], None)
    with pytest.raises(InputError, match=rf"posjax\[{sink}\]"):
        Metrics(tmp_path / "metrics.jsonl", 0, (sink,))


def test_a_sink_gets_the_same_numbers(tmp_path, monkeypatch):
    class Recorder(list):
        def write(self, step, numbers):
            self.append((step, numbers))

        def close(self):
            self.append("closed")

    recorder = Recorder()
    monkeypatch.setattr(metrics, "_sink", lambda name, session: recorder)
    with Metrics(tmp_path / "metrics.jsonl", 0, ("wandb",)) as lines:
        lines.write(1, {"loss": 0.5})
    assert recorder == [(1, {"loss": 0.5}), "closed"]


class Recorded(types.ModuleType):
    """A stand-in for a sink's package: every call with what it was given."""

    def __init__(self, name, maker):
        super().__init__(name)
        self.calls = []
        setattr(self, maker, lambda *given, **named: self.noted(maker, *given, **named) or self.made())

    def noted(self, name, /, *given, **named):
        self.calls.append((name, given, named))

    def made(self):
        record = types.SimpleNamespace()
        for name in ("add_scalar", "add_text", "log", "close", "finish"):
            setattr(record, name, functools.partial(self.noted, name))
        return record


def sessions(monkeypatch, tmp_path, sink, module, maker):
    """What a sink's package is told by a run that is killed at step 3, and goes on from step 2."""
    package = Recorded(module, maker)
    monkeypatch.setitem(sys.modules, module, package)
    path = tmp_path / "rope" / "metrics.jsonl"
    path.parent.mkdir()
    for after, steps in ((0, (1, 2, 3)), (2, (3,))):
        with Metrics(path, after, (sink,), "f00d", {"model": Rope(base=500.0), "steps": 3}) as metrics:
            for step in steps:
                metrics.write(step, {"loss": step / 10})
    return package.calls


def test_tensorboard_gets_the_config_and_one_curve(tmp_path, monkeypatch):
    calls = sessions(monkeypatch, tmp_path, "tensorboard", "tensorboardX", "SummaryWriter")
    folder = str(tmp_path / "rope/tensorboard")
    makers = [call for call in calls if call[0] == "SummaryWriter"]
    # What lies at that step and behind it is not shown any more.
    assert makers == [("SummaryWriter", (folder,), {"purge_step": step}) for step in (1, 3)]
    texts = [given for name, given, _ in calls if name == "add_text"]
    assert [given[0] for given in texts] == ["config"] * 2 and all(
        line[:4] == "    " for line in texts[0][1].split("\n")
    )
    assert json.loads(texts[0][1])["model"]["base"] == 500.0
    scalars = [given for name, given, _ in calls if name == "add_scalar"]
    assert scalars == [("loss", step / 10, step) for step in (1, 2, 3, 3)]


def test_wandb_gets_the_config_and_goes_on_in_the_same_run(tmp_path, monkeypatch):
    calls = sessions(monkeypatch, tmp_path, "wandb", "wandb", "init")
    (first, again) = (named for name, _, named in calls if name == "init")
    assert first == again
    assert (first["id"], first["resume"], first["name"]) == ("rope-f00d", "allow", "rope")
    assert first["config"]["model"] == {**first["config"]["model"], "is": "Rope", "base": 500.0}
    logged = [(given, named) for name, given, named in calls if name == "log"]
    assert logged == [(({"loss": step / 10},), {"step": step}) for step in (1, 2, 3, 3)]
    assert [name for name, _, _ in calls if name == "finish"] == ["finish"] * 2
