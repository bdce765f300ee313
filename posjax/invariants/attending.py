"""Laws of attention with an encoding: decoding, packing, causality, and the gradient of every parameter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from posjax import positions as places
from posjax.attention import Causal, Full, Mask, Segments, attend
from posjax.encodings.base import Dims, Encoding, Params
from posjax.invariants.finding import Finding, assertion, expect, normal, worst_of


def _sample(dims: Dims, length: int, seed: int, dtype: DTypeLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    shape = (3, 2, length, dims.heads, dims.head_size)
    q, k, v = normal(shape, seed, dtype)
    return q, k, v


def _compiled(**run: Any) -> Callable[..., jax.Array]:
    """`attend`, compiled for each shape. It is taken when traced: whoever replaces it is heard."""
    return jax.jit(lambda q, k, v, **positions: attend(q, k, v, **positions, **run))


@assertion
def assert_decode(encoding: Encoding, params: Params, dims: Dims, seed: int = 0, backend: str = "auto") -> None:
    """The decode law: each token alone, over the keys so far, gets what the full pass and the reference give it.

    >>> import posjax
    >>> assert_decode(posjax.Rope(), {}, Dims(heads=2, head_size=8))
    """
    finding = decode(encoding, params, dims, seed, backend)
    finding.enforce(encoding)


def decode(
    encoding: Encoding,
    params: Params,
    dims: Dims,
    seed: int = 0,
    backend: str = "auto",
    dtype: DTypeLike = jnp.float32,
    length: int = 7,
) -> Finding:
    """Measures the decode law."""
    expect(encoding, dims, params)
    q, k, v = _sample(dims, length, seed, dtype)
    run = _compiled(encoding=encoding, params=params, mask=Causal(), backend=backend)
    pairs = {}
    for t in (1, length // 2, length - 1):
        seen = slice(0, t + 1)
        # The full pass ends at the token too: an encoding may depend on the length of its context.
        keys = k[:, seen]
        values = v[:, seen]
        queries = q[:, seen]
        query = q[:, t : t + 1]
        full = np.asarray(run(queries, keys, values))
        alone = np.asarray(run(query, keys, values))
        got = alone[:, 0]
        want = full[:, t]
        pairs[f"token {t}"] = got, want
        if t == length - 1:
            # Steps and passes of one backend may agree, and be wrong together.
            defined = _compiled(encoding=encoding, params=params, mask=Causal(), backend="reference")
            pairs["the full pass, by the reference"] = full, np.asarray(defined(queries, keys, values))
    return worst_of("decode", pairs, _allowed(dtype))


def _allowed(dtype: DTypeLike) -> float:
    if jnp.dtype(dtype) == jnp.float32:
        return 1e-5
    # A bfloat16 holds three digits, and outputs are averages of values of about 1.
    return 0.05


@assertion
def assert_packing(encoding: Encoding, params: Params, dims: Dims, seed: int = 0, backend: str = "auto") -> None:
    """The pack law: two documents in one row, positions reset and segments masked, equal the two apart.

    >>> import posjax
    >>> assert_packing(posjax.T5Bias(), posjax.T5Bias().init(jax.random.key(0), Dims(heads=2)), Dims(2, 8))
    """
    finding = packing(encoding, params, dims, seed, backend)
    finding.enforce(encoding)


def packing(
    encoding: Encoding, params: Params, dims: Dims, seed: int = 0, backend: str = "auto", dtype: DTypeLike = jnp.float32
) -> Finding:
    """Measures the pack law."""
    expect(encoding, dims, params)
    size = 8
    length = 2 * size
    q, k, v = _sample(dims, length, seed, dtype)
    row = [1] * size + [2] * size
    segments = jnp.array([row, row])
    at = jax.jit(places.packed)(segments)
    # Positions begin anew with each document, and the mask keeps them apart: either alone would not.
    run: Any = {"encoding": encoding, "params": params, "backend": backend}
    # A context is as long as its largest position says: the row's length must not matter.
    within = Causal() & Segments(segments)
    packed = _compiled(mask=within, length=size, **run)
    apart = _compiled(mask=Causal(), **run)
    out = packed(q, k, v, q_positions=at, k_positions=at)
    together = np.asarray(out)
    pairs = {}
    for n in (1, 2):
        end = n * size
        document = slice(end - size, end)
        alone = apart(q[:, document], k[:, document], v[:, document])
        packed_one = together[:, document]
        pairs[f"document {n}"] = packed_one, alone
    return worst_of("pack", pairs, _allowed(dtype))


@assertion
def assert_causal(encoding: Encoding, params: Params, dims: Dims, seed: int = 0, backend: str = "auto") -> None:
    """Under a causal mask nothing that comes later changes what came before.

    >>> import posjax
    >>> assert_causal(posjax.Alibi(), {}, Dims(heads=2, head_size=8))
    """
    finding = causal(encoding, params, dims, seed, backend)
    finding.enforce(encoding)


def causal(
    encoding: Encoding, params: Params, dims: Dims, seed: int = 0, backend: str = "auto", dtype: DTypeLike = jnp.float32
) -> Finding:
    """Measures how much later keys and values change earlier outputs."""
    expect(encoding, dims, params)
    q, k, v = _sample(dims, 7, seed, dtype)
    run = _compiled(encoding=encoding, params=params, mask=Causal(), backend=backend)
    # Only keys and values change: a later query has no say in what came before anyway.
    is_late = np.arange(7) >= 4
    later = is_late.astype(q.dtype)[:, None, None]
    changed_k = k + later
    changed_v = v + later
    before = np.asarray(run(q, k, v))
    after = np.asarray(run(q, changed_k, changed_v))
    got = after[:, :4]
    want = before[:, :4]
    return worst_of("causal", {"the first 4 of 7 tokens": (got, want)}, 0.0)


@assertion
def assert_gradients(encoding: Encoding, dims: Dims, seed: int = 0, backend: str = "auto") -> None:
    """Every parameter of a rotation, a score or a bias gets a gradient, and it is the reference backend's.

    >>> import posjax
    >>> assert_gradients(posjax.Kerple(), Dims(heads=2, head_size=8, model_size=16))
    """
    finding = gradients(encoding, dims, seed, backend)
    finding.enforce(encoding)


def gradients(encoding: Encoding, dims: Dims, seed: int = 0, backend: str = "auto") -> Finding:
    """Measures the gradient of each parameter against the reference's.

    One that has none, neither at first nor once all parameters have moved, counts as infinitely wrong.
    """
    expect(encoding, dims)
    key = jax.random.key(seed)
    params = encoding.init(key, dims)
    length = min(encoding.max_length or 40, 40)
    sample = _sample(dims, length, seed, jnp.float32)
    q, k, v = map(jnp.asarray, sample)
    stream = normal((2, length, dims.model_size), seed)
    x = jnp.asarray(stream)
    # The widest mask that it is defined for, so that every parameter has a pair that reads it.
    mask: Mask = Full()
    if encoding.causal:
        mask = Causal()
    at_length = encoding.at_length(length)
    constants = at_length.constants(dims)

    def loss(params: Params, backend: str) -> jax.Array:
        joined = encoding.join(params, constants)
        out = attend(q, k, v, encoding=at_length, params=joined, mask=mask, backend=backend)
        embedded = encoding.embed(joined, x, jnp.arange(length))
        # Sines, so that every output has a cotangent of its own.
        attending = jnp.sum(jnp.sin(out))
        embedding = jnp.sum(jnp.sin(embedded))
        return attending + embedding

    measured = jax.jit(jax.grad(loss), static_argnums=1)

    def compared(at: Params) -> dict[str, tuple[Any, Any]]:
        got = jax.tree_util.tree_leaves_with_path(measured(at, backend))
        want = jax.tree.leaves(measured(at, "reference"))
        return {jax.tree_util.keystr(path): (mine, its) for (path, mine), its in zip(got, want, strict=True)}

    first = compared(params)
    unmoved = {name for name, (gradient, _) in first.items() if not np.any(np.asarray(gradient))}
    # A factor of another that begins at zero has no gradient until that one has moved.
    moved: dict[str, tuple[Any, Any]] = {}
    if unmoved:
        moved = compared(jax.tree.map(_moved, params))
    # Never empty, so that an encoding without parameters has a worst one too.
    pairs: dict[str, tuple[Any, Any]] = {"no parameters": (0.0, 0.0), **first, **moved}
    for name in unmoved:
        gradient, want = moved[name]
        # A gradient of zeros equals the reference's zeros, and still nothing would be learned.
        if not np.any(np.asarray(gradient)):
            pairs[name] = np.nan, want
    return worst_of("gradient", pairs, 1e-4)


def _moved(parameter: Any) -> jax.Array:
    """A parameter after a step of training, as it were."""
    step = normal(np.shape(parameter), 1)
    return jnp.asarray(parameter) + 0.1 * jnp.asarray(step)
