"""Assertions that a user runs on any encoding, theirs included: that it does what an encoding must.

Each law is measured by one function that returns a `Finding`, the worst error and the input that gave it. The
assertions raise `AssertionError` where a finding is past what is allowed; `check` runs all laws and prints a table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import core
from jax.typing import DTypeLike

from posjax import positions as places
from posjax.attention import Causal, Full, Mask, Segments, attend
from posjax.encodings.base import Dims, Encoding, Head, Pairs, Params

OFFSETS = (1, 1000, 2**17, 2**24 + 1, 2**31 - 1 - 16)
"""Where float32 angles go wrong: past a window, past bfloat16's integers, past float32's, and at the end of int32."""


@dataclass(frozen=True)
class Finding:
    """A law, the worst error against what is allowed, and the input that gave it."""

    law: str
    worst: float
    allowed: float
    where: str

    @property
    def holds(self) -> bool:
        return self.worst <= self.allowed

    def enforce(self, encoding: Encoding) -> None:
        """Errors: `AssertionError` where the law does not hold."""
        if not self.holds:
            raise AssertionError(f"{encoding!r} breaks the law {self.law!r}: the error is {self.worst:.2g} at "
                                 f"{self.where}, and {self.allowed:.2g} is allowed")


def scores(encoding: Encoding, params: Params, q: jax.Array, k: jax.Array, q_positions: jax.Array,
           k_positions: jax.Array) -> jax.Array:
    """What attention sees of an encoding: `(R_q q)(R_k k) / sqrt(H) + bias`, in float32.

    `q [B, T, N, H]`, `k [B, S, N, H]`, positions `[T]` and `[S]` -> `[B, N, T, S]`.
    """
    heads = q.shape[-2]
    chex.assert_equal_shape_suffix([q, k], 2)
    pairs = Pairs(q_positions, k_positions, jnp.arange(q.shape[1]), jnp.arange(k.shape[1]))
    q = encoding.rotate(params, q, q_positions, "query")
    k = encoding.rotate(params, k, k_positions, "key")
    content = jax.vmap(lambda q, k: encoding.score(params, q, k, pairs))(q, k)
    bias = jnp.stack([encoding.bias(params, q_positions, k_positions, Head(n, heads)) for n in range(heads)])
    return content + bias[None]


def assert_relative(encoding: Encoding, params: Params, dims: Dims, offsets: Sequence[int] = OFFSETS[:4],
                    length: int = 16, tolerance: float = 1e-5, seed: int = 0) -> None:
    """The shift law: scores stay the same when all positions move by one offset.

    The difference is measured against the scores' own scale, at each offset; positions stay below 2^31. Inside a
    function wrapped by `chex.chexify` it works under jit.

    >>> import posjax
    >>> assert_relative(posjax.Rope(), {}, Dims(heads=2, head_size=8), offsets=(1, 2**31 - 17))
    """
    moved = _moved(encoding, params, dims, offsets, length, seed)
    if any(isinstance(after, core.Tracer) for after, _ in moved):
        for after, before in moved:
            chex.assert_trees_all_close(after, before, atol=tolerance, rtol=0.0)
        return
    finding = _shift(moved, offsets, tolerance)
    if not finding.holds:
        raise AssertionError(f"{encoding!r} is not relative: moving all positions by {finding.where} changes a score "
                             f"by {finding.worst:.2g} of the scores' scale, and {tolerance:.2g} is allowed")


def _moved(encoding: Encoding, params: Params, dims: Dims, offsets: Sequence[int], length: int, seed: int,
           dtype: DTypeLike = jnp.float32) -> list[tuple[jax.Array, jax.Array]]:
    """For each offset the scores after and before the move, both over the scale of those before."""
    q, k = jax.random.normal(jax.random.key(seed), (2, 2, length, dims.heads, dims.head_size), dtype)
    at = jnp.arange(length, dtype=jnp.int32)
    before = scores(encoding, params, q, k, at, at)
    # Pairs that a head is blind to have one huge score, which would hide all others.
    before = jnp.maximum(before, -1e6)
    scale = jnp.maximum(jnp.max(jnp.where(before > -1e6, jnp.abs(before), 0.0)), 1.0)
    after = [jnp.maximum(scores(encoding, params, q, k, at + jnp.int32(o), at + jnp.int32(o)), -1e6) for o in offsets]
    return [(moved / scale, before / scale) for moved in after]


def _shift(moved: list[tuple[jax.Array, jax.Array]], offsets: Sequence[int], tolerance: float) -> Finding:
    errors = [_error(after, before) for after, before in moved]
    worst = int(np.argmax(errors)) if errors else 0
    return Finding("shift", max(errors, default=0.0), tolerance, str(offsets[worst]) if errors else "no offset")


def _error(got: Any, want: Any) -> float:
    """The largest difference; infinite where either is not a number."""
    difference = np.abs(np.asarray(got, np.float64) - np.asarray(want, np.float64))
    return float(np.max(np.where(np.isnan(difference), np.inf, difference), initial=0.0))


def assert_tile(encoding: Encoding, params: Params, dims: Dims, length: int = 12, seed: int = 0) -> None:
    """The tile law: every hook of a slice of positions is the slice of the hook.

    >>> import posjax
    >>> assert_tile(posjax.Alibi(), {}, Dims(heads=3, head_size=8, model_size=24))
    """
    tile(encoding, params, dims, length, seed).enforce(encoding)


def tile(encoding: Encoding, params: Params, dims: Dims, length: int = 12, seed: int = 0) -> Finding:
    """Measures the tile law."""
    at = jnp.arange(length, dtype=jnp.int32)
    x = jax.random.normal(jax.random.key(seed), (2, length, dims.model_size))
    heads = jax.random.normal(jax.random.key(seed), (2, length, dims.heads, dims.head_size))
    rows, columns = slice(length // 3, length - 1), slice(1, length // 2)
    pairs = {
        "embed": (encoding.embed(params, x[:, rows], at[rows]), encoding.embed(params, x, at)[:, rows]),
        "query": (encoding.rotate(params, heads[:, rows], at[rows], "query"),
                  encoding.rotate(params, heads, at, "query")[:, rows]),
        "key": (encoding.rotate(params, heads[:, rows], at[rows], "key"),
                encoding.rotate(params, heads, at, "key")[:, rows]),
    }
    for n in range(dims.heads):
        whole = encoding.bias(params, at, at, Head(n, dims.heads))
        part = encoding.bias(params, at[rows], at[columns], Head(n, dims.heads))
        pairs[f"bias of head {n}"] = part, whole[rows, columns]
    return _worst("tile", pairs, 1e-5)


def _worst(law: str, pairs: dict[str, tuple[Any, Any]], allowed: float) -> Finding:
    errors = {where: _error(got, want) for where, (got, want) in pairs.items()}
    where = max(errors, key=lambda name: errors[name])
    return Finding(law, errors[where], allowed, where)


def assert_distinct(encoding: Encoding, params: Params, dims: Dims, positions: Sequence[int], seed: int = 0) -> None:
    """The distinct law, for encodings that embed or rotate: different positions give different results.

    >>> import posjax
    >>> assert_distinct(posjax.Rope(), {}, Dims(heads=1, head_size=8, model_size=8), (0, 1, 2**31 - 1))
    """
    finding = distinct(encoding, params, dims, positions, seed)
    if not finding.holds:
        raise AssertionError(f"{encoding!r} does not tell {finding.where}")


def distinct(encoding: Encoding, params: Params, dims: Dims, positions: Sequence[int], seed: int = 0) -> Finding:
    """Counts the pairs of positions that cannot be told apart."""
    at = jnp.asarray(positions, jnp.int32)
    x = jax.random.normal(jax.random.key(seed), (1, 1, dims.model_size))
    heads = jax.random.normal(jax.random.key(seed), (1, 1, dims.heads, dims.head_size))
    embedded = encoding.embed(params, jnp.broadcast_to(x, (1, len(at), dims.model_size)), at)[0]
    shape = (1, len(at), dims.heads, dims.head_size)
    rotated = encoding.rotate(params, jnp.broadcast_to(heads, shape), at, "query")[0].reshape(len(at), -1)
    both = np.concatenate([np.asarray(embedded), np.asarray(rotated)], axis=1)
    same = [(positions[j], positions[i]) for i in range(len(at)) for j in range(i) if np.array_equal(both[i], both[j])]
    where = f"position {same[0][0]} from {same[0][1]}" if same else f"{len(at)} positions"
    return Finding("distinct", float(len(same)), 0.0, where)


def _sample(dims: Dims, length: int, seed: int, dtype: DTypeLike) -> tuple[jax.Array, jax.Array, jax.Array]:
    q, k, v = jax.random.normal(jax.random.key(seed), (3, 2, length, dims.heads, dims.head_size), dtype)
    return q, k, v


def assert_decode(encoding: Encoding, params: Params, dims: Dims, seed: int = 0, backend: str = "auto") -> None:
    """The decode law: each token alone, over the keys so far, gets what the full pass gives it.

    >>> import posjax
    >>> assert_decode(posjax.Rope(), {}, Dims(heads=2, head_size=8))
    """
    decode(encoding, params, dims, seed, backend).enforce(encoding)


def decode(encoding: Encoding, params: Params, dims: Dims, seed: int = 0, backend: str = "auto",
           dtype: DTypeLike = jnp.float32, length: int = 7) -> Finding:
    """Measures the decode law."""
    q, k, v = _sample(dims, length, seed, dtype)
    run: Any = {"encoding": encoding, "params": params, "mask": Causal(), "backend": backend}
    pairs = {}
    for t in (1, length // 2, length - 1):
        full = attend(q[:, : t + 1], k[:, : t + 1], v[:, : t + 1], **run)
        pairs[f"token {t}"] = attend(q[:, t : t + 1], k[:, : t + 1], v[:, : t + 1], **run)[:, 0], full[:, t]
    return _worst("decode", pairs, _allowed(dtype))


def _allowed(dtype: DTypeLike) -> float:
    return 1e-5 if jnp.dtype(dtype) == jnp.float32 else 0.05


def assert_packing(encoding: Encoding, params: Params, dims: Dims, seed: int = 0, backend: str = "auto") -> None:
    """The pack law: two documents in one row, positions reset and segments masked, equal the two apart.

    >>> import posjax
    >>> assert_packing(posjax.T5Bias(), posjax.T5Bias().init(jax.random.key(0), Dims(heads=2)), Dims(2, 8))
    """
    packing(encoding, params, dims, seed, backend).enforce(encoding)


def packing(encoding: Encoding, params: Params, dims: Dims, seed: int = 0, backend: str = "auto",
            dtype: DTypeLike = jnp.float32) -> Finding:
    """Measures the pack law."""
    q, k, v = _sample(dims, 7, seed, dtype)
    segments = jnp.array([[1, 1, 1, 2, 2, 2, 2]] * 2)
    at, encoding = places.packed(segments), encoding.at_length(7)
    # Resolved once: each document is shorter than the row, and a length-dependent encoding is told the row's.
    params = encoding.join(params, encoding.constants(dims))
    run: Any = {"encoding": encoding, "params": params, "backend": backend}
    together = attend(q, k, v, q_positions=at, k_positions=at, mask=Causal() & Segments(segments), **run)
    pairs = {f"document {n}": (together[:, s], attend(q[:, s], k[:, s], v[:, s], mask=Causal(), **run))
             for n, s in enumerate((slice(0, 3), slice(3, 7)), 1)}
    return _worst("pack", pairs, _allowed(dtype))


def assert_causal(encoding: Encoding, params: Params, dims: Dims, seed: int = 0, backend: str = "auto") -> None:
    """Under a causal mask nothing that comes later changes what came before.

    >>> import posjax
    >>> assert_causal(posjax.Alibi(), {}, Dims(heads=2, head_size=8))
    """
    causal(encoding, params, dims, seed, backend).enforce(encoding)


def causal(encoding: Encoding, params: Params, dims: Dims, seed: int = 0, backend: str = "auto",
           dtype: DTypeLike = jnp.float32) -> Finding:
    """Measures how much later keys and values change earlier outputs."""
    q, k, v = _sample(dims, 7, seed, dtype)
    run: Any = {"encoding": encoding, "params": params, "mask": Causal(), "backend": backend}
    before, after = attend(q, k, v, **run), attend(q, k.at[:, 4:].add(1), v.at[:, 4:].add(1), **run)
    return _worst("causal", {"the first 4 of 7 tokens": (after[:, :4], before[:, :4])}, 0.0)


def assert_gradients(encoding: Encoding, dims: Dims, seed: int = 0, backend: str = "auto") -> None:
    """Every parameter of a rotation, a score or a bias gets a gradient, and it is the reference backend's.

    >>> import posjax
    >>> assert_gradients(posjax.Kerple(), Dims(heads=2, head_size=8, model_size=16))
    """
    gradients(encoding, dims, seed, backend).enforce(encoding)


def gradients(encoding: Encoding, dims: Dims, seed: int = 0, backend: str = "auto") -> Finding:
    """Measures the gradient of each parameter against the reference's; one without any counts as infinitely wrong."""
    params = encoding.init(jax.random.key(seed), dims)
    length = min(encoding.max_length or 40, 40)
    q, k, v = _sample(dims, length, seed, jnp.float32)
    x = jax.random.normal(jax.random.key(seed), (2, length, dims.model_size))
    mask: Mask = Causal() if encoding.causal else Full()
    constants = encoding.at_length(length).constants(dims)

    def loss(params: Params, backend: str) -> jax.Array:
        joined = encoding.join(params, constants)
        out = attend(q, k, v, encoding=encoding, params=joined, mask=mask, backend=backend)
        return jnp.sum(jnp.sin(out)) + jnp.sum(jnp.sin(encoding.embed(joined, x, jnp.arange(length))))

    got, want = (jax.grad(loss)(params, name) for name in (backend, "reference"))
    named = jax.tree_util.tree_leaves_with_path(got)
    pairs = {"no parameters": (0.0, 0.0)}
    for (path, leaf), expected in zip(named, jax.tree.leaves(want), strict=True):
        pairs[jax.tree_util.keystr(path)] = (leaf if jnp.any(leaf != 0) else jnp.nan, expected)
    return _worst("gradient", pairs, 1e-4)


