"""Two encodings by distance: near pairs by one, far pairs by the other."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from posjax.encodings.base import Dims, Encoding, Pairs, Params
from posjax.encodings.chunks import Chunks
from posjax.encodings.traits import scores_content, turns_by_one_position
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
            if _does_more(part):
                raise InputError(
                    f"near_far got {part!r}: needed are encodings that rotate by one position and do no "
                    "more; chain what embeds, biases or moves positions beside it"
                )

    @property
    def relative(self) -> bool:
        # Where chunks begin depends on the position itself, not on a distance.
        if isinstance(self.window, Chunks):
            return False
        return self.near.relative and self.far.relative

    @property
    def causal(self) -> bool:
        return self.near.causal or self.far.causal

    @property
    def max_length(self) -> int | None:
        bounded = [part.max_length for part in (self.near, self.far) if part.max_length is not None]
        return min(bounded, default=None)

    @property
    def length_dependent(self) -> bool:
        return self.near.length_dependent or self.far.length_dependent

    def init(self, key: jax.Array, dims: Dims) -> Params:
        far_key = jax.random.fold_in(key, 1)
        near = self.near.init(key, dims)
        far = self.far.init(far_key, dims)
        return {"near": near, "far": far}

    def constants(self, dims: Dims) -> Params:
        near = self.near.constants(dims)
        far = self.far.constants(dims)
        return {"near": near, "far": far}

    def join(self, params: Params, constants: Params) -> Params:
        params = params or {}
        constants = constants or {}
        near = self.near.join(params.get("near"), constants.get("near"))
        far = self.far.join(params.get("far"), constants.get("far"))
        return {"near": near, "far": far}

    def score(self, params: Params, q: jax.Array, k: jax.Array, pairs: Pairs) -> jax.Array:
        params = self.join(params, None)
        if isinstance(self.window, Chunks):
            is_near = self.window.near(pairs.q_positions, pairs.k_positions)
        else:
            is_near = jnp.abs(pairs.distance) < self.window
        # Both for every pair: which side a pair is on is data, and a compiled function takes no branch by data.
        near = _score(self.near, params["near"], q, k, pairs)
        far = _score(self.far, params["far"], q, k, pairs)
        return jnp.where(is_near[None], near, far)

    def at_length(self, length: int) -> Encoding:
        near = self.near.at_length(length)
        far = self.far.at_length(length)
        return dataclasses.replace(self, near=near, far=far)

    def __repr__(self) -> str:
        return f"near_far({self.window}, {self.near!r}, {self.far!r})"


def _does_more(part: Encoding) -> bool:
    """Whether an encoding does more than to rotate by one position."""
    # A `near_far` inside another rotates too, within its score.
    scores = scores_content(part) and not isinstance(part, NearFar)
    return scores or not turns_by_one_position(part)


def _score(part: Encoding, params: Params, q_TNH: jax.Array, k_SNH: jax.Array, pairs: Pairs) -> jax.Array:
    """The scores `[N, T, S]` of queries and keys that are not rotated yet, by one of the two."""
    # A hook takes a batch: here it is of one row.
    q_BTNH = part.rotate(params, q_TNH[None], pairs.q_positions, "query")
    k_BSNH = part.rotate(params, k_SNH[None], pairs.k_positions, "key")
    q_TNH = q_BTNH[0]
    k_SNH = k_BSNH[0]
    # A mark is put back where it is seen: within a product it would reach the gradient of what is not.
    lost_q = jnp.any(jnp.isnan(q_TNH), axis=-1, keepdims=True)
    lost_k = jnp.any(jnp.isnan(k_SNH), axis=-1, keepdims=True)
    q_TNH = jnp.where(lost_q, 0, q_TNH)
    k_SNH = jnp.where(lost_k, 0, k_SNH)
    score_NTS = part.score(params, q_TNH, k_SNH, pairs)
    lost_q_NT = lost_q[..., 0].T
    lost_k_NS = lost_k[..., 0].T
    lost_NTS = lost_q_NT[:, :, None] | lost_k_NS[:, None, :]
    return jnp.where(lost_NTS, jnp.nan, score_NTS)


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

    >>> from posjax.encodings.pinned import Pinned
    >>> from posjax.encodings.rope import Rope
    >>> near_far(8, Rope(), Pinned(Rope(), 8)).window
    8
    """
    return NearFar(window, near, far)
