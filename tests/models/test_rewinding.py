"""A cache that is taken back to fewer tokens, as where some were drafted and refused."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posjax import Causal, InputError, Rope, Window
from posjax.models import Architecture, Attention, FeedForward, Layer, LinearAttention, Stack, build
from tests.cases import first_of

TOKENS = jnp.arange(12)[None] % 11
WHOLE = Attention(2, encoding=Rope())
MOVING = {"window": replace(WHOLE, mask=Causal() & Window(3)), "sums": LinearAttention(2)}


def model_of(sublayer):
    return build(Architecture(16, decoder=Stack(2, (Layer((sublayer, FeedForward(16))),))), 11, 0)


def begun(model):
    cache = model.cache(1, 12)
    return model.hidden(TOKENS[:, :8], model.prepare(8, cache=cache), cache)[1]


def after(model, cache, length):
    back = replace(cache, length=length)
    x, _, _ = model.hidden(TOKENS[:, 5:7], model.prepare(2, cache=back), back)
    return model.logits(x)


def test_where_all_is_kept_the_next_tokens_take_the_place_of_the_others():
    model = model_of(WHOLE)
    np.testing.assert_allclose(after(model, begun(model), 5), model(TOKENS)[:, 5:7], atol=1e-5)


@first_of("name", MOVING, keep=1)
def test_a_window_and_sums_cannot_be_taken_back(name):
    model = model_of(MOVING[name])
    cache = begun(model)
    with pytest.raises(InputError, match=r"has read 8 tokens and its length is 5: .* cannot be taken back"):
        after(model, cache, 5)
    # Known as the program runs only, it is marked.
    assert np.isnan(jax.jit(lambda cache, length: after(model, cache, length))(cache, 5)).all()
