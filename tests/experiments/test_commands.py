"""The commands on a tiny config: idempotent, typed, and each alone."""

from __future__ import annotations

import json
import re
import shlex

import pytest

from experiments import cli, loading
from experiments.run import parameters, spelled, tokens, work
from posjax import Learned, NoPE
from tests.data.tokenizers_of_tests import by_characters
from tests.experiments import tiny_config

ATTENTION = "--model.decoder.pattern.0.sublayers.0"
"""The options of the first layer's attention."""


def tree(folder, kind="*"):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob(kind) if p.is_file()}


def test_a_run_leaves_everything_that_was_asked(finished):
    work = finished / "runs/tiny"
    for name in ("rope", "alibi"):
        assert {p.name for p in (work / name).iterdir()} == {
            "run.json",
            "metrics.jsonl",
            "checkpoints",
            "results.json",
            "owner.lock",
        }
        lines = [json.loads(line) for line in (work / name / "metrics.jsonl").read_text().splitlines()]
        training = json.loads((work / name / "run.json").read_text())["training"]
        assert {line["run"] for line in lines} == {training}
        assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert "<html" in (work / "report.html").read_text()
    asked = json.loads((work / "experiment.json").read_text())
    assert asked["runs"] == ["rope", "alibi"] and asked["command"] == "python -m experiments.run tiny.py"


@pytest.mark.exhaustive
def test_run_again_does_nothing_again(shell, finished):
    work = finished / "runs/tiny"
    before = tree(work, "results.json") | tree(work, "metrics.jsonl") | tree(work, "run.json")
    times = {p: p.stat().st_mtime_ns for p in work.rglob("results.json")}
    answer = shell("run", "tiny.py")
    assert answer.code == 0 and answer.err == ""
    assert answer.out.count("done before") == 2 and "training" not in answer.out.split("done before")[0]
    assert tree(work, "results.json") | tree(work, "metrics.jsonl") | tree(work, "run.json") == before
    assert {p: p.stat().st_mtime_ns for p in work.rglob("results.json")} == times


def results(path):
    """What was measured, to the digit, and the seconds of training; how long evaluating took differs each time."""
    found = json.loads(path.read_text())
    assert found["seconds"].pop("evaluate") > 0
    return json.dumps(found)


@pytest.mark.exhaustive
def test_results_that_were_lost_come_back_to_the_digit(shell, finished):
    path = finished / "runs/tiny/rope/results.json"
    before = results(path)
    path.unlink()
    metrics = (finished / "runs/tiny/rope/metrics.jsonl").read_bytes()
    answer = shell("run", "tiny.py")
    assert answer.code == 0 and answer.out.count("done before") == 1
    assert results(path) == before
    assert (finished / "runs/tiny/rope/metrics.jsonl").read_bytes() == metrics


def test_evaluate_alone_gives_the_same_results(shell, finished):
    path = finished / "runs/tiny/alibi/results.json"
    before = results(path)
    path.unlink()
    assert shell("evaluate", "tiny.py", "--only", "alibi").code == 0
    assert results(path) == before


def test_train_alone_trains_and_does_not_evaluate(shell, home):
    answer = shell("train", "tiny.py", "--only", "alibi", "--train.steps", "2", "--work", "w")
    assert answer.code == 0 and "alibi: trained to step 2" in answer.out
    assert (home / "w/alibi/checkpoints/2").is_dir()
    assert not list(home.rglob("results.json")) and not (home / "w/rope").exists()


@pytest.mark.exhaustive
def test_report_alone_writes_the_page_anew(shell, finished):
    page = finished / "runs/tiny/report.html"
    page.unlink()
    answer = shell("report", "runs/tiny")
    assert answer.code == 0 and "ROPE" in answer.out and "ALIBI" in answer.out
    assert page.exists()


def test_generate_continues_the_prompt(shell, finished):
    arguments = ("generate", "tiny.py", "--only", "rope", "--prompt", "the", "--tokens", "6", "--temperature", "0")
    first, second = shell(*arguments), shell(*arguments)
    assert first.code == 0 and first.out == second.out
    assert first.out.splitlines()[1].startswith("the")


def test_list_shows_without_writing(shell, home):
    before = tree(home)
    answer = shell("run", "tiny.py", "--list", "--train.steps", "1000")
    assert answer.code == 0 and "Does it work?" in answer.out
    assert "rope" in answer.out and "alibi" in answer.out and "1,000" in answer.out and "32,000" in answer.out
    assert tree(home) == before


def test_list_says_which_size_the_configs_own_costs_are_of(shell, home):
    config = home / "tiny.py"
    config.write_text('"""A question?\n\nCosts      One second.\n"""\n' + config.read_text().split("\n", 1)[1])
    plain = shell("run", "tiny.py", "--list").out
    assert "Costs      One second." in plain and "says of itself" not in plain
    said = re.search(r"2 runs, (\S+) TFLOP of training", plain)
    for changed in (("--train.steps", "1000"), ("--only", "rope")):
        told = " ".join(shell("run", "tiny.py", "--list", *changed).out.split())
        assert f"as it is written, 2 runs and {said[1]} TFLOP of training, says of itself: Costs One second." in told


