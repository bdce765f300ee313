"""A gradient of attention may be differentiated again, also where the blocks to visit are known at run time only."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posjax import Causal, First, Rope, Segments, T5Bias, Window, attend
from posjax.encodings import Dims
from tests.cases import first_of

LENGTH = 260
"""One block and a piece of another."""
IDS = jnp.repeat(jnp.arange(1, 4), 87)[None, :LENGTH]
MASKS = {
    "segments": Causal() & Segments(IDS),
    "traced window": Causal() & Window(jnp.array(50)),
    "prefix": Causal() & First(jnp.array([5])),
    "array": Causal() & jnp.ones((LENGTH, LENGTH), bool),
}


@first_of("mask", MASKS, keep=1)
def test_a_gradient_may_be_differentiated_again(mask):
    x = jax.random.normal(jax.random.key(0), (1, LENGTH, 1, 4))

    def penalty(x, backend):
        def loss(x):
            return jnp.sum(attend(x, x, x, encoding=Rope(), mask=MASKS[mask], backend=backend) ** 2)

        return jnp.sum(jax.grad(loss)(x) ** 2)

    want = jax.jit(jax.grad(penalty), static_argnums=1)(x, "reference")
    got = jax.jit(jax.grad(penalty), static_argnums=1)(x, "chunked")
    np.testing.assert_allclose(got, want, atol=1e-4 * float(jnp.abs(want).max()))


@pytest.mark.exhaustive
def test_what_a_bias_learned_has_second_derivatives_too():
    encoding = T5Bias()
    params = encoding.init(jax.random.key(1), Dims(heads=1, head_size=4))
    x = jax.random.normal(jax.random.key(0), (1, LENGTH, 1, 4))

    def penalty(params, backend):
        def loss(params):
            out = attend(x, x, x, encoding=encoding, params=params, mask=MASKS["segments"], backend=backend)
            return jnp.sum(out**2)

        return jnp.sum(jax.grad(loss)(params)["table"] ** 2)

    want = jax.grad(penalty)(params, "reference")["table"]
    got = jax.grad(penalty)(params, "chunked")["table"]
    np.testing.assert_allclose(got, want, atol=1e-4 * float(jnp.abs(want).max()))


@pytest.mark.exhaustive
def test_a_gradient_over_layers_in_a_scan_may_be_differentiated_again():
    """What a step closes over is of the scan's body, which is gone when the derivative is taken."""
    x = jax.random.normal(jax.random.key(0), (1, LENGTH, 1, 4))

    def penalty(x, backend):
        def layer(x, ids):
            mask = Causal() & Segments(ids)
            return x + attend(x, x, x, encoding=Rope(), mask=mask, backend=backend), None

        def loss(x):
            return jnp.sum(jax.lax.scan(layer, x, jnp.stack([IDS, IDS + 1]))[0] ** 2)

        return jnp.sum(jax.grad(loss)(x) ** 2)

    want = jax.jit(jax.grad(penalty), static_argnums=1)(x, "reference")
    got = jax.jit(jax.grad(penalty), static_argnums=1)(x, "chunked")
    np.testing.assert_allclose(got, want, atol=1e-4 * float(jnp.abs(want).max()))
