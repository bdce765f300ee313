"""Every config says what it claims, loads, and works for two steps of everything."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path

import pytest

from experiments import loading, run as experiments_run
from posjax.runs import Experiment, Run
from tests.training.tiny import optax_promotes  # noqa: F401

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted(path for path in (ROOT / "configs").glob("*.py") if path.name != "__init__.py")
HEADER = {
    "Question": "?",
    "Papers": "",
    "Command": "python -m experiments.",
    "Costs": "minute|hour|second",
    "Expect": r"\d",
}
"""What a header names, and what the line must hold."""

OF_A_MODEL = "extend_published"
"""The config that needs a published model, which `tests/experiments/test_extending.py` makes and runs it with."""

every_config = pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
ready = [path for path in CONFIGS if path.stem != OF_A_MODEL]
every_ready_config = pytest.mark.parametrize("path", ready, ids=lambda path: path.stem)


def missing(source: str) -> list[str]:
    """The entries that a config's header lacks, or that say nothing."""
    header = ast.get_docstring(ast.parse(source)) or ""
    entries = re.split(r"^(?=\w+ {2,}\S)", header, flags=re.MULTILINE)
    found = {entry.split()[0]: entry for entry in entries[1:]}
    wanted = {name: re.escape(part) if name in ("Question", "Command") else part for name, part in HEADER.items()}
    return [name for name, part in wanted.items() if name not in found or not re.search(part, found[name])]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A working directory that is nobody's, so that nothing is written beside the sources."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_there_are_configs():
    assert "quickstart" in [path.stem for path in CONFIGS]


@every_config
def test_the_header_states_claim_command_cost_and_expectation(path):
    source = path.read_text()
    assert missing(source) == []
    assert f"python -m experiments.run configs/{path.name}" in source


def test_an_incomplete_header_is_noticed():
    source = (ROOT / "configs/quickstart.py").read_text()
    assert missing('"""Soon."""') == list(HEADER)
    for name in HEADER:
        assert missing(re.sub(rf"^{name} .*$", "", source, flags=re.MULTILINE)) == [name]


@every_ready_config
def test_it_loads_and_its_text_is_kept(path):
    experiment, source = loading.load(path)
    assert isinstance(experiment, Experiment)
    assert experiment.title and experiment.question.endswith("?") and experiment.runs
    assert source == path.read_text()
    again, _ = loading.load(path)
    assert again == experiment


def of_each_kind(path: Path) -> list[Run]:
    """One run for each way in which a config's runs are made: seeds and encodings are what other tests iterate over."""
    found: dict[tuple, Run] = {}
    for run in loading.load(path)[0].runs:
        kind = (type(run.train), type(run.data), *(type(evaluation) for evaluation in run.evaluations))
        found.setdefault(kind, run)
    return list(found.values())


LISTED = ("quickstart",)
"""Whose list is always looked at: a suite's dozens of runs take seconds to read with their options."""


@pytest.mark.parametrize(
    "path",
    [path if path.stem in LISTED else pytest.param(path, marks=pytest.mark.exhaustive) for path in ready],
    ids=lambda path: path.stem,
)
def test_list_shows_every_run_and_writes_nothing(path, home, capsys):
    some = of_each_kind(path)
    experiments_run.command([str(path), "--list", "--only", *(run.name for run in some)])
    shown = capsys.readouterr().out
    for run in some:
        assert run.name in shown
        assert f"{experiments_run.parameters(run):,}" in shown
    assert "Costs" in shown
    assert os.listdir(home) == []


LARGE = "scale"
"""The config for an accelerator, of which two steps take minutes here."""


@pytest.mark.exhaustive
@pytest.mark.parametrize("path", [path for path in ready if path.stem != LARGE], ids=lambda path: path.stem)
def test_smoke_does_two_steps_of_everything(path, home, capsys, monkeypatch):
    folders = []
    monkeypatch.setattr(
        experiments_run,
        "finish",
        lambda folder, console, keep, real=experiments_run.finish: (
            folders.append(sorted(p.relative_to(folder).as_posix() for p in folder.glob("*/results.json"))),
            real(folder, console, keep),
        ),
    )
    runs = of_each_kind(path)
    experiments_run.command([str(path), "--smoke", "--only", *(run.name for run in runs)])
    shown = capsys.readouterr().out
    assert folders == [sorted(f"{run.name}/results.json" for run in runs)]
    assert f"smoke: {len(runs)} runs worked" in shown
    assert all(run.label in shown for run in runs)
    assert os.listdir(home) == []