def check(encoding: Encoding, dims: Dims, dtype: DTypeLike = jnp.float32, show: bool = True) -> tuple[Finding, ...]:
    """Measures every law that applies, prints a table with the worst errors, and returns the findings.

    >>> import posjax
    >>> all(finding.holds for finding in check(posjax.NoPE(), Dims(2, 8, 16), show=False))
    True
    """
    params = encoding.init(jax.random.key(0), dims)
    joined = encoding.join(params, encoding.constants(dims))
    findings = [tile(encoding, joined, dims), decode(encoding, params, dims, dtype=dtype),
                packing(encoding, params, dims, dtype=dtype), causal(encoding, params, dims, dtype=dtype),
                gradients(encoding, dims)]
    if encoding.relative:
        last = (encoding.max_length or 2**31) - 17
        offsets = [offset for offset in OFFSETS if offset <= last]
        moved = _moved(encoding, joined, dims, offsets, 16, 0, dtype)
        findings.append(_shift(moved, offsets, 1e-5 if jnp.dtype(dtype) == jnp.float32 else 0.02))
    if encoding.tells_apart and encoding.max_length is None:
        turned = type(encoding).rotate is not Encoding.rotate or encoding.embeds
        some = (0, 1, 257, 2**24, 2**24 + 1, 2**31 - 1)
        findings += [distinct(encoding, joined, dims, some)] if turned and encoding.bias_kind == "none" else []
    if show:
        print(table(encoding, findings, dtype))
    return tuple(findings)


def table(encoding: Encoding, findings: Sequence[Finding], dtype: DTypeLike = jnp.float32) -> str:
    """The findings as text of 80 columns."""
    lines = [f"{encoding!r} in {jnp.dtype(dtype).name}"]
    lines += [f"  {'holds ' if f.holds else 'BROKEN'}  {f.law:<9} {f.worst:9.1e} of {f.allowed:7.0e}   {f.where}"
              for f in findings]
    return "\n".join(lines)
