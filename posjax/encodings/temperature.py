"""Temperatures that sharpen attention as the context grows: they scale the queries, so they chain with anything."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from posjax.axes import lead
from posjax.encodings.base import Dims, Encoding, Params, Role, exact
from posjax.errors import InputError


def _scaled(x: jax.Array, scale: jax.Array, positions: jax.Array) -> jax.Array:
    """`x [B, T, N, H]` times a scale that broadcasts to it, in float32; NaN, without a gradient, where the position is
    negative."""
    # What is not finite is a mark: a product with it would reach the scale's own gradient.
    marked = ~jnp.all(jnp.isfinite(x), axis=-1, keepdims=True)
    scaled = jnp.where(marked, 0.0, x.astype(jnp.float32)) * lead(scale, x.ndim)
    marked = marked | lead((positions < 0)[..., None, None], x.ndim)
    return jnp.where(marked, jnp.nan, scaled).astype(x.dtype)


def _log_place(positions: jax.Array) -> jax.Array:
    """`ln(m + 1)`, `[…, T, 1, 1]`; 0 for a negative position."""
    return jnp.log1p(jnp.maximum(exact(positions), 0).astype(jnp.float32))[..., None, None]


@dataclass(frozen=True)
class LogN(Encoding):
    """log-n scaling: past the trained length, queries grow with the logarithm of their position.

        queries at position m times max(1, ln(m + 1) / ln(original_length))

    `original_length`: the trained length in tokens.

    Convention: queries alone are scaled, so the logits are; within the trained length nothing changes.

    Good at: keeping attention as sharp in long contexts as in trained ones, with any encoding that it is chained
    with.
    Bad at: telling positions apart, which it does not; and alone it did not mend RoPE or NoPE past the trained
    length in small language models.

    Errors: `InputError` for an original length below 2.
    Source: Chiang and Cholak 2022, arXiv:2202.12172, section 5, with the trained length as the unit.

    >>> import jax.numpy as jnp
    >>> LogN(original_length=4).rotate({}, jnp.ones((1, 1, 1, 2)), jnp.array([15]), "query").tolist()
    [[[[2.0, 2.0]]]]
    """

    original_length: int = 512

    injective: ClassVar[bool] = False
    swept: ClassVar[tuple[str, ...]] = ("original_length",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.original_length >= 2:
            raise InputError(
                f"LogN got original_length={self.original_length}: needed is the trained length in tokens, 2 or more"
            )

    @classmethod
    def examples(cls) -> tuple[Encoding, ...]:
        return (cls(original_length=4),)

    def constants(self, dims: Dims) -> Params:
        return {"unit": np.float32(1 / math.log(self.original_length))}

    def rotate(self, params: Params, x: jax.Array, positions: jax.Array, role: Role) -> jax.Array:
        if role == "key":
            return x
        return _scaled(x, jnp.maximum(_log_place(positions) * self.complete(params, Dims())["unit"], 1.0), positions)


@dataclass(frozen=True)
class ScalableSoftmax(Encoding):
    """Scalable softmax: a trained scale for each head, so that attention does not fade as the number of keys grows.

        queries at position m times s_h ln(m + 1)

    Convention: a query at position m sees m + 1 keys, so n = m + 1; the first token, with n = 1, attends to itself
    whatever its scale. `scale` is the initial s.

    Good at: attention that stays sharp as keys grow in number, and retrieval in long contexts, in models trained
    with it (Nakanishi).
    Bad at: telling positions apart, which it does not; and models that were trained without it, whose logits it
    changes at once.

    Errors: `InputError` for a scale that is not positive.
    Source: Nakanishi 2025, arXiv:2501.19399, equation 2.

    >>> import jax
    >>> ScalableSoftmax().init(jax.random.key(0), Dims(heads=3))["scale"].shape
    (3,)
    """

    scale: float = 0.43

    injective: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.scale > 0:
            raise InputError(
                f"ScalableSoftmax got scale={self.scale}: needed is a positive number; the paper's models "
                "learn about 0.43"
            )

    def init(self, key: jax.Array, dims: Dims) -> Params:
        return {"scale": jnp.full((dims.heads,), self.scale, jnp.float32)}

    def rotate(self, params: Params, x: jax.Array, positions: jax.Array, role: Role) -> jax.Array:
        if role == "key":
            return x
        return _scaled(x, _log_place(positions) * lead(params["scale"][:, None], positions.ndim + 2), positions)
