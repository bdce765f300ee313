"""Attention with any encoding: one call for a user's own model, and the step that a model repeats in each layer."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from posjax import axes, positions
from posjax.attention import biases
from posjax.attention.biases import Bias
from posjax.attention.dispatch import BACKENDS, choose
from posjax.attention.jobs import job
from posjax.attention.masks import Causal, Mask
from posjax.encodings.base import Dims, Encoding, NoPE, Params
from posjax.errors import InputError


def weigh(q: jax.Array, k: jax.Array, v: jax.Array, *, bias: Bias = None, mask: Mask = Causal(),  # noqa: B008
          start: int | jax.Array = 0, backend: str = "auto", sums: bool = True) -> tuple[jax.Array, Any]:
    """Softmax attention of queries and keys that are already rotated, with a described bias.

    `q [B, T, N, H]`, `k` and `v [B, S, K, H]`; `start` is the index of the first query among the keys. Returns the
    output `[B, T, N, H]` and the log-sum-exp of the logits `[B, N, T]`. Without `sums` the latter may be `None`, and
    backends that do not give it are open too.

    Errors: `InputError` for an unknown backend; `NotImplementedError` for a named one that cannot do this, with the
    reason and the name of one that can.
    """
    chosen = choose(job(q, k, bias, mask, start, sums), backend)
    return BACKENDS[chosen.backend].attention(q, k, v, bias, mask, start)


def attend(q: jax.Array, k: jax.Array, v: jax.Array, *, q_positions: Any = None, k_positions: Any = None,
           encoding: Encoding = NoPE(), params: Params = None, mask: Mask = Causal(),  # noqa: B008
           backend: str = "auto") -> jax.Array:
    """Softmax attention with a positional encoding.

        softmax((R_q q)(R_k k) / sqrt(H) + bias) v

    `q [B, T, N, H]`; `k`, `v [B, S, K, H]` with N a multiple of K. Positions are int32 `[T]` or `[B, T]` (`[S]` or
    `[B, S]` for keys); without them tokens are at 0, 1, 2, …, and queries are the last T of the S places, so that one
    call serves a full pass and a step of decoding. `params` come from `encoding.init`, or from
    `encoding.join(params, constants)`. `mask` is a rule over token order: `Causal()`, `Window(n)`, `Segments(...)`,
    `Full()`, and their intersections by `&`. Returns `[B, T, N, H]` in the dtype of `q`.

    Convention: the bias is added after 1/sqrt(H); softmax is in float32; a query that sees no key gets 0.

    Errors: `InputError` for shapes that do not fit, float positions, an encoding that is causal under a mask that is
    not, learned parameters that are missing, or an unknown backend; `NotImplementedError` for a named backend that
    cannot do this, with one that can. `explain` tells which backend is taken, and why.

    >>> import jax, posjax
    >>> q, k, v = jax.random.normal(jax.random.key(0), (3, 1, 5, 2, 4))
    >>> attend(q, k, v, encoding=posjax.chain(posjax.Rope(), posjax.Alibi())).shape
    (1, 5, 2, 4)
    """
    sizes = axes.check(q_BTNH=q, k_BSKH=k, v_BSKH=v)
    _check(encoding, mask, sizes)
    dims = Dims(heads=sizes["N"], head_size=sizes["H"])
    encoding = encoding.at_length(sizes["S"])
    params = encoding.join(_parameters(encoding, params, dims), None)
    start = sizes["S"] - sizes["T"]
    q_places, k_places = (None if p is None else positions.check(p, name, encoding.coordinates)
                          for p, name in ((q_positions, "q_positions"), (k_positions, "k_positions")))
    bias = biases.describe(encoding, params, sizes["N"], q_places, k_places, (sizes["T"], sizes["S"]), start)
    q_places = positions.contiguous(sizes["T"], start) if q_places is None else q_places
    k_places = positions.contiguous(sizes["S"]) if k_places is None else k_places
    q = encoding.rotate(params, q, q_places, "query")
    k = encoding.rotate(params, k, k_places, "key")
    return weigh(q, k, v, bias=bias, mask=mask, start=start, backend=backend, sums=False)[0]


def _check(encoding: Encoding, mask: Mask, sizes: dict[str, int]) -> None:
    if sizes["N"] % sizes["K"]:
        raise InputError(f"q has {sizes['N']} heads and k has {sizes['K']}: needed is a number of query heads that the "
                         "key-value heads divide")
    if encoding.causal and not mask.causal:
        raise InputError(f"{encoding!r} is defined for keys at or before the query, and the mask {mask!r} lets later "
                         "ones through: intersect it with Causal(), or take the encoding's form for both directions")


def _parameters(encoding: Encoding, params: Params, dims: Dims) -> Params:
    if params is not None:
        return params
    needed = jax.eval_shape(lambda key: encoding.init(key, dims), jax.random.key(0))
    if jax.tree.leaves(needed):
        raise InputError(f"{encoding!r} has learned parameters and none were given: pass "
                         f"params=encoding.init(key, {dims!r})")
    return jax.tree.map(jnp.zeros_like, needed)
