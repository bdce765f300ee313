"""Two encodings by distance, and the two rotations that make published context extensions out of them."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from posjax.encodings.base import Dims, Encoding, Pairs, Params, Role
from posjax.errors import InputError
from posjax.fields import check_fields


@dataclass(frozen=True)
class Chunks:
    """A window of whole chunks: near are the keys of the query's own chunk of `size` positions and of the `count - 1`
    chunks on either side.

    Errors: `InputError` for a size or a count below 1.

    >>> import jax.numpy as jnp
    >>> Chunks(2).near(jnp.arange(3), jnp.arange(3)).tolist()
    [[True, True, False], [True, True, False], [False, False, True]]
    """

    size: int
    count: int = 1

    def __post_init__(self) -> None:
        check_fields(self)
        if self.size < 1 or self.count < 1:
            raise InputError(f"Chunks got size={self.size} and count={self.count}: needed are 1 or more of each")

    def near(self, q_positions: jax.Array, k_positions: jax.Array) -> jax.Array:
        """Which pairs are near, `[T]` and `[S]` -> bool `[T, S]`."""
        return jnp.abs(q_positions[:, None] // self.size - k_positions[None, :] // self.size) < self.count


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

    @classmethod
    def examples(cls) -> tuple[Encoding, ...]:
        from posjax.encodings.rope import Rope

        chunked = cls(Chunks(4, 2), Wrapped(Rope(), 4, shift=4, most=5), Wrapped(Rope(), 4, shift=5, most=5))
        return (
            cls(4, Rope(), Regrouped(Rope(), 3, 2)),
            cls(5, Rope(), Pinned(Rope(), 5)),
            cls(Chunks(4), Rope(), chunked),
        )

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


@dataclass(frozen=True)
class _Moved(Encoding):
    """An encoding whose queries and keys stand somewhere else; what `Regrouped` and `Pinned` share."""

    inner: Encoding

    injective: ClassVar[bool] = False

    @property
    def relative(self) -> bool:
        return False

    def init(self, key: jax.Array, dims: Dims) -> Params:
        return self.inner.init(key, dims)

    def constants(self, dims: Dims) -> Params:
        return self.inner.constants(dims)

    def join(self, params: Params, constants: Params) -> Params:
        return self.inner.join(params, constants)

    @property
    def causal(self) -> bool:  # type: ignore[override]
        return self.inner.causal

    def moved(self, positions: jax.Array, role: Role) -> jax.Array:
        return positions

    def rotate(self, params: Params, x: jax.Array, positions: jax.Array, role: Role) -> jax.Array:
        return self.inner.rotate(params, x, jnp.where(positions < 0, -1, self.moved(positions, role)), role)


@dataclass(frozen=True)
class Regrouped(_Moved):
    """Positions in groups, so that far distances shrink by `group`.

        keys at n // group,   queries at m // group + shift

    Convention: m and n are the positions of query and key; the parameters are those of `inner`.

    Good at: distances past the trained ones in a trained rotary model, as the far side of `near_far`: each shrinks
    by the group.
    Bad at: order within a group, whose tokens share a position: alone, near tokens become indistinguishable.

    Errors: `InputError` for a group below 1 or a negative shift.
    Source: Jin et al. 2024, arXiv:2401.01325, section 3.

    >>> from posjax.encodings.rope import Rope
    >>> Regrouped(Rope(), group=4, shift=6).moved(jnp.arange(9), "query").tolist()
    [6, 6, 6, 6, 7, 7, 7, 7, 8]
    """

    group: int
    shift: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.group < 1 or self.shift < 0:
            raise InputError(
                f"Regrouped got group={self.group} and shift={self.shift}: needed are a group of 1 or "
                "more and a shift of 0 or more"
            )

    @classmethod
    def examples(cls) -> tuple[Encoding, ...]:
        return ()  # Floors of positions repeat them by design; `NearFar`'s examples hold it.

    def moved(self, positions: jax.Array, role: Role) -> jax.Array:
        return positions // self.group + (self.shift if role == "query" else 0)


@dataclass(frozen=True)
class Wrapped(_Moved):
    """Positions that start anew every `size` tokens.

        keys at n mod size,   queries at min(m mod size + shift, most)

    Convention: without `most` nothing is cut off; the parameters are those of `inner`.

    Good at: far chunks of `near_far`, as in dual chunk attention: however long the context, positions stay within
    the trained ones.
    Bad at: anything alone: places a whole `size` apart share a position.

    Errors: `InputError` for a size below 1, a negative shift, or keys that could stand after `most`.
    Source: An et al. 2024, arXiv:2402.17463, section 3.

    >>> from posjax.encodings.rope import Rope
    >>> Wrapped(Rope(), size=4, shift=4, most=5).moved(jnp.arange(9), "query").tolist()
    [4, 5, 5, 5, 4, 5, 5, 5, 4]
    """

    size: int
    shift: int = 0
    most: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        most = self.most if self.most is not None else self.size + self.shift - 1
        if self.size < 1 or self.shift < 0 or most < self.size - 1:
            raise InputError(
                f"Wrapped got size={self.size}, shift={self.shift} and most={self.most}: needed are a "
                "size of 1 or more, a shift of 0 or more, and most at size - 1 or later"
            )

    @classmethod
    def examples(cls) -> tuple[Encoding, ...]:
        return ()  # It repeats positions by design; `NearFar`'s examples hold it.

    def moved(self, positions: jax.Array, role: Role) -> jax.Array:
        within = positions % self.size
        if role == "key":
            return within
        return within + self.shift if self.most is None else jnp.minimum(within + self.shift, self.most)


@dataclass(frozen=True)
class Pinned(_Moved):
    """One distance for all pairs.

        keys at 0,   queries at `distance`

    Convention: positions are replaced before `inner` rotates; the parameters are those of `inner`.

    Good at: the far side of `near_far`: however long the context, no pair stands farther apart than the trained
    model knows.
    Bad at: anything alone: all pairs stand at one distance, so it tells nothing of order.

    Errors: `InputError` for a negative distance.
    Source: Su 2023, ReRoPE, https://kexue.fm/archives/9706.

    >>> from posjax.encodings.rope import Rope
    >>> Pinned(Rope(), distance=7).moved(jnp.arange(3), "query").tolist()
    [7, 7, 7]
    """

    distance: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.distance < 0:
            raise InputError(f"Pinned got distance={self.distance}: needed is 0 or more")

    @property
    def relative(self) -> bool:
        return True

    @classmethod
    def examples(cls) -> tuple[Encoding, ...]:
        return ()  # One place for all positions by design; `NearFar`'s examples hold it.

    def moved(self, positions: jax.Array, role: Role) -> jax.Array:
        return jnp.full_like(positions, self.distance if role == "query" else 0)
