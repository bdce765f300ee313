"""Encodings by layer: each layer gets its own and nothing of the others'."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from posjax import (
    Alibi,
    InputError,
    Kerple,
    NoPE,
    Rope,
    Shaw,
    Sinusoidal,
    T5Bias,
    attend,
    by_layer,
    chain,
)
from tests.encodings.generating import expect_greedy_to_follow_the_full_pass, model_of, tokens_of


@pytest.mark.holds(by_layer, to=None)
@pytest.mark.parametrize(
    "parts",
    [
        (Rope(), NoPE()),
        (Rope(), T5Bias(deviation=1.0), Kerple()),
        (Rope(10.0), chain(Rope(1e6), Alibi())),
        (Sinusoidal(), Rope(), NoPE(), Alibi()),
    ],
    ids=repr,
)
def test_each_layer_is_that_of_a_decoder_with_its_encoding_alone(parts):
    """The stream is carried by hand from block to block, at places that decoders with one encoding prepare."""
    model, tokens = model_of(by_layer(*parts)), tokens_of(2, 7)
    x = model.embedding(tokens)
    alone = []
    for i, part in enumerate(parts):
        single = model_of(part)
        single.encoding_params.set_value(model.encoding_params.get_value()[str(i)])
        alone.append(single.prepare(7).of(0))
        x = part.embed(single.prepare(7).params, x, jnp.arange(7))
    for i, block in enumerate(model.blocks):
        x = block(x, alone[i % len(parts)])[0]
    got = model(tokens)
    np.testing.assert_allclose(got, model.logits(model.norm(x)), atol=1e-5)
    other = model_of(by_layer(*parts[1:], parts[0]))
    value = model.encoding_params.get_value()
    for name in ("embedding", "blocks", "norm", "head"):
        nnx.update(getattr(other, name), nnx.state(getattr(model, name)))
    other.encoding_params.set_value(
        {str(i - 1): value[str(i)] for i in range(1, len(value))} | {str(len(value) - 1): value["0"]}
    )
    assert np.abs(got - other(tokens)).max() > 1e-3


@pytest.mark.holds(by_layer, to=None)
@pytest.mark.parametrize(
    "encoding",
    [
        by_layer(Rope(), NoPE()),
        by_layer(Rope(), T5Bias(deviation=1.0), Alibi()),
        chain(Sinusoidal(), by_layer(Rope(), Alibi())),
    ],
    ids=repr,
)
def test_greedy_generation_follows_the_full_pass(encoding):
    expect_greedy_to_follow_the_full_pass(encoding)


x = jnp.ones((1, 3, 6, 8))


@pytest.mark.parametrize(
    ("make", "value", "need"),
    [
        (lambda: by_layer(), "ByLayer got ()", "one encoding or more"),
        (lambda: by_layer(Rope(), Shaw()), "Shaw(", "scores content"),
        (lambda: attend(x, x, x, encoding=by_layer(Rope(), NoPE())), "no layer was named", "of_layer(i, params)"),
    ],
)
def test_errors_name_the_value_and_the_need(make, value, need):
    with pytest.raises(InputError) as caught:
        make()
    assert value in str(caught.value) and need in str(caught.value), str(caught.value)
