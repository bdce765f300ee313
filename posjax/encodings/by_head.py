"""Different encodings for different heads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from posjax.encodings.base import Dims, Encoding, Head, Params, Role
from posjax.encodings.several import Several, first_coordinate
from posjax.encodings.traits import acts_on_all_heads
from posjax.errors import InputError
from posjax.mesh import placed

BiasOfPart = Callable[[Encoding, Params, Head], jax.Array]
"""The bias of one part for one of its own heads."""


@dataclass(frozen=True)
class ByHead(Several):
    """The heads in as many equal groups as there are parts, each with its own encoding; made by `by_head`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        # A part that acts on all heads would act for the others too.
        if not self.parts or any(acts_on_all_heads(part) for part in self.parts):
            raise InputError(
                f"ByHead got {self.parts!r}: needed is one encoding or more, none of which embeds, scores content or "
                "moves positions; chain such a one beside it"
            )

    def dims_of_part(self, dims: Dims) -> Dims:
        heads = self._group(dims.heads)
        return Dims(heads, dims.head_size, dims.model_size)

    def _group(self, heads: int) -> int:
        """The number of heads of each part."""
        if heads % len(self.parts):
            raise InputError(
                f"by_head has {len(self.parts)} encodings and got {heads} heads: needed is a number of "
                "query and of key-value heads that divides among them"
            )
        return heads // len(self.parts)

    def rotate(self, params: Params, x: jax.Array, positions: jax.Array, role: Role) -> jax.Array:
        heads = x.shape[-2]
        self._group(heads)  # Asked before the split, whose own error would not name the encoding.

        def groupwise(params: Params, x: jax.Array, positions: jax.Array) -> jax.Array:
            return self._turned(params, x, positions, role)

        return placed(groupwise, x, params, x, positions)

    def _turned(self, params: Params, x: jax.Array, positions: jax.Array, role: Role) -> jax.Array:
        groups = jnp.split(x, len(self.parts), axis=-2)
        turned = []
        for (part, own), group in zip(self.with_params(params), groups, strict=True):
            of_part = part.rotate(own, group, first_coordinate(part, positions), role)
            turned.append(of_part)
        return jnp.concatenate(turned, axis=-2)

    def bias(self, params: Params, q_positions: jax.Array, k_positions: jax.Array, head: Head) -> jax.Array:
        def one(part: Encoding, own: Params, local: Head) -> jax.Array:
            return part.bias(own, q_positions, k_positions, local)

        return self._chosen(one, params, head)

    # A group may be linear in the distance, and all heads are not.
    slopes = Several.slopes

    def by_distance(self, params: Params, distance: jax.Array, head: Head) -> jax.Array:
        def one(part: Encoding, own: Params, local: Head) -> jax.Array:
            if part.bias_kind == "none":
                return jnp.zeros(distance.shape, jnp.float32)
            return part.by_distance(own, distance, local)

        return self._chosen(one, params, head)

    def _chosen(self, one: BiasOfPart, params: Params, head: Head) -> jax.Array:
        """Every group's answer for this head, of which the head's own group's is taken: the index may be traced."""
        size = self._group(head.count)
        index = jnp.asarray(head.index)
        answers = []
        for i, (part, own) in enumerate(self.with_params(params)):
            # Clipped, since a group is asked about heads of other groups too: that answer is not taken.
            within = index - i * size
            local = Head(jnp.clip(within, 0, size - 1), size)
            answers.append(one(part, own, local))
        group = index // size
        which = jnp.broadcast_to(group, answers[0].shape)
        return jax.lax.select_n(which, *answers)

    def __repr__(self) -> str:
        return f"by_head({', '.join(map(repr, self.parts))})"


def by_head(*encodings: Encoding) -> Encoding:
    """The heads in equal groups, one for each encoding, in order: `by_head(Rope(), NoPE())` turns the first half.

        head n takes encodings[n // (N / count)]

    With grouped queries the key-value heads are divided in the same way.

    Convention: heads are numbered from 0; a part sees its own group alone: ALiBi has the slopes of so many heads.

    Good at: heads of different kinds in one layer: some with positions and some without, some near and some far.
    Bad at: head counts that do not divide; and cost, since each head evaluates every part's bias and takes its own.

    Errors: `InputError` for no encoding, one that scores content, and, once known, heads that do not divide.
    Source: none; a combinator of this library.

    >>> from posjax.encodings.rope import Rope
    >>> from posjax.encodings.base import NoPE
    >>> by_head(Rope(), NoPE()).parts[1]
    NoPE()
    """
    return ByHead(tuple(encodings))
