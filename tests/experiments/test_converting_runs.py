"""A trained run as a published model: whoever reads it computes what the run did."""

from __future__ import annotations

import json

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import trained
from posjax import runs
from posjax.interop import read

ONE = ("--train.steps", "1", "--train.checkpoint-every", "1")


@pytest.mark.exhaustive
def test_a_trained_run_is_written_as_llama(shell, home):
    assert shell("train", "tiny.py", "--work", "out", "--only", "rope", *ONE).code == 0
    answer = shell("convert", "out/rope", "llama")
    assert answer.code == 0 and "llama: " in answer.out, answer.err
    run = trained.run_of(home / "out/rope")
    tokens = jnp.arange(8)[None]
    mine = runs.restore(run, home / "out/rope").model(tokens)
    assert np.array_equal(read(home / "llama")(tokens), mine)
    values = json.loads((home / "llama/config.json").read_text())
    assert values["max_position_embeddings"] == 8 and values["vocab_size"] == 257
    assert shell("convert", "out/rope", "half", "--dtype", "bfloat16").code == 0
    assert json.loads((home / "half/config.json").read_text())["dtype"] == "bfloat16"
    assert "holds a model already" in shell("convert", "out/rope", "llama").line
    assert "--encoding is of a published model" in shell("convert", "out/rope", "x", "--encoding", "Rope()").line


def test_what_no_family_describes_is_refused_by_name(shell, home):
    assert shell("train", "tiny.py", "--work", "out", "--only", "alibi", *ONE).code == 0
    line = shell("convert", "out/alibi", "llama").line
    assert "is written as Llama's, which this one is not" in line and "Alibi" in line
    manifest = json.loads((home / "out/alibi/run.json").read_text())
    manifest["config"] = "__import__('os').getcwd()"
    (home / "out/alibi/run.json").write_text(json.dumps(manifest))
    assert "is no value of posjax" in shell("convert", "out/alibi", "llama").line
    assert not (home / "llama").exists()


@pytest.mark.parametrize("text", ["1", "Rope()"])
def test_a_manifest_without_a_run_is_refused(home, text):
    (home / "run.json").write_text(json.dumps({"config": text}))
    with pytest.raises(trained.InputError, match="holds no run"):
        trained.run_of(home)
