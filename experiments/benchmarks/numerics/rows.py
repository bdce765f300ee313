"""The worst errors of angles, rotated products, scores and biases at far positions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import posjax
from experiments.benchmarks.numerics import reference
from experiments.benchmarks.numerics.reference import DIGITS, Formula, Pair, mp
from posjax.encodings import Dims, Encoding, Head
from posjax.invariants import scores

POSITIONS = (2**10, 2**17, 2**20, 2**24, 2**31 - 1)
SIZE = 128
BASES = (10_000.0, 500_000.0)
# With both sides of the border behind which T5 has one bucket, 128.
DISTANCES = (0, 1, 2, 3, 17, 127, 128, 1000)
BIASES: tuple[tuple[Encoding, Formula, float], ...] = (
    (posjax.Alibi(), reference.alibi, 1e-6),
    # A bucket is looked up, and nothing is rounded.
    (posjax.T5Bias(), reference.t5, 0.0),
    (posjax.Kerple(), reference.kerple, 1e-6),
    (posjax.Kerple("power"), reference.kerple_power, 5e-6),
    (posjax.Fire(hidden=8), reference.fire, 5e-6),
)
"""Encodings with their formula and what is promised of their error."""


@dataclass(frozen=True)
class ErrorRow:
    """One measured quantity: what is promised of its worst error, and the worst found at each position."""

    quantity: str
    dtype: str
    promised: float | None
    worst: tuple[float, ...]


Waves = Callable[[np.ndarray, float], tuple[Any, Any]]
"""`(positions, base) -> cos, sin`."""


def measure() -> Iterator[ErrorRow]:
    """Every row of the table."""

    def row(quantity: str, dtype: str, promised: float | None, error: Callable[[int], float]) -> ErrorRow:
        worst = tuple(error(position) for position in POSITIONS)
        return ErrorRow(quantity, dtype, promised, worst)

    yield row("cosines and sines", "float32", 5e-7, angles)
    yield row("the same, float32 position times frequency", "float32", None, usual_angles)
    yield row("rotated products", "float32", 2e-7, lambda position: products(position, "float32"))
    yield row("rotated products", "bfloat16", 2e-3, lambda position: products(position, "bfloat16"))
    yield row("scores of `Rope()`, all positions moved there", "float32", 1e-5, shift)
    for encoding, formula, promised in BIASES:
        error = _bias_error(encoding, formula)
        yield row(f"bias of `{encoding!r}`", "any", promised, error)


def near(position: int) -> np.ndarray:
    """The last positions up to one, which are where rounding shows."""
    return np.arange(position - 7, position + 1, dtype=np.int32)


def angles(position: int) -> float:
    """The worst error of a cosine or sine of posjax."""
    return max(_angle_error(position, base, _ours) for base in BASES)


def usual_angles(position: int) -> float:
    """The same for the usual way: float32(position) times float32(frequency)."""
    return max(_angle_error(position, base, _usual) for base in BASES)


def _angle_error(position: int, base: float, way: Waves) -> float:
    at = near(position)
    worst = 0.0
    exact = reference.exact_waves(at, base, SIZE)
    for got, want in zip(way(at, base), exact, strict=True):
        # In float64, where a difference of float32 numbers is not rounded again.
        wide = np.asarray(got, np.float64)
        error = np.abs(wide - want)
        worst = max(worst, float(error.max()))
    return worst


def _ours(at: np.ndarray, base: float) -> tuple[Any, Any]:
    dims = Dims(head_size=SIZE)
    prepared = posjax.Rope(base).prepare({}, jnp.asarray(at), dims)
    return prepared["cos"], prepared["sin"]


def _usual(at: np.ndarray, base: float) -> tuple[Any, Any]:
    channels = jnp.arange(0, SIZE, 2, dtype=jnp.float32)
    exponents = -channels / SIZE
    frequencies = jnp.float32(base) ** exponents
    rounded = jnp.asarray(at, jnp.float32)
    angle = rounded[:, None] * frequencies[None]
    return jnp.cos(angle), jnp.sin(angle)


def products(position: int, dtype: str) -> float:
    """The worst error of a rotated product, relative to the lengths of its two vectors."""
    rng = np.random.default_rng(0)
    shape = (1, 8, 1, SIZE)
    queries = rng.normal(size=shape)
    keys = rng.normal(size=shape)
    q_BTNH = jnp.asarray(queries, dtype)
    k_BSNH = jnp.asarray(keys, dtype)
    q_at = near(position)
    # Keys at small distances and some further back, but none before the first position.
    distances = np.array([0, 1, 2, 7, 100, 1000, 5, 3], np.int32)
    k_at = np.maximum(q_at - distances, 0)
    worst = 0.0
    for base in BASES:
        got_q = _rotated(q_BTNH, q_at, base)
        got_k = _rotated(k_BSNH, k_at, base)
        got = got_q @ got_k.T
        q = _exactly_rotated(q_BTNH, q_at, base)
        k = _exactly_rotated(k_BSNH, k_at, base)
        q_norms = np.linalg.norm(q, axis=-1)
        k_norms = np.linalg.norm(k, axis=-1)
        # Relative to the two lengths: a product of vectors at right angles is near 0, and its error is not.
        lengths = q_norms[:, None] * k_norms[None]
        want = q @ k.T
        error = np.abs(got - want) / lengths
        largest = float(np.max(error))
        worst = max(worst, largest)
    return worst


def _rotated(x: jax.Array, at: np.ndarray, base: float) -> np.ndarray:
    """What posjax makes of `[1, T, 1, H]`, as `[T, H]`."""
    # Keys are turned as queries are.
    turned = posjax.Rope(base).rotate({}, x, jnp.asarray(at), "query")
    rows = turned[0, :, 0]
    return np.asarray(rows, np.float64)


def _exactly_rotated(x: jax.Array, at: np.ndarray, base: float) -> np.ndarray:
    """What it should be, of the numbers that are left in `x`'s dtype."""
    cos, sin = reference.exact_waves(at, base, SIZE)
    wide = np.asarray(x[0, :, 0], np.float64)
    a, b = np.split(wide, 2, axis=-1)
    turned_a = a * cos - b * sin
    turned_b = a * sin + b * cos
    return np.concatenate([turned_a, turned_b], axis=-1)


