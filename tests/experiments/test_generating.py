"""Published folders continue a text, or answer one that their encoder reads."""

import json
import shutil

import jax.numpy as jnp
import pytest

from experiments.generate import command
from posjax import InputError
from posjax.interop import read
from posjax.models import generate
from tests.golden import HERE

tokenizers = pytest.importorskip("tokenizers")
WORDS = {f"w{i}": i for i in range(40)}
END = 1


@pytest.fixture
def folder(tmp_path):
    """A published folder with a tokenizer that ends each text, as T5's does."""

    def made(name):
        target = tmp_path / name
        shutil.copytree(HERE / "published" / name, target)
        tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(WORDS, unk_token="w2"))
        tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
        tokenizer.post_processor = tokenizers.processors.TemplateProcessing("$A w1", special_tokens=[("w1", END)])
        tokenizer.save(str(target / "tokenizer.json"))
        return target

    return made


@pytest.mark.exhaustive
def test_an_encoder_decoder_answers_its_source(folder, capsys):
    path = folder("t5-v1-0")
    command([str(path), "--source", "w7 w8 w9", "--prompt", "w4", "--tokens", "3", "--temperature", "0"])
    model = read(path)
    start = json.loads((path / "config.json").read_text())["decoder_start_token_id"]
    memory = model.encode(jnp.array([[7, 8, 9, END]]))
    wanted = generate(model, jnp.array([[start, 4]]), 3, memory=memory)[0].tolist()
    assert END not in wanted
    assert capsys.readouterr().out.split() == [f"w{token}" for token in [start, 4, *wanted]]


@pytest.mark.parametrize(
    ("name", "arguments", "named"),
    [
        ("t5-v1-0", ["--prompt", "w4"], "has an encoder, and nothing for it to read: give --source TEXT"),
        ("llama", ["--source", "w4"], "has no encoder to read it: give --prompt TEXT"),
    ],
)
def test_what_does_not_go_together_is_one_line(folder, name, arguments, named):
    with pytest.raises(InputError, match=named) as said:
        command([str(folder(name)), *arguments])
    assert "\n" not in str(said.value)


def test_an_answer_that_nothing_begins_is_refused(folder):
    path = folder("t5-v1-0")
    config = json.loads((path / "config.json").read_text())
    config.pop("decoder_start_token_id")
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="decoder_start_token_id=None: needed is the token that an answer begins with"):
        command([str(path), "--source", "w4"])
