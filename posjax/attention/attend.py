"""Attention with any encoding: one call for a user's own model, and the step that a model repeats in each layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import core
from jax.sharding import PartitionSpec

from posjax import axes
from posjax.arguments import LARGEST
from posjax.attention.biases import Bias, kind_of
from posjax.attention.dispatch import BACKENDS, choose
from posjax.attention.dropout import Dropout, given_dropout
from posjax.attention.given_masks import held
from posjax.attention.jobs import job
from posjax.attention.masks import Causal, MaskLike
from posjax.attention.meshes import check_heads_told, vary_alike
from posjax.attention.prepared import check_heads, prepare
from posjax.attention.reference import MASKED
from posjax.attention.scoring import check_sinks, given_scoring, with_sinks
from posjax.encodings.base import Encoding, NoPE, Params
from posjax.errors import InputError
from posjax.mesh import by_compiler, explicit_axes, spec_of
from posjax.positions import Index


def attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    *,
    bias: Bias = None,
    mask: MaskLike = Causal(),
    q_offset: Index = 0,
    backend: str = "auto",
    with_lse: bool = True,
    scale: float | None = None,
    softcap: float | None = None,
    sinks: jax.Array | None = None,
    dropout: Dropout | None = None,
) -> tuple[jax.Array, Any]:
    """Softmax attention of queries and keys that are already rotated, with a described bias.

    `q [B, T, N, H]`, `k [B, S, K, H]`, `v [B, S, K, U]`; `q_offset` is the index of the first query among the keys.
    `mask` is a rule, or a boolean array; `scale`, `softcap`, `sinks` and `dropout` are those of `attend`. Returns the
    output `[B, T, N, U]` and the log-sum-exp of the logits `[B, N, T]`, a sink among them. Without `with_lse` the
    latter may be `None`, and backends that do not give it are open too.

    Errors: `InputError` for an unknown backend, a mask whose arrays are of other tokens, a scale or cap that is no
    finite number, or sinks of another shape; `NotImplementedError` for a named backend that cannot do this, with the
    reason and the name of one that can.
    """
    sizes = axes.check(q_BTNH=q, k_BSKH=k, v_BSKU=v)
    check_heads(sizes)
    axes.check_floats(q=q, k=k, v=v)
    q_offset = _index(q_offset, sizes["T"])
    mask = held(mask, sizes, q_offset)
    _check_bias(bias, sizes)
    scoring = given_scoring(scale, softcap, kind_of(bias), given_dropout(dropout, q))
    check_sinks(sinks, sizes["N"])
    asks_lse = with_lse or sinks is not None
    chosen = choose(job(q, k, bias, mask, q_offset, asks_lse, sizes["U"], scoring), backend)
    if 0 in sizes.values():  # No token, or none to look at: as for a query that may see nothing.
        B, T, N, _ = q.shape
        blind = jnp.full((B, N, T), MASKED, jnp.float32)
        return with_sinks(jnp.zeros((B, T, N, sizes["U"]), q.dtype), blind, sinks)
    compute = _without_forward_mode(chosen.backend)
    q, k, v, bias, sinks = vary_alike((q, k, v, bias, sinks), mask, q_offset, scoring)
    if not explicit_axes():
        out, lse = compute(q, k, v, bias, mask, q_offset, scoring)
        return with_sinks(out, lse, sinks)

    def asked(sinks: jax.Array | None, *arguments: Any) -> tuple[jax.Array, Any]:
        out, lse = compute(*arguments)
        out, lse = with_sinks(out, lse, sinks)
        if not with_lse:
            return out, None
        return out, lse

    # Inside, the compiler places what it likes; outside, results lie as the queries do.
    lines = spec_of(q)
    rows, tokens, heads = (*lines, None, None, None)[:3]
    logs = None
    if with_lse:
        logs = PartitionSpec(rows, heads, tokens)
    return by_compiler(asked, (lines, logs), sinks, q, k, v, bias, mask, q_offset, scoring)


def _check_bias(bias: Bias, sizes: dict[str, int]) -> None:
    """Holds a described bias to the queries and keys: in slices and loops other sizes would be clamped in silence."""
    if bias is None:
        return
    if not hasattr(bias, "sizes"):
        raise InputError(
            f"bias is of type {type(bias).__name__}: needed is a described bias, describe(...), or None; arrays of "
            "tokens x tokens are what this call avoids"
        )
    B, N = sizes["B"], sizes["N"]
    T, S = sizes["T"], sizes["S"]
    described = bias.sizes
    if described not in ((N, T, S, 1), (N, T, S, B)):
        heads, queries, keys, rows = described
        raise InputError(
            f"bias is of {heads} heads, {queries} queries, {keys} keys and {rows} rows, and q and k have {N}, {T}, {S} "
            f"and {B}: describe it for them, with heads={N} and sizes=({T}, {S})"
        )


def _index(q_offset: Index, queries: int) -> Any:
    """The first query's index as Python's own number where it is known, or a traced whole number."""
    if isinstance(q_offset, int):
        is_whole = not isinstance(q_offset, bool)
    else:
        is_whole = hasattr(q_offset, "dtype") and jnp.issubdtype(q_offset.dtype, jnp.integer) and q_offset.ndim == 0
    if not is_whole:
        raise InputError(f"q_offset is {q_offset!r}: needed is the first query's index among the keys, a whole number")
    if isinstance(q_offset, core.Tracer):
        return q_offset.astype(jnp.int32)
    first = int(q_offset)
    if first < -LARGEST or first + queries - 1 > LARGEST:
        raise InputError(f"q_offset is {first}, for {queries} queries: needed are indices of int32, {LARGEST} at most")
    return first


def _without_forward_mode(name: str) -> Callable[..., Any]:
    """A backend's function; where it has only a derivative of its own, forward mode is told which backend can."""

    def compute(*arguments: Any) -> Any:
        try:
            return BACKENDS[name].attention(*arguments)
        except TypeError as error:
            if "forward-mode" not in str(error):
                raise
            if name == "reference":
                raise NotImplementedError(
                    "the encoding has a derivative of its own, for reverse mode alone: jax.grad and jax.vjp can, "
                    "jax.jvp and jax.jacfwd with respect to its parameters cannot"
                ) from None
            raise NotImplementedError(
                f"backend={name!r} has no forward-mode derivative (jax.jvp, jax.jacfwd): "
                "backend='reference' can, and reverse mode works with every backend"
            ) from None

    return compute


