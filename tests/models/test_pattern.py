"""Layers that differ: each gets its own encoding and mask, and nothing of the others'."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from posjax import Alibi, Causal, InputError, Kerple, NoPE, Rope, Sinusoidal, T5Bias, Window, chain
from posjax.models import build
from tests.cases import first_of
from tests.encodings.generating import VOCABULARY, expect_greedy_to_follow_the_full_pass, model_of, tokens_of
from tests.small import at_once, in_parts, learned, small


@first_of(
    "parts",
    [
        (Rope(), NoPE()),
        (Rope(), T5Bias(deviation=1.0), Kerple()),
        (Rope(10.0), chain(Rope(1e6), Alibi())),
        (Sinusoidal(), Rope(), NoPE(), Alibi()),
    ],
    ids=repr,
    keep=2,
)
def test_each_layer_is_that_of_a_decoder_with_its_encoding_alone(parts):
    """The stream is carried by hand from block to block, at places that decoders with one encoding prepare."""
    model, tokens = model_of(*parts), tokens_of(2, 7)
    x = model.embedding(tokens)
    alone = []
    for i, part in enumerate(parts):
        single = model_of(part)
        learned(single).set_value(learned(model, str(i)).get_value())
        prepared = single.prepare(7)
        x = part.embed(prepared.kinds["0"].params, x, jnp.arange(7))
        alone.append(prepared)
    for i, block in enumerate(model.blocks["decoder"]):
        at = i % len(parts)
        own = replace(alone[at], kinds={str(at): alone[at].kinds["0"]})
        x = block(x, own)[0]
    got = model(tokens)
    np.testing.assert_allclose(got, model.logits(model.norms["decoder"](x)), atol=1e-5)
    other = model_of(*parts[1:], parts[0])
    for name in ("embedding", "blocks", "norms", "head"):
        nnx.update(getattr(other, name), nnx.state(getattr(model, name)))
    for i in range(len(parts)):
        learned(other, str((i - 1) % len(parts))).set_value(learned(model, str(i)).get_value())
    assert np.abs(got - other(tokens)).max() > 1e-3


@first_of(
    "encodings",
    [(Rope(), NoPE()), (Rope(), T5Bias(deviation=1.0), Alibi()), (chain(Sinusoidal(), Rope()), Alibi())],
    ids=repr,
    keep=1,
)
def test_greedy_generation_follows_the_full_pass(encodings):
    expect_greedy_to_follow_the_full_pass(*encodings)


def test_equal_encodings_share_what_they_learn_unless_the_stack_says_otherwise():
    shared = small(T5Bias(), Rope(), T5Bias(), layers=3)
    apart = replace(shared, decoder=replace(shared.decoder, share_encodings=False))
    tables = [build(config, 11, 0).encodings["decoder"] for config in (shared, apart)]
    assert [len(jax.tree.leaves(nnx.state(held))) for held in tables] == [1, 2]
    assert [len(held) for held in tables] == [2, 3]


def windowed(*windows, layers=4):
    """Layers that see that many tokens, in turn; `None` sees all."""
    config = small(Rope(), T5Bias(), layers=2, width=24, heads=6, key_value_heads=3, deviation=1.0)
    pattern = []
    for i, window in enumerate(windows):
        layer = config.decoder.pattern[i % 2]
        attention, fed = layer.sublayers
        mask = Causal() if window is None else Causal() & Window(window)
        pattern.append(replace(layer, sublayers=(replace(attention, mask=mask), fed)))
    return build(replace(config, decoder=replace(config.decoder, layers=layers, pattern=tuple(pattern))), VOCABULARY, 0)


@first_of("windows", [(1, 3, None), (3,), (None, 2)], ids=str, keep=1)
@first_of("parts", [(4, 1, 1, 1, 1, 1), (2, 3, 4), (9,), (1,) * 9], ids=str, keep=1)
def test_layers_that_see_a_window_decode_as_they_see(windows, parts):
    model, tokens = windowed(*windows), tokens_of(2, 9)
    np.testing.assert_allclose(in_parts(model, tokens, parts), at_once(model, tokens), atol=2e-5)


def test_a_cache_of_windows_is_as_large_as_they_are():
    model = windowed(3, 2)
    sizes = [sum(leaf.size for leaf in jax.tree.leaves(model.cache(1, size).layers)) for size in (8, 4000)]
    assert sizes[0] == sizes[1]
    assert [layer[0][0].shape[1] for layer in windowed(3, None).cache(1, 8).layers] == [2, 8, 2, 8]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: small(Rope(), NoPE(), Alibi(), layers=2), "past the last layer is never used"),
        (lambda: windowed(3).prepare(1, mask=np.ones((1, 8), bool), cache=windowed(3).cache(1, 8)), "keep a window"),
    ],
)
def test_errors(make, said):
    with pytest.raises(InputError, match=said):
        make()
