"""Runs of other objectives than the next token, and how the loss of any training fell."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from posjax import runs
from posjax.data import Copy, Needles, Origins, Reversal, Reverse
from posjax.encodings import Alibi, Rope
from posjax.errors import InputError
from posjax.evaluation import Accuracy, Extrapolation, ObjectiveLoss
from posjax.identity import fingerprint
from posjax.models import LinearAttention, encoder, encoder_decoder
from posjax.results import Measurements
from posjax.runs import Run
from posjax.stages import Stage, Stages, TrainingPart, spent
from posjax.training import CausalLM, Classification, EarlyStop, MaskedLM, SeqToSeq
from tests.cases import first_of
from tests.training.tiny import corpus, decoder, optax_promotes, run, train  # noqa: F401

SIZES: dict[str, Any] = {"layers": 1, "width": 16, "heads": 2, "feed_forward": 16}
MEASURED = ObjectiveLoss(multiples=(1, 2), windows=4)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return corpus(tmp_path_factory.mktemp("text"))


def written(folder, losses):
    lines = [json.dumps({"step": step, "loss": loss, "seconds": 0.5}) for step, loss in losses.items()]
    (folder / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))


def test_the_loss_by_step_is_the_mean_of_each_tenth(tmp_path, text):
    written(tmp_path, {step: float(step) for step in range(1, 41)})
    found = spent(run(text, steps=40).parts(), tmp_path, ["0"])
    assert [row.at("step") for row in found.losses] == list(range(4, 41, 4))
    assert [row.value for row in found.losses] == [2.5 + 4 * tenth for tenth in range(10)]
    assert {row.count for row in found.losses} == {4} and (found.seconds, found.tokens) == (20.0, 40 * 4 * 8)


def test_a_tenth_without_lines_is_left_out(tmp_path, text):
    written(tmp_path, {step: 1.0 for step in range(1, 41) if not 9 <= step <= 12})
    found = spent(run(text, steps=40).parts(), tmp_path, ["0"])
    assert [row.at("step") for row in found.losses] == [4, 8, *range(16, 41, 4)]
    assert found.seconds != found.seconds
    few = spent(run(text, steps=3).parts(), tmp_path / "nothing", ["0"])
    assert len(few.losses) == 0


def linear(encoding=None):
    """A decoder whose layers attend linearly."""
    model = decoder()
    assert model.decoder is not None
    (layer,) = model.decoder.pattern
    _, fed = layer.sublayers
    attends = LinearAttention(2, encoding=encoding or Rope())
    return replace(model, decoder=replace(model.decoder, pattern=(replace(layer, sublayers=(attends, fed)),)))


def of(objective, data, model, evaluation=MEASURED, **changes) -> Run:
    plan = train(steps=2, checkpoint_every=2, objective=objective, **changes)
    return Run("other", "Other", model, data, plan, evaluation)


def masked_run(text, **changes) -> Run:
    return of(MaskedLM(share=0.5), text, encoder(**SIZES), **changes)


ROUNDTRIPS = {
    "masked": masked_run,
    "reversal": lambda text: of(SeqToSeq(), Reversal(symbols=4), encoder_decoder(decoder_encoding=Alibi(), **SIZES)),
    "origins": lambda text: of(Classification(), Origins(), encoder(**SIZES, classes=5)),
    "performer": lambda text: replace(run(text, steps=2), model=linear(), evaluation=MEASURED),
}


def tuned(text) -> Run:
    """A model of hidden tokens that then classifies."""
    first = Stage(train(steps=2, checkpoint_every=2, objective=MaskedLM()), model=encoder(**SIZES), data=text)
    plan = ROUNDTRIPS["origins"](text)
    return replace(plan, train=Stages((first, Stage(plan.train))))


ROUNDTRIPS["tuned"] = tuned


@pytest.mark.exhaustive
@first_of("which", ROUNDTRIPS, keep=1)
def test_a_run_of_any_objective_goes_all_the_way(tmp_path, text, which):
    plan = ROUNDTRIPS[which](text)
    runs.check(plan)
    results = runs.evaluate(plan, tmp_path, runs.train(plan, tmp_path))
    measured = Measurements.from_tree(results["measurements"])
    for multiple in (1, 2):
        loss = measured.one("loss", multiple=multiple, length=multiple * 8, evaluation="objective")
        assert 0 < loss.low <= loss.value <= loss.high and loss.count == 4
        assert 0 <= measured.one("accuracy", multiple=multiple).value <= 1
    assert len(measured.select("training_loss", evaluation="training")) == plan.train.steps
    of_task = [row.metric for row in measured if row.metric in ("chance", "exact")]
    assert of_task == ["chance", "exact", "exact"] * (which == "reversal")
    again = runs.evaluate(plan, tmp_path, runs.restore(plan, tmp_path))
    assert again["measurements"] == results["measurements"]


def test_what_does_not_go_with_an_objective_is_refused_by_name(text):
    good = masked_run(text)
    assert good.vocabulary == 258
    with pytest.raises(InputError, match="trained by MaskedLM, and Extrapolation measures the next token"):
        replace(good, evaluation=Extrapolation(multiples=(1, 2)))
    with pytest.raises(InputError, match="MaskedLM hides tokens of a text, and Needles is a task"):
        replace(good, data=Needles())
    with pytest.raises(InputError, match="MaskedLM reads rows of tokens, and Origins has rows with a class"):
        replace(good, data=Origins())
    with pytest.raises(InputError, match="CausalLM reads rows of tokens, and Reversal has sources and targets"):
        replace(run(text), data=Reversal(), evaluation=MEASURED)
    with pytest.raises(InputError, match="stops early by the next token, and is trained by MaskedLM"):
        masked_run(text, stop=EarlyStop())


@pytest.mark.parametrize("hiding", [0, 1])
def test_the_token_that_hides_is_of_no_other_stages_text(text, hiding):
    # Bytes have 257 tokens, so the one that hides them is what a text of 258 calls its last.
    objectives: list[Any] = [CausalLM(), CausalLM()]
    objectives[hiding] = MaskedLM()
    texts: list[Any] = [SimpleNamespace(vocabulary=258), SimpleNamespace(vocabulary=258)]
    texts[hiding] = SimpleNamespace(vocabulary=257)
    before = None
    for number in (0, 1):
        plan = train(steps=2, objective=objectives[number])
        before = TrainingPart(plan, encoder(**SIZES), texts[number], 258, 0, number, before)
    with pytest.raises(InputError, match=f"stage {hiding} hides tokens by number 257, which is a token of the text of"):
        before.check()


def of_task(task):
    return Run("task", "Task", decoder(), task, train(steps=2), Accuracy(multiples=(1,), sequences=4))


@pytest.mark.exhaustive
def test_a_checkpoint_of_another_task_is_refused_and_one_that_does_not_say_is_read(tmp_path):
    folder, other = tmp_path / "copy", tmp_path / "reverse"
    runs.train(of_task(Copy()), folder, say=lambda _: None)
    runs.restore(of_task(Copy()), folder)
    # Weights of one task where another's were: nothing in their shapes would tell.
    runs.train(of_task(Reverse()), other, say=lambda _: None)
    shutil.rmtree(other / "checkpoints")
    shutil.copytree(folder / "checkpoints", other / "checkpoints")
    with pytest.raises(InputError, match=r"of another config: data\.is is 'Copy' there and 'Reverse' here"):
        runs.restore(of_task(Reverse()), other)
    # A step of before, which names no task; its lines of metrics are known by the same fingerprint as ever.
    path = folder / "checkpoints/2/meta/metadata"
    meta = json.loads(path.read_text())
    del meta["about"]["data"], meta["seal"]
    seal = hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps({**meta, "seal": seal}))
    runs.restore(of_task(Copy()), folder)
    of_before = {name: value for name, value in of_task(Copy()).about(None).items() if name != "data"}
    assert json.loads((folder / "run.json").read_text())["training"] == fingerprint(of_before)