@pytest.mark.exhaustive
def test_the_report_tells_each_command_that_filled_the_folder(shell, home):
    few = ("--train.steps", "2", "--evaluation.windows", "1", f"{ATTENTION}.encoding.base", "5e2")
    assert shell("run", "tiny.py", "--only", "rope", *few).code == 0
    assert shell("run", "tiny.py", "--only", "alibi", "--train.steps=1", "--work", "runs/tiny").code == 0
    page = (home / "runs/tiny/report.html").read_text()
    first = " ".join(["python -m experiments.run tiny.py --only rope", *few])
    assert f"<pre>{first}\npython -m experiments.run tiny.py --only alibi --train.steps=1</pre>" in page
    named = json.loads((home / "runs/tiny/experiment.json").read_text())["commands"]
    assert named["rope"] == first
    assert shell("run", *shlex.split(first)[3:]).out.count("done before") == 1, "the command is of these very runs"


def test_a_command_is_spelled_for_a_shell(home):
    (home / "my tiny.py").write_text((home / "tiny.py").read_text())
    options, asked = cli.read(cli.Common, "experiments.run", ["my tiny.py", "--data.paths", "a b", "--only", "rope"])
    told = spelled(options, asked)
    assert told == "python -m experiments.run 'my tiny.py' --only rope --data.paths 'a b'"
    assert cli.read(cli.Common, "experiments.run", shlex.split(told)[3:])[1] == asked


def test_help_names_every_field_of_a_run(shell, home):
    answer = shell("run", "tiny.py", "--help")
    assert answer.code == 0
    for name in ("--work", "--only", "--smoke", "--train.steps", f"{ATTENTION}.encoding.base", "--evaluation.windows"):
        assert name in answer.out, name


def request(*arguments):
    return cli.read(cli.Common, "experiments.run", ["tiny.py", *arguments])[1]


def test_an_override_reaches_every_run_that_has_the_field(home):
    asked = request("--train.steps", "50", f"{ATTENTION}.encoding.base", "500.0", "--train.optimizer.learning-rate=0.5")
    assert [run.train.steps for run in asked.experiment.runs] == [50, 50]
    assert [run.train.optimizer.learning_rate for run in asked.experiment.runs] == [0.5, 0.5]
    rope, alibi = asked.experiment.runs
    assert rope.model.encoding.base == 500.0
    assert alibi.model.encoding == request().experiment.runs[1].model.encoding
    assert asked.overrides == (
        "--train.steps",
        "50",
        f"{ATTENTION}.encoding.base",
        "500.0",
        "--train.optimizer.learning-rate=0.5",
    )


def test_overrides_keep_their_types(home):
    run = request(
        "--evaluation.multiples",
        "1",
        "4",
        f"{ATTENTION}.key-value-heads",
        "1",
        "--model.output.tied",
        "--evaluation.windows",
        "3",
    ).experiment.runs[0]
    attention = run.model.decoder.pattern[0].sublayers[0]
    assert run.evaluation.multiples == (1, 4) and attention.key_value_heads == 1 and run.model.output.tied is True
    assert run.evaluation.windows == 3


def test_no_override_changes_nothing(home):
    assert request().experiment == loading.load(home / "tiny.py")[0]


def test_only_takes_several_names_in_the_configs_order(home):
    assert [run.name for run in request("--only", "alibi", "rope").experiment.runs] == ["rope", "alibi"]
    assert [run.name for run in request("--only", "alibi").experiment.runs] == ["alibi"]


def test_a_name_on_the_command_line_does_not_rename_runs(home):
    asked = request("--seed", "3")
    assert [run.seed for run in asked.experiment.runs] == [3, 3]
    assert [run.name for run in asked.experiment.runs] == ["rope", "alibi"]


@pytest.mark.parametrize("program", ["run", "train"])
def test_help_lists_the_options_of_many_processes(shell, home, program):
    answer = shell(program, "--help")
    assert answer.code == 0 and answer.err == ""
    for option in ("--distributed", "--coordinator HOST:PORT", "--processes N", "--process I", "--heartbeat SECONDS"):
        assert option in answer.out


@pytest.mark.exhaustive
@pytest.mark.slow
def test_smoke_leaves_nothing(shell, home):
    before = tree(home)
    answer = shell("run", "tiny.py", "--smoke", "--only", "alibi")
    assert answer.code == 0 and "smoke: 1 runs worked" in answer.out
    assert tree(home) == before


def test_what_is_looked_up_is_no_product():
    run = tiny_config.run("learned", Learned(length=64))
    plain = tiny_config.run("none", NoPE())
    assert parameters(run) == parameters(plain) + 64 * 16
    assert work(run) == work(plain) < 6e-12 * tokens(run) * parameters(plain)


@pytest.mark.exhaustive
def test_a_run_with_a_tokenizer_goes_from_text_to_text(shell, home):
    file = by_characters(home)
    tokenizer = ("--data.tokenizer", file, "--data.begin", "<s>", "--only", "rope")
    answer = shell("run", "tiny.py", *tokenizer)
    assert answer.code == 0 and "Loss in nats per token" in answer.out and "tokens of characters.json" in answer.out
    page = (home / "runs/tiny/report.html").read_text()
    assert "Loss in nats per token" in page and "read by characters.json with" in page
    prompt = ("--prompt", "the T", "--tokens", "6", "--temperature", "0")
    # The characters that the vocabulary lacks are bytes, and come back as they were.
    assert shell("generate", "tiny.py", *tokenizer, *prompt).out.splitlines()[1].startswith("the T")
    file.unlink()
    assert "characters.json does not exist" in shell("generate", "tiny.py", *tokenizer, *prompt).line
