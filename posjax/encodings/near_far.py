"""Two encodings by distance: near pairs by one, far pairs by the other."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from posjax.encodings.base import Dims, Encoding, Pairs, Params
from posjax.encodings.chunks import Chunks
from posjax.errors import InputError


@dataclass(frozen=True)
class NearFar(Encoding):
    """Pairs nearer than `window` are scored by one encoding, the others by another; made by `near_far`."""

    window: int | Chunks
    near: Encoding
    far: Encoding

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.window, Chunks) and self.window < 1:
            raise InputError(f"near_far got window={self.window}: needed is a distance of 1 or more, or Chunks(size)")
        for part in (self.near, self.far):
            does_more = not isinstance(part, Encoding) or part.bias_kind != "none"
            does_more = does_more or (part.scores_content and not isinstance(part, NearFar))
            if does_more or part.embeds or part.moves_tokens or part.coordinates > 1 or part.layers > 1:
                raise InputError(
                    f"near_far got {part!r}: needed are encodings that rotate by one position and do no "
                    "more; chain what embeds, biases or moves positions beside it"
                )

    @property
    def relative(self) -> bool:
        return self.near.relative and self.far.relative and not isinstance(self.window, Chunks)

    @property
    def causal(self) -> bool:  # type: ignore[override]
        return self.near.causal or self.far.causal

    @property
    def max_length(self) -> int | None:
        return min((n for n in (self.near.max_length, self.far.max_length) if n is not None), default=None)

    @property
    def length_dependent(self) -> bool:
        return self.near.length_dependent or self.far.length_dependent

    def init(self, key: jax.Array, dims: Dims) -> Params:
        return {"near": self.near.init(key, dims), "far": self.far.init(jax.random.fold_in(key, 1), dims)}

    def constants(self, dims: Dims) -> Params:
        return {"near": self.near.constants(dims), "far": self.far.constants(dims)}

    def join(self, params: Params, constants: Params) -> Params:
        params, constants = params or {}, constants or {}
        return {
            name: part.join(params.get(name), constants.get(name))
            for name, part in (("near", self.near), ("far", self.far))
        }

    def score(self, params: Params, q: jax.Array, k: jax.Array, pairs: Pairs) -> jax.Array:
        def scored(part: Encoding, own: Params) -> jax.Array:
            turned_q = part.rotate(own, q[None], pairs.q_positions, "query")[0]
            turned_k = part.rotate(own, k[None], pairs.k_positions, "key")[0]
            # A mark is put back where it is seen: within a product it would reach the gradient of what is not.
            lost_q, lost_k = (jnp.any(jnp.isnan(x), axis=-1, keepdims=True) for x in (turned_q, turned_k))
            turned_q, turned_k = jnp.where(lost_q, 0, turned_q), jnp.where(lost_k, 0, turned_k)
            score = part.score(own, turned_q, turned_k, pairs)
            return jnp.where(lost_q[..., 0].T[:, :, None] | lost_k[..., 0].T[:, None, :], jnp.nan, score)

        params = self.join(params, None)
        if isinstance(self.window, Chunks):
            is_near = self.window.near(pairs.q_positions, pairs.k_positions)
        else:
            is_near = jnp.abs(pairs.distance) < self.window
        return jnp.where(is_near[None], scored(self.near, params["near"]), scored(self.far, params["far"]))

    def at_length(self, length: int) -> Encoding:
        return self.replace(near=self.near.at_length(length), far=self.far.at_length(length))

    @property
    def structure(self) -> Hashable:
        return (NearFar, self.window, self.near.structure, self.far.structure)

    def __repr__(self) -> str:
        return f"near_far({self.window}, {self.near!r}, {self.far!r})"


def near_far(window: int | Chunks, near: Encoding, far: Encoding) -> Encoding:
    """Pairs fewer than `window` tokens apart are scored by `near`, those further apart by `far`; both must rotate, or
    be a `near_far` again. `Chunks(size)` as the window takes whole chunks of positions.

        score = near's where |q_position - k_position| < window, far's elsewhere

        Self-Extend:  near_far(w, Rope(), Regrouped(Rope(), group=g, shift=w - w // g))
        ReRoPE:       near_far(w, Rope(), Pinned(Rope(), distance=w))
        dual chunk attention, chunks of s in a model trained at length c:
                      near_far(Chunks(s), Rope(), near_far(Chunks(s, 2), Wrapped(Rope(), s, shift=s, most=c - 1),
                                                           Wrapped(Rope(), s, shift=c - 1, most=c - 1)))

    Convention: distances are those of positions, both directions alike, and both parts are scaled by 1/sqrt(H).

    Good at: extending a trained rotary model without training: near pairs stay as they were, far ones take
    distances that it knows.
    Bad at: speed: every pair is scored twice, by the reference or chunked backend; and fine order among far tokens,
    which is blurred or lost.

    Errors: `InputError` for a window below 1, or parts that bias or score content.
    Source: Jin et al. 2024, arXiv:2401.01325 (Self-Extend); Su 2023 (ReRoPE); An et al. 2024, arXiv:2402.17463 (dual
    chunk attention).

    >>> from posjax.encodings.rope import Rope
    >>> near_far(8, Rope(), Pinned(Rope(), 8)).window
    8
    """
    return NearFar(window, near, far)
