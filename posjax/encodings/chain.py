"""Composition: several encodings as one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import jax

from posjax.encodings.base import Encoding, Head, NoPE, Pairs, Params, Role
from posjax.encodings.several import Several
from posjax.errors import InputError


@dataclass(frozen=True)
class Chain(Several):
    """The encodings of `parts`, applied in order; made by `chain`, which keeps it flat and without units."""

    @property
    def moves_tokens(self) -> bool:
        return any(part.moves_tokens for part in self.parts)

    def move(self, params: Params, positions: jax.Array, key: jax.Array) -> jax.Array:
        for i, (part, own) in enumerate(self._with(params)):
            positions = part.move(own, positions, jax.random.fold_in(key, i))
        return positions

    def rotate(self, params: Params, x: jax.Array, positions: jax.Array, role: Role) -> jax.Array:
        for part, own in self._with(params):
            x = part.rotate(own, x, positions, role)
        return x

    def bias(self, params: Params, q_positions: jax.Array, k_positions: jax.Array, head: Head) -> jax.Array:
        biased = [
            part.bias(own, q_positions, k_positions, head)
            for part, own in self._with(params)
            if part.bias_kind != "none"
        ]
        return sum(biased[1:], start=biased[0]) if biased else super().bias(params, q_positions, k_positions, head)

    def score(self, params: Params, q: jax.Array, k: jax.Array, pairs: Pairs) -> jax.Array:
        scoring = [(part, own) for part, own in self._with(params) if part.scores_content]
        return scoring[0][0].score(scoring[0][1], q, k, pairs) if scoring else super().score(params, q, k, pairs)

    def fading(self, params: Params, k: jax.Array) -> jax.Array | None:
        scoring = [(part, own) for part, own in self._with(params) if part.scores_content]
        return scoring[0][0].fading(scoring[0][1], k) if scoring else None

    @property
    def scores_content(self) -> bool:
        return any(part.scores_content for part in self.parts)

    def of_layer(self, layer: int, params: Params) -> tuple[Encoding, Params]:
        parts = [part.of_layer(layer, own) for part, own in self._with(params)]
        return Chain(tuple(part for part, _ in parts)), {str(i): own for i, (_, own) in enumerate(parts)}

    @property
    def layers(self) -> int:
        return math.lcm(*(part.layers for part in self.parts))

    def at_length(self, length: int) -> Encoding:
        return chain(*(part.at_length(length) for part in self.parts))

    @property
    def bias_kind(self) -> Literal["none", "relative", "pairwise"]:
        kinds = {part.bias_kind for part in self.parts}
        return "pairwise" if "pairwise" in kinds else "relative" if "relative" in kinds else "none"

    def by_distance(self, params: Params, distance: jax.Array, head: Head) -> jax.Array:
        biased = [part.by_distance(own, distance, head) for part, own in self._with(params) if part.bias_kind != "none"]
        return sum(biased[1:], start=biased[0])

    def slopes(self, params: Params, heads: int) -> jax.Array | None:
        each = [part.slopes(own, heads) for part, own in self._with(params) if part.bias_kind != "none"]
        linear = [slopes for slopes in each if slopes is not None]
        return sum(linear[1:], start=linear[0]) if linear and len(linear) == len(each) else None

    def __repr__(self) -> str:
        return f"chain({', '.join(map(repr, self.parts))})"


def chain(*encodings: Encoding) -> Encoding:
    """Several encodings as one: embeddings and rotations apply in order, biases add.

        embed: b(a(x))     rotate: b(a(x))     bias: a + b     for chain(a, b)

    `chain` is associative and `NoPE()` is its unit, to the bit: nested chains are flattened, units dropped, and a
    single encoding is returned as itself. The parameters are a dict of the parts', by number: "0", "1", ….

    Convention: parts act from left to right, each with parameters of its own; at most one may score content.

    Good at: joining what acts in different places: a position transform, an embedding, a rotation, a temperature, a
    bias.
    Bad at: hiding a part's limits: it is relative only if all parts are, causal if one is, and as long as its
    shortest.

    Errors: `InputError` for something that is not an encoding, or two encodings that score content.

    Source: none; a combinator of this library.

    >>> import posjax
    >>> posjax.chain(posjax.Rope(), posjax.NoPE(), posjax.chain(posjax.Kerple()))
    chain(Rope(base=10000.0, schedule=Plain(), layout='split', fraction=1.0), Kerple(kind='log'))
    """
    parts: list[Encoding] = []
    for encoding in encodings:
        if not isinstance(encoding, Encoding):
            raise InputError(f"chain got {encoding!r}: needed is an encoding, a value such as posjax.Rope()")
        if not isinstance(encoding, NoPE):
            parts.extend(encoding.parts if isinstance(encoding, Chain) else (encoding,))
    scoring = [part for part in parts if part.scores_content]
    if len(scoring) > 1:
        raise InputError(
            f"chain got two encodings that score content, {scoring[0]!r} and {scoring[1]!r}: each takes "
            "the place of the product of queries and keys, so one is the most"
        )
    return parts[0] if len(parts) == 1 else Chain(tuple(parts)) if parts else NoPE()
