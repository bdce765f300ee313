"""What a run meets: other processes, readers that go away, runs that diverge, and encodings of a config's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from experiments import train
from tests.cases import first_of, wide
from tests.experiments.conftest import make_home
from tests.training.tiny import patch_optax

ROOT = Path(__file__).resolve().parents[2]

OWN = """from __future__ import annotations

from dataclasses import dataclass

import neighbour
import tiny
from posjax import Encoding, Rope, chain
from posjax.runs import Experiment


@dataclass(frozen=True)
class Mine(Encoding):
    \"\"\"An encoding of this config's own.\"\"\"

    factor: float = neighbour.FACTOR

    def rotate(self, params, x, positions, role):
        return x * self.factor


def experiment():
    return Experiment("Own", "?", (tiny.run("mine", chain(Rope(), Mine())),))
"""


def command(name, *arguments, **more):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return [sys.executable, "-m", f"experiments.{name}", *arguments], {"env": environment, **more}


def test_a_config_defines_an_encoding_and_imports_its_neighbours(shell, home):
    (home / "own.py").write_text(OWN)
    (home / "neighbour.py").write_text("FACTOR = 2.0")
    answer = shell("run", "own.py", "--train.steps", "2")
    assert answer.code == 0, answer.err
    assert "factor=2.0" in json.loads((home / "runs/own/mine/run.json").read_text())["config"]


EDITS = (
    ("own.py", "x * self.factor", "x * self.factor + 1"),
    ("own.py", "SHIFT = 0.0", "SHIFT = 1.0"),
    ("own.py", "return x + SHIFT", "return x - SHIFT"),
    ("neighbour.py", "FACTOR = 2.0", "FACTOR = 3.0"),
    ("own.py", "{'a': 1.0}", "{'a': 2.0}"),
    ("own.py", "[0.0, {1, 2}]", "[0.0, {1, 3}]"),
    ("own.py", "NOTHING = None", "NOTHING = b'x'"),
    ("own.py", "lambda x: x - 2", "lambda x: x - 3"),
    ("own.py", "lambda x: x - 5", "lambda x: x - 6"),
    ("own.py", "lambda x: x - 7", "lambda x: x - 8"),
    ("own.py", "partial(jnp.add, 1)", "partial(jnp.add, 2)"),
    ("own.py", "np.arange(3)", "np.arange(4)"),
    ("own.py", "made(1.0)", "made(2.0)"),
    ("own.py", "return x * by", "return x + by"),
)

VALUES = """from functools import partial
import jax.numpy as jnp
import numpy as np

SHIFT = 0.0
TABLE = {'a': 1.0}
STEPS = [0.0, {1, 2}]
NOTHING = None
first = lambda x: x - 1
second = (
    lambda x: x - 2
)
third = lambda x: (
    lambda x: x - 5)(x)
HELD = {'minus': [lambda x: x - 7]}
ADDED = partial(jnp.add, 1)
ROWS = np.arange(3)


def made(by):
    def scaled(x):
        return x * by

    return scaled


MADE = made(1.0)


def shifted(x):
    TABLE, STEPS, NOTHING, first, second, third, HELD, ADDED, ROWS, MADE
    return x + SHIFT