def _bias_error(encoding: Encoding, formula: Formula) -> Callable[[int], float]:
    return lambda position: bias(encoding, formula, position)


def bias(encoding: Encoding, formula: Formula, position: int, heads: int = 12) -> float:
    """The worst error of a bias, relative to its size where that is above 1."""
    dims = Dims(heads=heads, head_size=SIZE)
    key = jax.random.key(0)
    made = encoding.init(key, dims)
    params = {name: np.asarray(x) for name, x in made.items()}
    # Near ones, where buckets and logarithms change most; far ones, where float32 rounds; none before position 0.
    distances = [d for d in (*DISTANCES, position // 3, position) if d <= position]
    q_at = jnp.asarray([position], jnp.int32)
    keys_at = [position - d for d in distances]
    k_at = jnp.asarray(keys_at, jnp.int32)
    worst = 0.0
    for head in range(heads):
        got_TS = encoding.bias(params, q_at, k_at, Head(head, heads))
        got_S = got_TS[0]
        with mp.workdps(DIGITS):
            for got, distance in zip(got_S, distances, strict=True):
                pair = Pair(params, distance, position, head, heads)
                want = formula(pair)
                difference = abs(mp.mpf(float(got)) - want)
                error = difference / max(1, abs(want))
                worst = max(worst, float(error))
    return worst


def shift(position: int) -> float:
    """How much RoPE's scores change when all positions move there, relative to the scores' scale."""
    encoding = posjax.Rope()
    dims = Dims(heads=4, head_size=64)
    length = 64
    constants = encoding.constants(dims)
    params = encoding.join(None, constants)
    shape = (2, 1, length, dims.heads, dims.head_size)
    key = jax.random.key(0)
    q, k = jax.random.normal(key, shape)
    at = jnp.arange(length)

    # Compiled, with the offset as data: the same program at every offset, as in a model.
    @jax.jit
    def moved(offset: jax.Array) -> jax.Array:
        moved_at = at + offset
        return scores(encoding, params, q, k, moved_at, moved_at)

    # The last position must still be an int32.
    last = 2**31 - 1 - length
    offset = min(position, last)
    here = np.asarray(moved(jnp.int32(0)))
    there = np.asarray(moved(jnp.int32(offset)))
    change = np.abs(here - there).max()
    scale = np.abs(here).max()
    return float(change / scale)
