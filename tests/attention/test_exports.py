"""Values and calls on JAX's own ways: a batch that is not known yet, trees of what is no value, numbers of 64 bits."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from posjax import (
    Alibi,
    Causal,
    Chunked,
    Dims,
    First,
    Forgetting,
    PoSE,
    Rope,
    T5Bias,
    TransformerXL,
    Window,
    attend,
    chain,
    linear_attend,
)
from posjax.attention import blocks, chunked, explain
from tests.cases import first_of

DIMS = Dims(2, 4)
QKV = jax.random.normal(jax.random.key(0), (3, 3, 5, 2, 4))


@first_of("encoding", [chain(Rope(), Alibi()), T5Bias(), Forgetting()], keep=1, ids=repr)
def test_an_export_takes_any_batch(encoding):
    params = encoding.init(jax.random.key(0), DIMS)

    def loss(q, k, v):
        return jnp.sum(jnp.sin(attend(q, k, v, encoding=encoding, params=params, backend="chunked")))

    gradient = jax.jit(jax.grad(loss, (0, 1, 2)))
    (B,) = export.symbolic_shape("b")
    like = jax.ShapeDtypeStruct((B, 5, 2, 4), jnp.float32)
    exported = export.export(gradient)(like, like, like)
    for rows in (1, 3):
        part = [x[:rows] for x in QKV]
        for got, want in zip(exported.call(*part), gradient(*part), strict=True):
            np.testing.assert_allclose(got, want, atol=1e-6)


@pytest.mark.parametrize("mask", [Causal() & Window(3), First(2), Chunked(3)], ids=repr)
def test_a_tree_of_masks_may_hold_what_is_no_size(mask):
    assert jax.tree.leaves(jax.tree.map(lambda size: True, mask)) == [True]
    zeros = jax.tree.map(lambda size: 0, mask)
    assert jax.tree.structure(zeros) == jax.tree.structure(mask)
    assert jax.tree.map(lambda size: size, mask) == mask


@pytest.mark.exhaustive
def test_a_sum_between_tokens_is_cut_into_parts_with_64_bits(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 4)
    monkeypatch.setattr(chunked, "TILE", 16)
    encoding = Forgetting()
    run = partial(attend, encoding=encoding, params=encoding.init(jax.random.key(0), DIMS), backend="chunked")
    want = run(*QKV)
    with jax.enable_x64(True):
        np.testing.assert_allclose(run(*QKV), want, atol=1e-6)


def test_positions_are_drawn_with_64_bits_and_of_no_token():
    at = jnp.arange(5, dtype=jnp.int32)
    with jax.enable_x64(True):
        assert PoSE(20).move({}, at, jax.random.key(0)).dtype == jnp.int32
    assert PoSE(20).move({}, at[:0], jax.random.key(0)).shape == (0,)


def test_what_attend_takes_can_be_explained():
    q, k, v = QKV
    assert explain(q, k[:, :0], v[:, :0]).backend == "chunked"
    odd = jax.ShapeDtypeStruct((1, 4, 3, 5), jnp.float32)
    assert explain(odd, encoding=TransformerXL()).backend


def test_a_state_counts_tokens_of_no_row():
    _, state = linear_attend(*(x[:0] for x in QKV))
    assert state.count == 5