"""


def make_own(home: Path) -> Path:
    """A config that defines an encoding, and names a function, a value and a neighbour for it."""
    text = OWN.replace("return x * self.factor", "return shifted(x * self.factor * neighbour.FACTOR)")
    text = text.replace("factor: float = neighbour.FACTOR", "factor: float = 2.0")
    text = text.replace("@dataclass", VALUES + "@dataclass", 1)
    (home / "own.py").write_text(text)
    (home / "neighbour.py").write_text("FACTOR = 2.0")
    return home


@pytest.fixture
def own(home):
    return make_own(home)


def forgotten():
    """Modules of a config, which a process of its own would not know."""
    for name in ("configs.own", "neighbour"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def own_once(tmp_path_factory):
    """A home whose own encoding was trained, once for all edits: each is refused, or finds everything done."""
    folder = make_own(make_home(tmp_path_factory.mktemp("own") / "home"))
    with pytest.MonkeyPatch.context() as patch:
        patch_optax(patch)
        patch.chdir(folder)
        patch.setattr(sys, "path", list(sys.path))
        forgotten()
        train.command(["own.py", "--train.steps", "2"])
    return folder


@pytest.fixture
def edited(own_once, monkeypatch):
    """`edited("own.py", "was", "now")` changes a file there until the test ends."""
    monkeypatch.chdir(own_once)
    monkeypatch.setattr(sys, "path", list(sys.path))
    kept = {path: path.read_text() for path in own_once.glob("*.py")}

    def edit(file: str, *changes: tuple[str, str]) -> None:
        text = (own_once / file).read_text()
        for was, now in changes:
            assert was in text
            text = text.replace(was, now)
        forgotten()
        (own_once / file).write_text(text)

    yield edit
    for path, text in kept.items():
        path.write_text(text)


@first_of(("file", "was", "now"), EDITS, ids=[now for _, _, now in EDITS], keep=2)
def test_an_encoding_that_was_edited_is_another(shell, edited, file, was, now):
    edited(file, (was, now))
    line = shell("generate", "own.py", "--train.steps", "2").line
    assert "sublayers.0.encoding.parts.1 is a Mine there whose source differs from the one here" in line


def test_an_encoding_with_another_comment_is_the_same(shell, edited):
    edited("own.py", ("return x + SHIFT", "return x + SHIFT  # said"), ("An enc", "One enc"))
    before = Path("runs/own/mine/metrics.jsonl").read_bytes()
    assert shell("train", "own.py", "--train.steps", "2").code == 0
    assert Path("runs/own/mine/metrics.jsonl").read_bytes() == before


def test_a_config_is_read_from_its_text_whatever_python_compiled(shell, own, monkeypatch):
    """An edit of the same size within the same second, which Python's own cache takes for none."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    (own / "same.py").write_text((own / "tiny.py").read_text().replace('"Tiny"', "neighbour.TITLE"))
    (own / "same.py").write_text("import neighbour\n" + (own / "same.py").read_text())
    said = []
    for title in ("One", "Two"):
        for name, text in (("neighbour.py", f"TITLE = {title!r}"), ("same.py", (own / "same.py").read_text())):
            (own / name).write_text(
                text.replace("AdamW(learning_rate=1e-2)", f"AdamW(learning_rate={len(said) + 1}e-2)")
            )
            os.utime(own / name, (10**9, 10**9))
        sys.modules.pop("neighbour", None)
        said.append(shell("run", "same.py", "--list").out.split(":")[0])
    assert said == ["One", "Two"]


@pytest.fixture
def diverging(home):
    """A home whose config has a run that diverges before one that does not."""
    config = home / "tiny.py"
    config.write_text(
        config.read_text()
        .replace(
            'run("rope", Rope())',
            'replace(run("rope", Rope()), train=replace(TRAIN, optimizer=AdamW(learning_rate=1e30)))',
        )
        .replace("from pathlib", "from dataclasses import replace\nfrom pathlib")
    )
    return home


def test_training_goes_on_past_a_run_that_diverges(shell, diverging):
    answer = shell("train", "tiny.py")
    assert answer.code == 3 and "alibi: trained to step 4" in answer.out
    assert "of 2 runs 1 diverged, rope: the others are trained" in answer.line


def test_a_run_that_diverged_is_known_by_every_command(shell, diverging):
    assert shell("train", "tiny.py", "--only", "rope").code == 3
    why = json.loads((diverging / "runs/tiny/rope/diverged.json").read_text())["reason"]
    lines = (diverging / "runs/tiny/rope/metrics.jsonl").read_bytes()
    for program in ("train", "run"):
        answer = shell(program, "tiny.py", "--only", "rope")
        assert answer.code == 3 and why in answer.out
    # Nothing was trained again.
    assert (diverging / "runs/tiny/rope/metrics.jsonl").read_bytes() == lines


@pytest.mark.exhaustive
def test_a_run_that_diverges_is_a_row_and_the_others_go_on(shell, diverging):
    home = diverging
    for told in ("[1/2] rope: training", "[2/2] alibi: done before"):
        answer = shell("run", "tiny.py")
        assert answer.code == 3 and told in answer.out
        assert "of 2 runs 1 diverged, rope: the others are done" in answer.line
        assert "Diverged: rope, " in answer.out and "ALIBI" in answer.out
    assert not (home / "runs/tiny/rope/results.json").exists() and (home / "runs/tiny/alibi/results.json").exists()
    assert "Diverged: rope, " in (home / "runs/tiny/report.html").read_text()


