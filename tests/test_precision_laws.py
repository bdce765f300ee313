"""The laws of precision, for every encoding of the registry and every backend: float32 inside, whatever comes in."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posjax import Causal
from posjax.encodings import Head
from tests.cases import CORE, DIMS, SINGLE, params_of, short, wide
from tests.laws import attend, each_backend, each_encoding, each_single, qkv

LEARNED = [value for value in SINGLE if jax.tree.leaves(value.init(jax.random.key(0), DIMS))]


@each_encoding
@each_backend
def test_bfloat16_in_and_out_with_float32_inside(encoding, backend):
    params, narrow = params_of(encoding), qkv(9, dtype="bfloat16")
    run = dict(encoding=encoding, params=params, mask=Causal(), backend=backend)
    out, full = attend(*narrow, **run), attend(*(x.astype(jnp.float32) for x in narrow), **run)
    assert out.dtype == jnp.bfloat16
    np.testing.assert_allclose(out.astype(jnp.float32), full, atol=0.03)


@each_single
def test_hooks_keep_float32_inside(encoding):
    params, at = params_of(encoding), jnp.arange(7) + (0 if encoding.max_length else 2**20)
    x = jax.random.normal(jax.random.key(4), (1, 7, DIMS.model_size), jnp.bfloat16)
    heads = x.reshape(1, 7, DIMS.heads, -1)
    for narrow, full in (
        (encoding.embed(params, x, at), encoding.embed(params, x.astype(jnp.float32), at)),
        (encoding.rotate(params, heads, at, "key"), encoding.rotate(params, heads.astype(jnp.float32), at, "key")),
    ):
        assert narrow.dtype == jnp.bfloat16
        np.testing.assert_array_equal(narrow, full.astype(jnp.bfloat16))
    assert encoding.bias(params, at, at, Head(0, DIMS.heads)).dtype == jnp.float32


@each_single
def test_a_bias_is_not_rounded_to_bfloat16_on_the_way(encoding):
    if encoding.bias_kind == "none":
        return
    reach = min(encoding.max_length or 3000, 3000)
    params, at = params_of(encoding), jnp.linspace(0, reach - 1, 40).astype(jnp.int32)
    # A head may be blind, or have slopes that are powers of two: some distance of some head shows it.
    biases = jnp.stack([encoding.bias(params, at, at, Head(n, DIMS.heads)) for n in range(DIMS.heads)])
    seen = biases[jnp.isfinite(biases)]
    assert bool((seen.astype(jnp.bfloat16).astype(jnp.float32) != seen).any())


@pytest.mark.parametrize("encoding", wide(LEARNED, CORE), ids=short)
def test_parameters_of_bfloat16_are_widened_before_anything_is_computed(encoding):
    narrow = encoding.init(jax.random.key(0), DIMS)
    narrow = jax.tree.map(lambda x: x.astype(jnp.bfloat16), narrow)
    wide = jax.tree.map(lambda x: x.astype(jnp.float32), narrow)
    arrays = qkv(9)
    run = dict(encoding=encoding, mask=Causal(), backend="reference")
    np.testing.assert_array_equal(attend(*arrays, params=narrow, **run), attend(*arrays, params=wide, **run))