def attend(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    *,
    q_positions: jax.Array | None = None,
    k_positions: jax.Array | None = None,
    encoding: Encoding = NoPE(),
    params: Params = None,
    mask: MaskLike = Causal(),
    backend: str = "auto",
    length: int | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    sinks: jax.Array | None = None,
    dropout: Dropout | None = None,
) -> jax.Array:
    """Softmax attention with a positional encoding.

        softmax((R_q q)(R_k k) / sqrt(H) + bias) v

    `q [B, T, N, H]`, `k [B, S, K, H]` and `v [B, S, K, U]` with N a multiple of K. Positions are int32 `[T]` or `[B,
    T]` (`[S]` or `[B, S]` for keys); without them tokens are at 0, 1, 2, …, and queries are the last T of the S places,
    so that one call serves a full pass and a step of decoding. `params` come from `encoding.init`, or from
    `encoding.join(params, constants)`. `mask` is a rule over token order: `Causal()`, `Window(n)`, `Segments(...)`,
    `Full()` and others, joined by `&` and `|`; or a boolean array `[T, S]` or `[B, T, S]`. An encoding that depends on
    the context's length takes it as `length`, and without it from the largest position. Returns `[B, T, N, U]` in the
    dtype of `q`.

    `scale` is the factor of the products in place of 1/sqrt(H), and `softcap` bounds what comes of them, before the
    bias: `softcap * tanh(scale * q k / softcap) + bias`. `sinks [N]` are one more logit for each head, learned, that
    stands in the softmax's denominator only, so that a head may attend to nothing. `dropout` is a
    `Dropout(rate, key)` of the attention weights, after the softmax and the sinks; every backend drops the same pairs.

    Only `backend="reference"` has a forward-mode derivative (`jax.jvp`, `jax.jacfwd`). The others say so, but where the
    call stands inside a function under `jax.jit`, JAX says it in words of its own.

    Convention: the bias is added after the scale and the cap; softmax is in float32; a query that sees no key gets 0. A
    visible logit below -5e29 may count as masked, as blocks do. A negative position has no meaning: where an encoding
    rotates, a row that sees such a token gets NaN, and no other is touched.

    Errors: `InputError` for shapes that do not fit, positions or a mask of other tokens, float positions, an encoding
    that is causal under a mask that is not, learned parameters that are missing, a length that is needed and not known,
    a scale, cap or sinks that are no such numbers, or an unknown backend; `NotImplementedError` for a named backend
    that cannot do this, with one that can. `explain` tells which backend is taken, and why.

    >>> import jax, posjax
    >>> q, k, v = jax.random.normal(jax.random.key(0), (3, 1, 5, 2, 4))
    >>> attend(q, k, v, encoding=posjax.chain(posjax.Rope(), posjax.Alibi())).shape
    (1, 5, 2, 4)
    """
    sizes = axes.check(q_BTNH=q, k_BSKH=k, v_BSKU=v)
    axes.check_floats(q=q, k=k, v=v)
    check_heads_told(encoding, params, q)
    call = prepare(encoding, params, sizes, mask=mask, q_positions=q_positions, k_positions=k_positions, length=length)
    q, k = call.rotate(q, "query"), call.rotate(k, "key")
    out, _ = attention(
        q,
        k,
        v,
        bias=call.bias,
        mask=call.mask,
        q_offset=call.q_offset,
        backend=backend,
        with_lse=False,
        scale=scale,
        softcap=softcap,
        sinks=sinks,
        dropout=dropout,
    )
    return out
