"""Sweeps: which runs a command line makes, under which names, on which rows; and how they are run, here or apart."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace

import numpy as np
import pytest

from experiments import cli
from posjax.runs import Material
from posjax.training import WSD, Adafactor, AdamW, Lion, Muon
from tests.cases import first_of

BASE = "model.decoder.pattern.0.sublayers.0.encoding.base"
RATE = "train.optimizer.learning-rate"


def request(*arguments):
    return cli.read(cli.Common, "experiments.run", ["tiny.py", *arguments])[1]


def names(*arguments):
    return [run.name for run in request(*arguments).experiment.runs]


def test_every_run_is_repeated_at_the_product_of_the_values(home):
    asked = request("--only", "rope", "--sweep", RATE, "1e-3,3e-3", "--seeds", "0,1")
    told = [(run.name, run.label, run.train.optimizer.learning_rate, run.seed) for run in asked.experiment.runs]
    assert told == [
        ("rope-lr0.001-seed0", "ROPE lr=0.001 seed=0", 0.001, 0),
        ("rope-lr0.001-seed1", "ROPE lr=0.001 seed=1", 0.001, 1),
        ("rope-lr0.003-seed0", "ROPE lr=0.003 seed=0", 0.003, 0),
        ("rope-lr0.003-seed1", "ROPE lr=0.003 seed=1", 0.003, 1),
    ]
    assert len(asked.every) == 8 and len(asked.written) == 2


def test_nothing_else_of_a_run_changes(home):
    plain, swept = request("--only", "rope"), request("--only", "rope", "--seeds", "3")
    (before,), (after,) = plain.experiment.runs, swept.experiment.runs
    assert replace(after, name=before.name, label=before.label, seed=before.seed) == before


@pytest.mark.exhaustive
def test_a_name_is_of_the_value_and_not_of_its_spelling(home):
    assert names("--sweep", RATE, "1e-3") == names("--sweep", "train.optimizer.learning_rate", "0.001,1e-3")
    assert names("--only", "alibi", "--sweep", "evaluation.multiples", "1 2,1 4") == [
        "alibi-multiples1+2",
        "alibi-multiples1+4",
    ]
    assert names("--only", "alibi", "--sweep", "train.compute.dtype", "float32,bfloat16") == [
        "alibi-dtype=float32",
        "alibi-dtype=bfloat16",
    ]
    both = ("--sweep", "train.optimizer.schedule.final", "0.5", "--sweep", "train.optimizer.clip", "2")
    assert names("--only", "alibi", *both) == ["alibi-final0.5-clip2.0"]


def test_fields_of_one_name_are_told_by_their_paths(home):
    first, second = "model.decoder.pattern.0.sublayers.0.heads", "model.decoder.pattern.0.sublayers.1.size"
    assert names("--only", "alibi", "--sweep", first, "2", "--sweep", second, "16") == ["alibi-heads2-size16"]
    norm, final = "model.decoder.pattern.0.norm.epsilon", "model.decoder.final_norm.epsilon"
    (name,) = names("--only", "alibi", "--sweep", norm, "1e-5", "--sweep", final, "1e-5")
    assert name.count("epsilon") == 2 and "model.decoder.final_norm.epsilon1e-05" in name


def test_a_run_without_the_field_is_there_once(home):
    assert names("--sweep", BASE, "100,500", "--seeds", "0") == [
        "rope-base100.0-seed0",
        "rope-base500.0-seed0",
        "alibi-seed0",
    ]


def test_a_kind_of_optimiser_is_an_option_and_can_be_swept(home):
    run = request("--train.optimizer", "Muon", "--train.optimizer.rms", "None").experiment.runs[0]
    assert run.train.optimizer == Muon(rms=None)
    # The kind first, wherever it stands: its schedule is another one's.
    turned = ("--train.optimizer.schedule=wsd", "--train.optimizer", "lion", "--train.optimizer.schedule.decay", "0.5")
    assert request(*turned).experiment.runs[0].train.optimizer == Lion(schedule=WSD(decay=0.5))
    swept = request("--only", "rope", "--sweep", "train.optimizer", "AdamW,Adafactor", "--train.optimizer.clip", "2")
    assert {run.name: run.train.optimizer for run in swept.experiment.runs} == {
        # What the config has is kept where it is the kind already.
        "rope-optimizer=AdamW": AdamW(learning_rate=1e-2, clip=2.0),
        "rope-optimizer=Adafactor": Adafactor(clip=2.0),
    }


def test_a_field_of_one_kind_is_swept_where_it_is(home):
    both = ("--sweep", "train.optimizer", "Adafactor,Lion", "--sweep", "train.optimizer.b1", "0.8,0.9")
    assert names("--only", "rope", *both) == [
        "rope-optimizer=Adafactor",
        "rope-optimizer=Lion-b10.8",
        "rope-optimizer=Lion-b10.9",
    ]


@first_of(
    ("arguments", "said"),
    [
        (("--sweep", "train.optimizer.learnin-rate", "1"), "nearest is --train.optimizer.learning-rate"),
        (("--sweep", RATE, "1e-3,"), f"the sweep of {RATE} is '1e-3,'"),
        (("--sweep", RATE, "0,1"), "learning_rate=0.0: needed is a positive number"),
        (("--sweep", RATE, "a,b"), "learning-rate"),
        (("--seeds", "0", "--sweep", "seed", "1"), "seed is swept twice"),
        (("--seeds", "0", "--seed", "1"), "--seed is given and swept"),
        (("--sweep", RATE, "1", f"--{RATE}=2"), f"--{RATE} is given and swept"),
        (("--sweep", "name", "a,b"), "--name cannot be given"),
        (("--seeds", "0,1", "--only", "rope-seed2"), "the nearest is 'rope-seed"),
        (("--sweep", "train.optimizer", "Sgd"), "needed is AdamW, Adafactor, Lion or Muon"),
        (("--train.optimizer.warmup", "0.1"), "the nearest is --train.optimizer.schedule.warmup"),
        (("--data", "Needles"), "Needles is a task, and Extrapolation reads text"),
        (("--data", "StandardLibrary", "--data.paths", "a"), "unknown option --data.paths"),
    ],
    keep=5,
)
def test_what_cannot_be_swept_is_one_line(shell, home, arguments, said):
    assert said in shell("train", "tiny.py", *arguments).line
    assert not (home / "runs").exists()


def test_runs_of_one_seed_read_the_same_rows(home):
    swept = request("--only", "rope", "--sweep", RATE, "1e-3,3e-3", "--seeds", "0,1").experiment.runs
    rows = [Material.open(run).batches.batch(0)["inputs"] for run in swept]
    np.testing.assert_array_equal(rows[0], rows[2])
    np.testing.assert_array_equal(rows[1], rows[3])
    assert (rows[0] != rows[1]).any()


def test_the_list_of_a_sweep_is_a_command_for_each_run(shell, home):
    asked = ("--sweep", RATE, "1e-3,3e-3", "--only", "rope", "--train.steps", "2")
    answer = shell("run", "tiny.py", *asked, "--list", "--work", "a folder")
    assert answer.code == 0 and not (home / "a folder").exists()
    lines = [shlex.split(line) for line in answer.out.splitlines()]
    assert [line[:3] for line in lines] == [["python", "-m", "experiments.run"]] * 2
    for name, line in zip(names(*asked), lines, strict=True):
        options, each = cli.read(cli.Common, "experiments.run", line[3:])
        assert [run.name for run in each.experiment.runs] == [name] and str(options.folder) == "a folder"
        assert each.experiment.runs[0].train.steps == 2


@pytest.mark.exhaustive
def test_a_sweep_goes_on_where_it_was_and_past_what_diverges(shell, home):
    few = (
        "--train.steps",
        "2",
        "--train.skips",
        "1",
        "--evaluation.windows",
        "1",
        "--evaluation.multiples",
        "1",
        "--only",
        "alibi",
    )
    sweep = ("--sweep", RATE, "1e-2,1e30")
    first, *_ = shell("run", "tiny.py", *few, *sweep, "--list").out.splitlines()
    # As a cluster would: one of the commands alone, then all of it.
    assert shell("run", *shlex.split(first)[3:]).code == 0
    folder = home / "runs/tiny/alibi-lr0.01"
    before = (folder / "results.json").read_bytes()
    answer = shell("run", "tiny.py", *few, *sweep)
    assert "alibi-lr0.01: done before" in answer.out and (folder / "results.json").read_bytes() == before
    assert answer.code == 3 and "of 2 runs 1 diverged, alibi-lr1e+30" in answer.line
    kept = json.loads((home / "runs/tiny/experiment.json").read_text())
    assert kept["command"].count("--sweep") == 1
    assert kept["runs"] == names(*sweep)
