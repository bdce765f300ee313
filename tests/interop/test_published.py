"""What is read computes the publisher's numbers, and what is written are the publisher's bytes."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from posjax import InputError
from posjax.interop import read, write
from posjax.models import Compute, cross_entropy, generate
from tests.interop.checkpoints import OUTSIDE, READ, REFUSED, expected, loaded, logits, need, tensors, wide

TRAINED = OUTSIDE / "expected.json"
PAST = ("llama-dynamic-past-its-length", "phi-3-longrope-past-its-length")
"""Their frequencies follow the length of the context, which deeper layers of a cache were not computed under."""
UNLIKE = ("bert", "roformer", "modernbert")
"""Encoders, which do not continue."""


@pytest.mark.parametrize("backend", ["reference", "chunked"])
@pytest.mark.parametrize("name", wide(READ))
def test_logits_are_those_of_transformers(name, backend):
    model = loaded(name, compute=Compute(backend=backend))
    np.testing.assert_allclose(logits(model, name), expected(name)["logits"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", wide([name for name in READ if name not in (*PAST, *UNLIKE)]))
def test_a_cache_gives_the_logits_of_a_full_pass(name):
    model, given = loaded(name, compute=Compute(backend="reference")), expected(name)
    tokens, memory = jnp.asarray(given["tokens"]), None
    if "decoder_tokens" in given:
        memory = model.encode(tokens)
        tokens = jnp.asarray(given["decoder_tokens"])
    hidden = nnx.jit(lambda model, *given: model.hidden(*given))
    end = tokens.shape[1]
    cache = model.cache(len(tokens), end, memory=memory)
    for part in (slice(0, end - 2), slice(end - 2, end - 1), slice(end - 1, end)):
        prepared = model.prepare(part.stop - part.start, cache=cache)
        x, cache, _ = hidden(model, tokens[:, part], prepared, cache)
        np.testing.assert_allclose(model.logits(x), given["logits"][:, part], rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", wide(READ))
def test_what_is_written_are_the_bytes_that_were_read(tmp_path, name):
    folder = need(name)
    write(loaded(name), tmp_path / "out")
    before, after = tensors(folder), tensors(tmp_path / "out")
    assert before.keys() == after.keys()
    for key, array in before.items():
        assert array.dtype == after[key].dtype and array.tobytes() == after[key].tobytes(), key
    texts = [(path / "config.json").read_text() for path in (folder, tmp_path / "out")]
    assert json.loads(texts[0]) == json.loads(texts[1])
    # Of one file even the header is the publisher's.
    single = folder / "model.safetensors"
    assert not single.exists() or single.read_bytes() == (tmp_path / "out" / "model.safetensors").read_bytes()


def test_what_has_no_value_here_is_refused_with_the_reason():
    with pytest.raises(InputError, match="model_type='deepseek_v3' is not read: its attention makes keys and values"):
        read(need(REFUSED))


@pytest.mark.exhaustive
@pytest.mark.skipif(not TRAINED.is_file(), reason="the trained models are not here: set POSJAX_CHECKPOINTS")
@pytest.mark.parametrize("source", ["stories260K", "stories260K/stories260K.bin", "babyllama105"])
def test_trained_models_say_what_they_say_elsewhere(source):
    tokenizers = pytest.importorskip("tokenizers")
    folder = OUTSIDE / source.partition("/")[0]
    told = json.loads(TRAINED.read_text())[folder.name]
    model = read(OUTSIDE / source)
    prompt = jnp.asarray([told["prompt_tokens"]])
    np.testing.assert_allclose(model(prompt)[0, -1, :16], told["last_logits"], rtol=0, atol=1e-4)
    greedy = told["greedy_tokens"]
    assert generate(model, prompt, len(greedy))[0].tolist() == greedy
    text = (OUTSIDE / "tinystories-sample.txt").read_text()[:12_000]
    if folder.name == "babyllama105":
        # It knows no newline.
        text = text.replace("\n", " ")
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokens = jnp.asarray([1, *tokenizer.encode(text).ids])
    losses = []
    for start in range(0, 4 * told["window"], told["window"]):
        window = tokens[None, start : start + told["window"] + 1]
        losses.append(cross_entropy(model(window[:, :-1]), window[:, 1:]).mean())
    np.testing.assert_allclose(losses, told["loss_of_first_windows"], rtol=0, atol=1e-4)
