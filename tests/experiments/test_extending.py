"""A published model extended without training: from a folder and a text to the page, and every mistake in one line."""

from __future__ import annotations

import json
import shutil

import pytest

from experiments import cli, run as experiments_run
from posjax.errors import InputError
from posjax.evaluation import Extrapolation
from posjax.interop import describe, pretrained, write
from posjax.models import build
from posjax.report import by_variant
from posjax.training import Train
from tests.data.tokenizers_of_tests import by_characters
from tests.test_configs import ROOT

CONFIG = ROOT / "configs/extend_published.py"
RECORD = ROOT / "experiments/results/extend_published"
LENGTH = 16
SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 40}
LLAMA = {"model_type": "llama", "vocab_size": 300, "rope_theta": 1e4, "max_position_embeddings": LENGTH, **SIZES}
SMALL = ("--evaluation.multiples", "1", "2", "--evaluation.windows", "2")


@pytest.fixture(scope="module")
def made_once(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    write(build(describe(LLAMA).required(), 300, 0), folder / "tiny", config=LLAMA)
    by_characters(folder).rename(folder / "tiny" / "tokenizer.json")
    (folder / "story.txt").write_text("the old theatre stood there. " * 12)
    return folder


@pytest.fixture
def home(made_once, tmp_path, monkeypatch):
    """A working directory with a model of 16 positions, and a text of its domain."""
    shutil.copytree(made_once, tmp_path / "home")
    monkeypatch.chdir(tmp_path / "home")
    return tmp_path / "home"


def extend(shell, *more, checkpoint="tiny", text="story.txt"):
    return shell("run", CONFIG, "--checkpoint", checkpoint, "--text", text, "--work", "out", *SMALL, *more)


def read(home) -> dict:
    """The results by variant, as reports read them."""
    [found] = by_variant.trees(json.loads((home / "out/tiny/results.json").read_text()))
    return found


@pytest.mark.exhaustive
def test_a_folder_and_a_text_become_a_page(shell, home):
    answer = extend(shell)
    assert answer.code == 0 and "[1/1] tiny: reading tiny" in answer.out, (answer.out, answer.err)
    results = read(home)
    names = [variant["name"] for variant in results["variants"]]
    assert names[:3] == ["raw", "linear", "ntk"] and {"self-extend", "rerope", "windowed"} <= set(names)
    assert results["trained_length"] == LENGTH and results["tokens"] == 0 and results["seconds"]["train"] == 0
    assert all(set(variant["lengths"]) == {"1", "2"} for variant in results["variants"])
    # At the trained length all are the model as it was published.
    assert len({variant["lengths"]["1"]["loss"] for variant in results["variants"]}) == 1
    losses = {variant["lengths"]["2"]["loss"] for variant in results["variants"]}
    assert len(losses) == len(names)
    page = (home / "out/report.html").read_text()
    for said in ("Self-Extend", "ReRoPE", "windowed control", "tiny came trained"):
        assert said in page
    assert "0 tokens of training" not in page and "--checkpoint tiny" in page
    assert not (home / "out/tiny/checkpoints").exists()
    assert "done before" in extend(shell).out
    # Measured anew, the numbers are the same ones.
    given = ("--checkpoint", "tiny", "--text", "story.txt", "--work", "out", *SMALL)
    assert shell("evaluate", CONFIG, *given).code == 0
    again = read(home)
    assert again["variants"] == results["variants"]


@pytest.mark.exhaustive
def test_a_folder_that_changed_is_told(shell, home):
    assert extend(shell, "--evaluation.extensions", "linear").code == 0
    other = build(describe(LLAMA).required(), 300, 1)
    shutil.move("tiny/tokenizer.json", "kept.json")
    write(other, home / "tiny", config=LLAMA, overwrite=True)
    shutil.move("kept.json", "tiny/tokenizer.json")
    line = extend(shell, "--evaluation.extensions", "linear").line
    assert "belongs to another config: train.content is" in line and "--work" in line


def test_files_that_change_between_command_and_reading_are_told(home):
    weights = pretrained("tiny")
    edited = json.loads((home / "tiny/config.json").read_text()) | {"rope_theta": 5e5}
    (home / "tiny/config.json").write_text(json.dumps(edited))
    with pytest.raises(InputError, match="holds other files than when it was named"):
        weights.read()


def test_every_mistake_is_one_line(shell, home):
    assert "there is no folder none" in extend(shell, checkpoint="none").line
    (home / "empty").mkdir()
    assert "has no config.json" in extend(shell, checkpoint="empty").line
    assert "1 folders and 0 texts" in shell("run", CONFIG, "--checkpoint", "tiny", "--text").line
    missing = shell("run", CONFIG, "--text", "story.txt").line
    assert "checkpoint" in missing and "required" in missing
    assert "nearest is --checkpoint" in extend(shell, "--chekpoint", "tiny").line
    assert "nothing.txt" in extend(shell, text="nothing.txt").line
    assert "no token '<start>'" in extend(shell, "--begin", "<start>").line
    assert "length" in extend(shell, "--train.length", 0).line


def test_a_text_of_another_vocabulary_is_refused_before_anything_is_measured(shell, home):
    narrow = {**LLAMA, "vocab_size": 40}
    write(build(describe(narrow).required(), 40, 0), home / "narrow", config=narrow)
    shutil.copy("tiny/tokenizer.json", "narrow/tokenizer.json")
    line = extend(shell, checkpoint="narrow").line
    assert "knows 40: read it by the model's own tokenizer.json" in line and not (home / "out").exists()


def test_another_architecture_than_the_folders_is_refused(shell, home):
    line = extend(shell, "--model.decoder.pattern.0.sublayers.0.encoding.base", 500).line
    assert "model is another one than tiny has" in line


def test_a_model_that_tells_no_length_needs_one(home):
    untold = {name: value for name, value in LLAMA.items() if name != "max_position_embeddings"}
    write(build(describe(untold).required(), 300, 0), home / "untold", config=untold)
    with pytest.raises(InputError, match="give length="):
        pretrained("untold")
    assert pretrained("untold", 32).length == 32


def test_options_of_a_config_are_told_by_its_help(shell, home):
    told = shell("run", CONFIG, "--help", "--checkpoint", "tiny", "--text", "story.txt")
    assert told.code == 0 and "--checkpoint" in told.out and "--evaluation.windows" in told.out


def test_what_trains_nothing_is_not_made_to_train_by_a_smoke_test(home):
    given = [str(CONFIG), "--checkpoint", "tiny", "--text", "story.txt", *SMALL]
    _, request = cli.read(experiments_run.RunOptions, "experiments.run", given)
    small = experiments_run.smaller(request.experiment.runs[0])
    assert not isinstance(small.train, Train)
    [evaluation] = small.evaluations
    assert isinstance(evaluation, Extrapolation) and evaluation.windows == 2


@pytest.mark.parametrize("path", sorted(RECORD.glob("*/results.json")), ids=lambda path: path.parent.name)
def test_the_page_tells_the_results_of_record(path):
    page = (ROOT / "docs/published.md").read_text()
    found = json.loads(path.read_text())
    at = {}
    for variant in found["variants"]:
        losses = [point["loss_per_token"] for point in variant["lengths"].values()]
        at[variant["name"]] = losses
        assert f"| {variant['name']} | " + " | ".join(f"{loss:.3f}" for loss in losses) + " |" in page
    extensions = {name: losses for name, losses in at.items() if name not in ("raw", "windowed")}
    for column in range(1, len(found["lengths"])):
        best = sorted(extensions, key=lambda name, column=column: extensions[name][column])
        assert set(best[:2]) == {"self-extend", "rerope"}
        # Equal at 2x, to what windows of this number tell.
        assert at["windowed"][column] < extensions[best[0]][column] + 1e-3
    assert at["linear"][1] > at["ntk"][1]
