"""A tiny config and its corpus in a folder of its own, and commands called as a shell would."""

from __future__ import annotations

import importlib
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from experiments import cli
from tests.training.tiny import corpus, optax_promotes, patch_optax  # noqa: F401


@dataclass(frozen=True)
class Answer:
    """What a command left: its exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The one line of a refusal."""
        assert self.code in (2, 3, 74, 75), (self.code, self.out, self.err)
        assert self.err.startswith("posjax: ") and self.err.count("\n") == 1 and self.err.endswith("\n"), self.err
        assert "Traceback" not in self.out + self.err
        return self.err.removeprefix("posjax: ").rstrip()


@pytest.fixture
def shell(capsys, monkeypatch):
    """`shell("run", "tiny.py", "--list")` is `python -m experiments.run tiny.py --list`."""

    def call(program: str, *arguments: object) -> Answer:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", [program, *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main(importlib.import_module(f"experiments.{program}").command)
        said = capsys.readouterr()
        return Answer(stop.value.code, said.out, said.err)

    return call


def make_home(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    corpus(folder / "text")
    shutil.copy(Path(__file__).with_name("tiny_config.py"), folder / "tiny.py")
    return folder


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A working directory that holds `tiny.py` and its text."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))  # To which a config adds its folder.
    return make_home(tmp_path)


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory):
    """A home where `experiments.run tiny.py` ended, made once."""
    folder = make_home(tmp_path_factory.mktemp("finished") / "home")
    run = importlib.import_module("experiments.run")
    with pytest.MonkeyPatch.context() as patch:
        patch_optax(patch)
        patch.chdir(folder)
        run.command(["tiny.py"])
    return folder


@pytest.fixture
def finished(finished_once, tmp_path, monkeypatch):
    """A copy of that home to work in. The text stays where the config of the runs says it is."""
    folder = tmp_path / "copy"
    shutil.copytree(finished_once / "runs", folder / "runs")
    (folder / "tiny.py").write_text(
        (finished_once / "tiny.py")
        .read_text()
        .replace('Path(__file__).parent / "text"', f'Path({str(finished_once)!r}) / "text"')
    )
    monkeypatch.chdir(folder)
    return folder
