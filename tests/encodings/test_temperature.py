"""Temperatures by position: attention with them after a rotation, and negative positions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posjax import Dims, LogN, Rope, ScalableSoftmax, StepTemperature, attend, chain
from tests import content_oracles as content, oracles
from tests.cases import first_of


@pytest.mark.holds(LogN, to=oracles.log_n)
@pytest.mark.holds(ScalableSoftmax, to=content.scalable_softmax)
@pytest.mark.holds(StepTemperature, to=oracles.step_temperature)
@first_of("backend", ["chunked", "reference"], keep=1)
def test_attend_sharpens_by_position(backend):
    """After RoPE, which a scale passes through."""
    q, k, v = np.asarray(np.random.default_rng(0).normal(size=(3, 1, 9, 6, 8)), np.float32)
    at = np.arange(9)[None]
    frequencies = oracles.plain(8, 10_000.0)[0]
    turned = oracles.rope(q, at, frequencies)
    for encoding, params, scaled in (
        (chain(Rope(), LogN(4)), {"0": {}, "1": {}}, oracles.log_n(turned, at, 4)),
        (
            chain(Rope(), StepTemperature(0.5, 4, 1)),
            {"0": {}, "1": {}},
            oracles.step_temperature(turned, at, 0.5, 4, 1),
        ),
        (
            chain(Rope(), ScalableSoftmax()),
            {"0": {}, "1": {"scale": jnp.full(6, 0.43)}},
            content.scalable_softmax(np.full(6, 0.43), turned, at),
        ),
    ):
        got = attend(*map(jnp.asarray, (q, k, v)), encoding=encoding, params=params, backend=backend)
        expected = oracles.attention(
            scaled, oracles.rope(k, at, frequencies), v, allowed=np.tril(np.ones((1, 9, 9), bool))
        )
        np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("encoding", [LogN(4), ScalableSoftmax(), StepTemperature(window=4)])
def test_a_negative_position_is_nan(encoding):
    params = encoding.join(encoding.init(jax.random.key(0), Dims(1, 2)), encoding.constants(Dims(1, 2)))
    got = encoding.rotate(params, jnp.ones((1, 2, 1, 2)), jnp.array([-1, 3]), "query")[0]
    assert np.isnan(got[0]).all() and np.isfinite(got[1]).all()
