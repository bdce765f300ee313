"""The commands on published models: converted, continued, looked through."""

from __future__ import annotations

import json

import numpy as np
import pytest

from experiments.audit import audit
from posjax import Rope, Yarn
from posjax.interop import describe, read, write
from posjax.models import build
from tests.data.tokenizers_of_tests import by_characters
from tests.golden import HERE
from tests.interop.test_describing import BLOOM, COUNTED, sized

PUBLISHED = HERE / "published"


def lines(config, trained):
    """What is told of a configuration, each line of which fits a terminal."""
    told = list(audit(describe(config), trained))
    assert max(map(len, told)) <= 80
    return told


def test_a_model_is_converted(shell, tmp_path):
    answer = shell("convert", PUBLISHED / "llama", tmp_path / "out", "--encoding", "Rope(schedule=Yarn(4.0, 128))")
    assert (answer.code, answer.err) == (0, "")
    assert f"{tmp_path / 'out'}: 0.1 MiB of weights, Rope(base=10000.0, schedule=Yarn(" in answer.out
    model = read(tmp_path / "out")
    assert model.architecture.encoding == Rope(schedule=Yarn(4.0, 128))
    again = shell("convert", PUBLISHED / "llama", tmp_path / "out")
    assert again.line.endswith("choose another folder, or overwrite it")
    assert shell("convert", PUBLISHED / "llama", tmp_path / "out", "--overwrite", "--dtype", "bfloat16").code == 0
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"


def test_what_cannot_be_converted_is_one_line(shell, tmp_path):
    assert shell("convert", tmp_path / "none", tmp_path / "out").line.startswith("there is no folder")
    assert (
        "where nothing was trained"
        in shell("convert", PUBLISHED / "llama", tmp_path / "out", "--encoding", "T5Bias()").line
    )
    assert not (tmp_path / "out").exists()


def test_a_published_model_continues_a_text(shell, tmp_path):
    folder = tmp_path / "model"
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 40}
    config = {"model_type": "llama", "vocab_size": 300, "rope_theta": 1e4, "eos_token_id": 2, **sizes}
    write(build(describe(config).required(), 300, 0), folder, config=config)
    assert "tokenizer.json does not exist" in shell("generate", folder).line
    by_characters(tmp_path).rename(folder / "tokenizer.json")
    asked = (folder, "--prompt", "the", "--tokens", 8, "--begin", "<s>", "--temperature", 0)
    one, two = shell("generate", *asked), shell("generate", *asked)
    assert one.code == 0 and one.out.startswith("the") and one.out == two.out
    assert "unknown option --topk" in shell("generate", folder, "--topk", 3).line


@pytest.mark.parametrize("name", COUNTED)
def test_every_published_model_can_be_looked_through(name):
    config, count = COUNTED[name]
    told = lines(config, 4096)
    assert told[0] == f"{config['model_type']}, {count:,} parameters, trained at 4,096 tokens"


def test_layers_pairs_and_errors_are_told(shell):
    told = lines(COUNTED["Gemma 3 1B"][0], 32_768)
    assert told[3].startswith("  layers 0-4, 6-10, 12-16, 18-22, 24-25: Rope(base=10000.0")
    for base in (1e4, 1e6):
        waves = 2 * np.pi * base ** (np.arange(128) / 128)
        assert f"  {np.sum(waves <= 32_768)} of 128 pairs turn whole within 32,768 tokens" in told
    # A float32 keeps 24 bits, of which such a position takes twenty.
    for position, single, half, here in (line.split() for line in told if line.startswith("     1,048,576")):
        assert float(single) > 1e-3 and float(half) > 10 and float(here) < 5e-7 and position == "1,048,576"
    answer = shell("audit", PUBLISHED / "gpt-neox", "--trained", 64)
    assert answer.code == 0 and "4 pairs" not in answer.out and "2 pairs, 4 of 8 channels turn" in answer.out
    assert shell("audit", PUBLISHED / "llama", "--trained", 0).line == (
        "--trained is 0: needed is a length in tokens, 1 or more"
    )


NESTED = {
    "full_attention": {"rope_type": "yarn", "rope_theta": 5e5, "factor": 8.0, "original_max_position_embeddings": 8192},
    "sliding_attention": {"rope_type": "default", "rope_theta": 5e5},
}


def test_a_trained_length_is_found_where_layer_types_are_nested(shell, tmp_path):
    config = sized("olmo3", 64, 96, 4, 4, 40, max_position_embeddings=65_536, rope_parameters=NESTED)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    assert "trained at 8,192 tokens" in shell("audit", path).out


def test_pairs_that_never_turn_are_told_apart():
    proportional = {"rope_type": "proportional", "rope_theta": 1e4, "partial_rotary_factor": 0.5}
    told = lines(sized("llama", 64, 96, 1, 4, 40, rope_parameters=proportional), 64)
    assert "  pairs 4-7 never turn" in told and any(line.endswith("pairs turn whole within 64 tokens") for line in told)
    assert not any("inf" in line or "nan" in line for line in told)


def test_what_does_not_turn_is_told_too():
    def said(config):
        return " ".join(map(str.strip, lines(config, None)))

    assert "given_slopes=None) as it is, or Alibi(factor=4)" in said(BLOOM) and "give --trained" in said(BLOOM)
    assert "as it is: all from 128 tokens on is one distance" in said(COUNTED["T5 small"][0])
    assert "its last row is that of position 1023" in said(COUNTED["GPT-2 small"][0])