@pytest.mark.exhaustive
@pytest.mark.slow
def test_two_equal_commands_and_a_reader(home, finished_once):
    """The second is told who holds the folder, a reader changes nothing, and the first ends as if alone."""
    again, more = command(
        "run", "tiny.py", "--only", "rope", cwd=home, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    look, _ = command("generate", "tiny.py", "--only", "rope")
    slow = (
        "import time; from posjax.data import Batches; real = Batches.rows; "
        "Batches.rows = lambda self, *given: (time.sleep(2), real(self, *given))[1]; "
    )
    run = f"import sys; sys.argv = ['run', 'tiny.py', '--only', 'rope']; from experiments import cli, run; {slow}"
    with subprocess.Popen([sys.executable, "-c", f"{run}cli.main(run.command)"], **more) as first:
        lock = home / "runs/tiny/rope/owner.lock"
        while not (lock.exists() and lock.read_text()):
            assert first.poll() is None, first.stderr.read()
        second = subprocess.run(again, **more, timeout=120, check=False)
        reader = subprocess.run(look, **more, timeout=120, check=False)
        _, err = first.communicate(timeout=120)
    assert first.returncode == 0, err
    if second.returncode != 0:  # Else the first had ended before it looked.
        assert second.returncode == 75 and f"is in use by process {first.pid} on " in second.stderr
        assert second.stderr.count("\n") == 1
    assert reader.returncode in (0, 2) and "Traceback" not in reader.stderr
    mine, alone = (json.loads((folder / "runs/tiny/rope/results.json").read_text()) for folder in (home, finished_once))
    assert {**mine, "seconds": 0} == {**alone, "seconds": 0}


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_reader_of_the_output_that_goes_away_loses_nothing(home):
    arguments, more = command("run", "tiny.py", "--only", "rope", cwd=home, stderr=subprocess.PIPE, text=True)
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(arguments, **more, stdout=writing, timeout=120, check=False)
    os.close(writing)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert (home / "runs/tiny/report.html").exists()


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is always full")
def test_a_full_disk_behind_the_output_loses_nothing(home):
    arguments, more = command("run", "tiny.py", "--only", "rope", cwd=home, stderr=subprocess.PIPE, text=True)
    with open("/dev/full", "w") as full:
        done = subprocess.run(arguments, **more, stdout=full, timeout=120, check=False)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert (home / "runs/tiny/report.html").exists()


@pytest.mark.exhaustive
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is always full")
def test_generated_text_that_a_full_disk_did_not_take_is_an_error(finished):
    arguments, more = command("generate", "tiny.py", "--only", "rope", "--tokens", "2", cwd=finished, text=True)
    with open("/dev/full", "w") as full:
        done = subprocess.run(arguments, **more, stdout=full, stderr=subprocess.PIPE, timeout=120, check=False)
    assert done.returncode == 74 and done.stderr.startswith("posjax: cannot write to standard output"), done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("more", "code"), [pytest.param("--list", 0, marks=pytest.mark.exhaustive), ("--train.steps 0", 2), ("", 0)]
)
def test_closed_streams_get_no_text_into_files(home, more, code):
    arguments, given = command("run", "tiny.py", "--only", "rope", *more.split(), cwd=home, timeout=120)
    shell = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *arguments]
    assert subprocess.run(shell, **given, check=False).returncode == code
    if not more:
        lines = (home / "runs/tiny/rope/metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4]


@pytest.mark.slow
@pytest.mark.parametrize("variable", wide(["JAX_ENABLE_X64", "JAX_DEFAULT_MATMUL_PRECISION"], ["JAX_ENABLE_X64"]))
def test_a_setting_that_jax_cannot_read_is_one_line(home, variable):
    arguments, more = command("run", "tiny.py", "--list", cwd=home, capture_output=True, text=True, timeout=120)
    more["env"][variable] = "abc"
    done = subprocess.run(arguments, **more, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("posjax: ") and "set that variable otherwise" in done.stderr


def test_a_device_without_memory_is_one_line(shell, home, monkeypatch):
    def too_much(*_, **__):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 10 bytes.\nmore\nlines")

    monkeypatch.setattr("posjax.stages.training.fit", too_much)
    line = shell("run", "tiny.py", "--only", "rope").line
    assert "Out of memory allocating 10 bytes" in line and "lower the batch" in line


def test_a_config_whose_name_is_no_text_is_one_line(shell, home):
    name = os.fsdecode(b"t\xff.py")
    (home / "tiny.py").rename(home / name)
    assert "'t\\udcff.py'" in shell("run", name).line


def test_metrics_that_are_no_file_are_one_line(shell, home):
    folder = home / "runs/tiny/rope"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "metrics.jsonl")
    assert "metrics.jsonl is no file" in shell("run", "tiny.py", "--only", "rope").line


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize(
    "more", [{"PYTHONIOENCODING": "latin-1"}, pytest.param({"COLUMNS": "0"}, marks=pytest.mark.exhaustive)], ids=str
)
def test_odd_surroundings_are_no_traceback(finished, more):
    arguments, given = command("report", "runs/tiny", cwd=finished, capture_output=True, timeout=120)
    given["env"] |= more
    done = subprocess.run(arguments, **given, check=False)
    assert done.returncode == 0 and b"ROPE" in done.stdout and b"Traceback" not in done.stderr, done.stderr


def test_names_and_labels_belong_to_the_config(shell, home):
    assert "--name cannot be given" in shell("run", "tiny.py", "--only", "rope", "--name", "x").line
