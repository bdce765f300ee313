"""Assertions that a user runs on any encoding, theirs included: that it does what an encoding must.

Each law is measured by one function that returns a `Finding`, the worst error and the input that gave it. The
assertions raise `AssertionError` where a finding is past what is allowed; `check` runs all laws and prints a table.

Every assertion here obeys chex, as chex's own do: after `chex.disable_asserts()` it measures nothing and returns, until
`chex.enable_asserts()`. What measures and asserts nothing (`tile`, `decode`, …, `check`) always measures. Under `jit`,
`assert_relative` alone works, in a function wrapped by `chex.chexify`; whether it is on is then asked while tracing.

Hooks and attention run compiled, as a model runs them. Each law compiles anew, so nothing of an earlier one is used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any, ParamSpec

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import core
from jax.typing import DTypeLike

from posjax import positions as places
from posjax.arguments import LARGEST, whole
from posjax.attention import Causal, Full, Mask, Segments, attend
from posjax.encodings.base import Dims, Encoding, Head, Pairs, Params
from posjax.errors import InputError

Arguments = ParamSpec("Arguments")
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
        if not self.holds and asserting():
            raise AssertionError(f"{encoding!r} breaks the law {self.law!r}: the error is {self.worst:.2g} at "
                                 f"{self.where}, and {self.allowed:.2g} is allowed")


def asserting() -> bool:
    """Whether assertions are on: not after `chex.disable_asserts()`."""
    try:
        chex.assert_equal(0, 1)  # chex tells by its assertions alone: this one fails wherever they are on.
    except AssertionError:
        return True
    return False


def _assertion(law: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """An assertion that measures nothing while assertions are off."""
    @wraps(law)
    def obedient(*args: Arguments.args, **named: Arguments.kwargs) -> None:
        if asserting():
            law(*args, **named)

    return obedient


def _expect(encoding: Any, dims: Any, params: Any = ()) -> None:
    """Errors: `InputError` names an argument that is no encoding, no `Dims`, or no parameters."""
    if not isinstance(encoding, Encoding):
        raise InputError(f"encoding is {encoding!r}: needed is a value, such as Rope()")
    if not isinstance(dims, Dims):
        raise InputError(f"dims is {dims!r}: needed is Dims(heads, head_size, model_size)")
    if params is None:
        raise InputError("params is None: needed is encoding.init(key, dims), {} where nothing is learned")


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


@_assertion
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
    _expect(encoding, dims, params)
    length = whole(length, "length", least=1)
    offsets = [whole(offset, "an offset", least=-LARGEST) for offset in offsets]
    if offsets and max(offsets) > LARGEST - length:
        raise InputError(f"an offset is {max(offsets)}: needed are {LARGEST - length} at most, so that positions stay "
                         "below 2^31")
    q, k = _normal((2, 2, length, dims.heads, dims.head_size), seed, dtype)

    @jax.jit
    def measure(q: jax.Array, k: jax.Array, offset: Any) -> tuple[jax.Array, jax.Array]:
        """The scores at positions from an offset on, and their scale."""
        at = offset + jnp.arange(length, dtype=jnp.int32)
        # Pairs that a head is blind to have one huge score, which would hide all others.
        seen = jnp.maximum(scores(encoding, params, q, k, at, at), -1e6)
        return seen, jnp.maximum(jnp.max(jnp.where(seen > -1e6, jnp.abs(seen), 0.0)), 1.0)

    before, scale = measure(q, k, np.int32(0))
    return [(measure(q, k, np.int32(offset))[0] / scale, before / scale) for offset in offsets]


def _shift(moved: list[tuple[jax.Array, jax.Array]], offsets: Sequence[int], tolerance: float) -> Finding:
    errors = [_error(after, before) for after, before in moved]
    worst = int(np.argmax(errors)) if errors else 0
    return Finding("shift", max(errors, default=0.0), tolerance, str(offsets[worst]) if errors else "no offset")


def _error(got: Any, want: Any) -> float:
    """The largest difference; infinite where either is not a number."""
    difference = np.abs(np.asarray(got, np.float64) - np.asarray(want, np.float64))
    return float(np.max(np.where(np.isnan(difference), np.inf, difference), initial=0.0))


@_assertion
def assert_tile(encoding: Encoding, params: Params, dims: Dims, length: int = 12, seed: int = 0) -> None:
    """The tile law: every hook of a slice of positions is the slice of the hook.

    >>> import posjax
    >>> assert_tile(posjax.Alibi(), {}, Dims(heads=3, head_size=8, model_size=24))
    """
    tile(encoding, params, dims, length, seed).enforce(encoding)


def tile(encoding: Encoding, params: Params, dims: Dims, length: int = 12, seed: int = 0) -> Finding:
    """Measures the tile law."""
    _expect(encoding, dims, params)
    at = np.arange(length, dtype=np.int32)
    x = _normal((2, length, dims.model_size), seed)
    heads = _normal((2, length, dims.heads, dims.head_size), seed)
    rows, columns = slice(length // 3, length - 1), slice(1, length // 2)
    hooks = jax.jit(partial(_hooks, encoding, params))
    # Two programs, compiled apart: in one the compiler could make the slice and the whole the same computation.
    entire = hooks(x, heads, at, at)
    part = hooks(x[:, rows], heads[:, rows], at[rows], at[columns])
    cuts = {name: (rows, columns) if name.startswith("bias") else (slice(None), rows) for name in entire}
    return _worst("tile", {name: (part[name], np.asarray(entire[name])[cuts[name]]) for name in cuts}, 1e-5)


def _hooks(encoding: Encoding, params: Params, x: jax.Array, heads: jax.Array, q_at: jax.Array, k_at: jax.Array
           ) -> dict[str, jax.Array]:
    """What each hook gives, by name."""
    count = heads.shape[-2]
    biases = {f"bias of head {n}": encoding.bias(params, q_at, k_at, Head(n, count)) for n in range(count)}
    return {"embed": encoding.embed(params, x, q_at), "query": encoding.rotate(params, heads, q_at, "query"),
            "key": encoding.rotate(params, heads, q_at, "key"), **biases}


def _normal(shape: tuple[int, ...], seed: int, dtype: DTypeLike = jnp.float32) -> np.ndarray:
    """Random numbers, made and cut on the host: JAX would compile its generator for each shape, half a second each."""
    return np.random.default_rng(seed).standard_normal(shape).astype(jnp.dtype(dtype))


def _worst(law: str, pairs: dict[str, tuple[Any, Any]], allowed: float) -> Finding:
    errors = {where: _error(got, want) for where, (got, want) in pairs.items()}
    where = max(errors, key=lambda name: errors[name])
    return Finding(law, errors[where], allowed, where)


@_assertion
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
    _expect(encoding, dims, params)
    positions = [whole(position, "a position") for position in positions]
    at = np.asarray(positions, np.int32)
    x = _normal((1, 1, dims.model_size), seed)
    heads = _normal((1, 1, dims.heads, dims.head_size), seed)

    @jax.jit
    def told(x: jax.Array, heads: jax.Array, at: jax.Array) -> jax.Array:
        """For each position what is embedded and rotated there."""
        embedded = encoding.embed(params, jnp.broadcast_to(x, (1, at.size, *x.shape[2:])), at)
        rotated = encoding.rotate(params, jnp.broadcast_to(heads, (1, at.size, *heads.shape[2:])), at, "query")
        return jnp.concatenate([embedded[0], rotated[0].reshape(at.size, -1)], axis=1)

    both = np.asarray(told(x, heads, at))
    same = [(positions[j], positions[i]) for i in range(len(at)) for j in range(i) if np.array_equal(both[i], both[j])]
    where = f"position {same[0][0]} from {same[0][1]}" if same else f"{len(at)} positions"
    return Finding("distinct", float(len(same)), 0.0, where)


def _sample(dims: Dims, length: int, seed: int, dtype: DTypeLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    q, k, v = _normal((3, 2, length, dims.heads, dims.head_size), seed, dtype)
    return q, k, v


def _compiled(**run: Any) -> Callable[..., jax.Array]:
    """`attend`, compiled for each shape. It is taken when traced: whoever replaces it is heard."""
    return jax.jit(lambda q, k, v, **positions: attend(q, k, v, **positions, **run))


@_assertion
def assert_decode(encoding: Encoding, params: Params, dims: Dims, seed: int = 0, backend: str = "auto") -> None:
    """The decode law: each token alone, over the keys so far, gets what the full pass gives it.

    >>> import posjax
    >>> assert_decode(posjax.Rope(), {}, Dims(heads=2, head_size=8))
    """
    decode(encoding, params, dims, seed, backend).enforce(encoding)


def decode(encoding: Encoding, params: Params, dims: Dims, seed: int = 0, backend: str = "auto",
           dtype: DTypeLike = jnp.float32, length: int = 7) -> Finding:
    """Measures the decode law."""
    _expect(encoding, dims, params)
    q, k, v = _sample(dims, length, seed, dtype)
    run = _compiled(encoding=encoding, params=params, mask=Causal(), backend=backend)
    pairs = {}
    for t in (1, length // 2, length - 1):
        full = np.asarray(run(q[:, : t + 1], k[:, : t + 1], v[:, : t + 1]))
        alone = np.asarray(run(q[:, t : t + 1], k[:, : t + 1], v[:, : t + 1]))
        pairs[f"token {t}"] = alone[:, 0], full[:, t]
    return _worst("decode", pairs, _allowed(dtype))


def _allowed(dtype: DTypeLike) -> float:
    return 1e-5 if jnp.dtype(dtype) == jnp.float32 else 0.05


@_assertion
def assert_packing(encoding: Encoding, params: Params, dims: Dims, seed: int = 0, backend: str = "auto") -> None:
    """The pack law: two documents in one row, positions reset and segments masked, equal the two apart.

    >>> import posjax
    >>> assert_packing(posjax.T5Bias(), posjax.T5Bias().init(jax.random.key(0), Dims(heads=2)), Dims(2, 8))
    """
    packing(encoding, params, dims, seed, backend).enforce(encoding)


def packing(encoding: Encoding, params: Params, dims: Dims, seed: int = 0, backend: str = "auto",
            dtype: DTypeLike = jnp.float32) -> Finding:
    """Measures the pack law."""
    _expect(encoding, dims, params)
    size = 8
    q, k, v = _sample(dims, 2 * size, seed, dtype)
    segments = jnp.array([[1] * size + [2] * size] * 2)
    at = jax.jit(places.packed)(segments)
    run: Any = {"encoding": encoding, "params": params, "backend": backend}
    # A context is as long as its largest position says: the row's length must not matter.
    packed = _compiled(mask=Causal() & Segments(segments), length=size, **run)
    apart = _compiled(mask=Causal(), **run)
    together = np.asarray(packed(q, k, v, q_positions=at, k_positions=at))
    pairs = {f"document {n}": (together[:, s], apart(q[:, s], k[:, s], v[:, s]))
             for n, s in enumerate((slice(0, size), slice(size, 2 * size)), 1)}
    return _worst("pack", pairs, _allowed(dtype))


@_assertion
def assert_causal(encoding: Encoding, params: Params, dims: Dims, seed: int = 0, backend: str = "auto") -> None:
    """Under a causal mask nothing that comes later changes what came before.

    >>> import posjax
    >>> assert_causal(posjax.Alibi(), {}, Dims(heads=2, head_size=8))
    """
    causal(encoding, params, dims, seed, backend).enforce(encoding)


def causal(encoding: Encoding, params: Params, dims: Dims, seed: int = 0, backend: str = "auto",
           dtype: DTypeLike = jnp.float32) -> Finding:
    """Measures how much later keys and values change earlier outputs."""
    _expect(encoding, dims, params)
    q, k, v = _sample(dims, 7, seed, dtype)
    run = _compiled(encoding=encoding, params=params, mask=Causal(), backend=backend)
    later = (np.arange(7) >= 4).astype(q.dtype)[:, None, None]
    before, after = np.asarray(run(q, k, v)), np.asarray(run(q, k + later, v + later))
    return _worst("causal", {"the first 4 of 7 tokens": (after[:, :4], before[:, :4])}, 0.0)


@_assertion
def assert_gradients(encoding: Encoding, dims: Dims, seed: int = 0, backend: str = "auto") -> None:
    """Every parameter of a rotation, a score or a bias gets a gradient, and it is the reference backend's.

    >>> import posjax
    >>> assert_gradients(posjax.Kerple(), Dims(heads=2, head_size=8, model_size=16))
    """
    gradients(encoding, dims, seed, backend).enforce(encoding)


def gradients(encoding: Encoding, dims: Dims, seed: int = 0, backend: str = "auto") -> Finding:
    """Measures the gradient of each parameter against the reference's; one without any counts as infinitely wrong."""
    _expect(encoding, dims)
    params = encoding.init(jax.random.key(seed), dims)
    length = min(encoding.max_length or 40, 40)
    q, k, v = _sample(dims, length, seed, jnp.float32)
    x = _normal((2, length, dims.model_size), seed)
    mask: Mask = Causal() if encoding.causal else Full()
    constants = encoding.at_length(length).constants(dims)

    def loss(params: Params, backend: str) -> jax.Array:
        joined = encoding.join(params, constants)
        out = attend(*map(jnp.asarray, (q, k, v)), encoding=encoding, params=joined, mask=mask, backend=backend)
        return jnp.sum(jnp.sin(out)) + jnp.sum(jnp.sin(encoding.embed(joined, jnp.asarray(x), jnp.arange(length))))

    got, want = (jax.jit(jax.grad(partial(loss, backend=name)))(params) for name in (backend, "reference"))
    named = jax.tree_util.tree_leaves_with_path(got)
    pairs = {"no parameters": (0.0, 0.0)}
    for (path, leaf), expected in zip(named, jax.tree.leaves(want), strict=True):
        pairs[jax.tree_util.keystr(path)] = (leaf if np.any(np.asarray(leaf) != 0) else np.nan, expected)
    return _worst("gradient", pairs, 1e-4)


def check(encoding: Encoding, dims: Dims, dtype: DTypeLike = jnp.float32, show: bool = True) -> tuple[Finding, ...]:
    """Measures every law that applies, prints a table with the worst errors, and returns the findings.

    >>> import posjax
    >>> all(finding.holds for finding in check(posjax.NoPE(), Dims(2, 8, 16), show=False))
    True
    """
    _expect(encoding, dims)
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
