"""What tests of encodings that score content share: moved parameters, and what a float64 oracle is held against."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posjax import Causal, Dims, Full, InputError, Pairs, attend
from tests.cases import params_of
from tests.laws import attend as compiled_attend

Expect = Callable[..., np.ndarray]
"""Scores `[N, T, S]` from parameters, q, k and both positions, by an oracle."""
SIZES = [(3, 8), (6, 16)]
AT = np.array([0, 1, 2, 5, 6, 9, 10, 11, 20, 30, 31])


def setting(encoding, heads: int, size: int, rows: int = 1):
    """Moved parameters, so that none is zero, and q, k, v `[rows, T, N, H]`."""
    dims = Dims(heads, size, 12)
    rng = np.random.default_rng(heads)
    params = jax.tree.map(
        lambda p: p + jnp.asarray(rng.normal(0, 0.5, p.shape), jnp.float32), encoding.init(jax.random.key(0), dims)
    )
    return (
        params,
        encoding.join(params, encoding.constants(dims)),
        *np.float32(rng.normal(size=(3, rows, len(AT), heads, size))),
    )


def assert_scores(encoding, expect: Expect, sizes: tuple[int, int], offset: int) -> None:
    """One row of scores, wherever it begins: what is asked are the oracle's, at keys that the encoding is for."""
    params, joined, q, k, _ = setting(encoding, *sizes)
    places, index = jnp.asarray(AT + offset, jnp.int32), jnp.arange(len(AT))
    got = jax.jit(lambda q, k: encoding.score(joined, q, k, Pairs(places, places, index, index)))(q[0], k[0])
    seen = np.tril(np.ones((len(AT), len(AT)), bool)) if encoding.causal else np.ones((len(AT), len(AT)), bool)
    expected = expect(params, q[0], k[0], AT, AT)
    np.testing.assert_allclose(np.asarray(got)[:, seen], expected[:, seen], atol=1e-5, rtol=1e-5)


def assert_later_scores(encoding, expect: Expect) -> None:
    """Later queries alone score as they do in the whole."""
    params, joined, q, k, _ = setting(encoding, 3, 8)
    places, index = jnp.asarray(AT), jnp.arange(len(AT))
    pairs = Pairs(places[7:], places, index[7:], index)
    got = jax.jit(lambda q, k: encoding.score(joined, q, k, pairs))(q[0, 7:], k[0])
    seen = np.tril(np.ones((len(AT), len(AT)), bool))[7:]
    expected = expect(params, q[0], k[0], AT, AT)[:, 7:]
    np.testing.assert_allclose(np.asarray(got)[:, seen], expected[:, seen], atol=1e-5, rtol=1e-5)


def assert_attention(encoding, expect: Expect, backend: str) -> None:
    """Attention is the softmax of the scores, with grouped queries."""
    params, joined, q, k, v = setting(encoding, 6, 8, rows=2)
    k, v = k[:, :, :3], v[:, :, :3]
    got = compiled_attend(
        jnp.asarray(q),
        jnp.asarray(k),
        jnp.asarray(v),
        q_positions=jnp.asarray(AT),
        k_positions=jnp.asarray(AT),
        encoding=encoding,
        params=joined,
        backend=backend,
    )
    for row in range(2):
        keys, values = (np.repeat(x[row].astype(np.float64), 2, axis=1) for x in (k, v))
        scores = np.where(np.tril(np.ones((len(AT),) * 2, bool)), expect(params, q[row], keys, AT, AT), -1e9)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        expected = np.einsum("nts,snh->tnh", weights / weights.sum(-1, keepdims=True), values)
        np.testing.assert_allclose(got[row], expected, atol=1e-5)


def assert_refused(encoding, name: str, shape: tuple[int, ...], need: str, backend: str) -> None:
    """A table of another size than the fields say is refused, by name and with both sizes."""
    x = jnp.ones((1, 3, 3, 8))
    with pytest.raises(InputError) as caught:
        attend(x, x, x, encoding=encoding, params={name: jnp.zeros(shape)}, backend=backend)
    for part in (f"{encoding} got params['{name}'] of shape {shape}", f"needed is [{need}]"):
        assert part in str(caught.value), str(caught.value)


def assert_causal_alone(encoding) -> None:
    """An encoding by token order is refused without a causal mask."""
    x = jnp.ones((1, 3, 2, 4))
    with pytest.raises(InputError, match="at or before the query"):
        attend(x, x, x, encoding=encoding, params=params_of(encoding, Dims(2, 4)), mask=Full())
    assert attend(x, x, x, encoding=encoding, params=params_of(encoding, Dims(2, 4)), mask=Causal()).shape == x.shape
