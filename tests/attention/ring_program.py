"""Compares the ring with the definition on as many host devices as there are.

    XLA_FLAGS=--xla_force_host_platform_device_count=8 python -m tests.attention.ring_program data=2,context=4:Rope

prints the largest error of each case as a share of the tolerance.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from posjax import Alibi, Causal, Dims, Fire, Full, Kerple, NoPE, Rope, Segments, T5Bias, Window, by_head, chain
from posjax.attention import Mask, blocks, describe, reference, ring
from posjax.encodings import Encoding

DIMS = Dims(heads=4, head_size=8)
ROWS, LENGTH, KV_HEADS = 2, 96, 2
TOLERANCE = 1e-5
SEGMENTS = np.array([[1] * 20 + [2] * 41 + [3] * 30 + [0] * 5, [0] * 7 + [4] * 50 + [9] * 39], np.int32)


def packed(segments: np.ndarray) -> jax.Array:
    """Positions that begin anew with each segment."""
    first = np.array([[row.tolist().index(s) for s in row] for row in segments])
    return jnp.asarray(np.arange(segments.shape[1])[None] - first, jnp.int32)


@dataclass(frozen=True)
class SeenByAll(Mask):
    """A rule of a user's own: everything sees the first tokens, as many as each row of the batch says."""

    lengths: Any

    def allowed(self, q_index: jax.Array, k_index: jax.Array) -> jax.Array:
        return Causal().allowed(q_index, k_index) | (k_index[None, None, :] < self.lengths[:, None, None])


jax.tree_util.register_dataclass(SeenByAll, data_fields=["lengths"], meta_fields=[])


@dataclass(frozen=True)
class Case:
    """What to compare: `positions`, those of each row or `None`; `block`, the size of the chunked backend's blocks.

    A length of 96 leaves every block full on 2, 4 and 8 devices, and 88 leaves none. The mask is an argument of the
    compiled function, as in a model, so that the size of a window is unknown before run time, unless it is `constant`.
    """

    encoding: Encoding
    mask: Callable[[], Mask] = Causal
    positions: Callable[[], Any] = lambda: None
    length: int = LENGTH
    block: int = 8
    constant: bool = False


def by_row(length: int) -> jax.Array:
    """Two lines of positions, neither of them contiguous."""
    return jnp.stack([3 * jnp.arange(length), jnp.arange(length) // 2])


def segments() -> Mask:
    return Segments(jnp.asarray(SEGMENTS))


BOTH_WAYS = T5Bias(8, 20, bidirectional=True)
LEARNED = Alibi(learned=True)
CASES = {
    "NoPE causal": Case(NoPE()),
    "NoPE full": Case(NoPE(), Full),
    "Rope": Case(Rope(), length=88),
    "Alibi": Case(LEARNED),
    "Alibi, a window": Case(LEARNED, lambda: Causal() & Window(9), constant=True),
    "Alibi, a window as an argument": Case(LEARNED, lambda: Causal() & Window(9)),
    "T5": Case(T5Bias(8, 20), length=88),
    "T5 full": Case(BOTH_WAYS, Full, length=88),
    "T5, a window both ways": Case(BOTH_WAYS, lambda: Window(11), block=5, constant=True),
    "T5 packed both ways": Case(BOTH_WAYS, segments, lambda: packed(SEGMENTS)[:1]),
    "Kerple packed, contiguous": Case(Kerple(), lambda: Causal() & segments()),
    "Fire": Case(Fire(), length=88, block=12),
    "chain packed": Case(
        chain(Rope(), LEARNED, T5Bias(8, 20)), lambda: Causal() & segments(), lambda: packed(SEGMENTS)
    ),
    "each row its positions": Case(LEARNED, positions=lambda: by_row(88), length=88),
    "each head its bias": Case(by_head(LEARNED, Kerple()), positions=lambda: by_row(LENGTH)),
    "a rule of a user's own": Case(LEARNED, lambda: SeenByAll(jnp.array([5, 60]))),
}


def value_and_gradients(case: Case, attention: Any, dtype: str = "float32") -> list[jax.Array]:
    """Output, log-sum-exp, and the gradients of a random sum of both for q, k, v and the bias's parameters."""
    encoding, length, at = case.encoding, case.length, case.positions()
    keys = jax.random.split(jax.random.key(1), 5)
    q, k, v, weights = (
        jax.random.normal(key, (ROWS, length, heads, DIMS.head_size), dtype)
        for key, heads in zip(keys, (DIMS.heads, KV_HEADS, KV_HEADS, DIMS.heads), strict=False)
    )
    log_weights = jax.random.normal(keys[4], (ROWS, DIMS.heads, length))

    def run(q: Any, k: Any, v: Any, params: Any, mask: Mask | None, at: Any) -> Any:
        joined = encoding.join(params, encoding.constants(DIMS))
        bias = describe(encoding, joined, DIMS.heads, at, at, (length, length), 0)
        places = jnp.arange(length) if at is None else at
        q, k = encoding.rotate(joined, q, places, "query"), encoding.rotate(joined, k, places, "key")
        out, lse = attention(q, k, v, bias, case.mask() if mask is None else mask, 0)
        lse = jnp.where(lse > -1e29, lse, 0.0)  # Of a row that sees nothing only the sign is defined.
        return jnp.vdot(out, weights).astype(jnp.float32) + jnp.vdot(lse, log_weights), (out, lse)

    params, mask = encoding.init(keys[0], DIMS), None if case.constant else case.mask()
    (_, aux), gradients = jax.jit(jax.value_and_grad(run, (0, 1, 2, 3), has_aux=True))(q, k, v, params, mask, at)
    return [*aux, *jax.tree.leaves(gradients)]


def errors(case: Case, mesh: jax.sharding.Mesh) -> list[float]:
    """How far each result on the mesh is from the definition's on one device, as a share of the tolerance."""
    expected = value_and_gradients(case, reference.attention)
    with jax.set_mesh(mesh):
        got = value_and_gradients(case, ring.attention)
    return [
        float(np.max(np.abs(np.asarray(a) - np.asarray(b)) / (TOLERANCE * (1 + np.abs(np.asarray(b))))))
        for a, b in zip(got, expected, strict=True)
    ]


def mesh_of(**axes: int) -> jax.sharding.Mesh:
    """A mesh of the first devices: `mesh_of(data=2, context=4)`."""
    count = int(np.prod(list(axes.values())))
    kinds = (jax.sharding.AxisType.Auto,) * len(axes)
    return jax.make_mesh(tuple(axes.values()), tuple(axes), kinds, devices=jax.devices()[:count])


def main() -> None:
    for argument in sys.argv[1:]:
        axes, _, name = argument.partition(":")
        mesh = mesh_of(**{axis: int(size) for axis, size in (part.split("=") for part in axes.split(","))})
        blocks.BLOCK = CASES[name].block
        print(f"{max(errors(CASES[name], mesh)):.3f}", argument, flush=True)


if __name__ == "__main__":
    main()
