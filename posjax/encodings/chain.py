"""Composition: several encodings as one."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import jax

from posjax.encodings import traits
from posjax.encodings.arrays import answered
from posjax.encodings.base import Encoding, Head, NoPE, Pairs, Params, Role
from posjax.encodings.several import Several, first_coordinate
from posjax.encodings.traits import scores_content
from posjax.errors import InputError


@dataclass(frozen=True)
class Chain(Several):
    """The encodings of `parts`, applied in order; made by `chain`, which keeps it flat and without units."""

    @property
    def relative(self) -> bool:
        # Rotations that pair other channels do not commute, and what scores content would see it rotated: either way
        # a score would depend on where both are.
        planes = {_planes(part) for part in self.parts if traits.defines(part, "rotate") or scores_content(part)}
        return super().relative and len(planes) <= 1

    def move(self, params: Params, positions: jax.Array, key: jax.Array) -> jax.Array:
        for i, (part, own) in enumerate(self.with_params(params)):
            # A key of its own for each, or two that draw would draw alike.
            positions = part.move(own, positions, jax.random.fold_in(key, i))
        return positions

    def rotate(self, params: Params, x: jax.Array, positions: jax.Array, role: Role) -> jax.Array:
        for part, own in self.with_params(params):
            x = part.rotate(own, x, first_coordinate(part, positions), role)
        return x

    def bias(self, params: Params, q_positions: jax.Array, k_positions: jax.Array, head: Head) -> jax.Array:
        each = []
        for part, own in self._biased(params):
            answer = part.bias(own, q_positions, k_positions, head)
            each.append(answered(part, "bias", answer, (q_positions.shape[-1], k_positions.shape[-1])))
        if not each:
            return super().bias(params, q_positions, k_positions, head)
        return _sum(each)

    def by_distance(self, params: Params, distance: jax.Array, head: Head) -> jax.Array:
        each = []
        for part, own in self._biased(params):
            answer = part.by_distance(own, distance, head)
            each.append(answered(part, "by_distance", answer, distance.shape))
        return _sum(each)

    def slopes(self, params: Params, heads: int) -> jax.Array | None:
        each = []
        for part, own in self._biased(params):
            found = traits.slopes(part, own, heads)
            # One bias that is not linear makes the sum so.
            if found is None:
                return None
            each.append(found)
        if not each:
            return None
        return _sum(each)

    def score(self, params: Params, q: jax.Array, k: jax.Array, pairs: Pairs) -> jax.Array:
        for part, own in self.with_params(params):
            # One scores at most: `chain` refuses two.
            if scores_content(part):
                return part.score(own, q, k, pairs)
        return super().score(params, q, k, pairs)

    def fading(self, params: Params, k: jax.Array) -> jax.Array | None:
        for part, own in self.with_params(params):
            if scores_content(part):
                return part.fading(own, k)
        return None

    def at_length(self, length: int) -> Encoding:
        return chain(*(part.at_length(length) for part in self.parts))

    def _biased(self, params: Params) -> list[tuple[Encoding, Params]]:
        """The parts that bias, each with its own parameters."""
        return [(part, own) for part, own in self.with_params(params) if part.bias_kind != "none"]

    def __repr__(self) -> str:
        return f"chain({', '.join(map(repr, self.parts))})"


def _planes(part: Encoding) -> Hashable:
    """Which channels a rotation pairs; one that does not say it is known to commute with itself alone."""
    layout = getattr(part, "layout", None)
    # With several coordinates the pairs of each are its own, and follow from their numbers.
    if layout is None or part.coordinates > 1:
        return part
    return layout, getattr(part, "fraction", 1.0)


def _sum(arrays: list[jax.Array]) -> jax.Array:
    # From the first on: composing is associative to the bit, so nothing is added before it.
    total = arrays[0]
    for array in arrays[1:]:
        total = total + array
    return total


def chain(*encodings: Encoding) -> Encoding:
    """Several encodings as one: embeddings and rotations apply in order, biases add.

        embed: b(a(x))     rotate: b(a(x))     bias: a + b     for chain(a, b)

    `chain` is associative and `NoPE()` is its unit, to the bit: nested chains are flattened, units dropped, and a
    single encoding is returned as itself. The parameters are a dict of the parts', by number: "0", "1", ….

    Convention: parts act from left to right, each with parameters of its own; at most one may score content.

    Good at: joining what acts in different places: a position transform, an embedding, a rotation, a temperature, a
    bias.
    Bad at: hiding a part's limits: it is relative only if all parts are, its rotations pair the same channels and
    none of its parts scores what they rotate; causal if one is, and as long as its shortest.

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
        if isinstance(encoding, Chain):
            parts.extend(encoding.parts)
        elif not isinstance(encoding, NoPE):
            parts.append(encoding)
    scoring = [part for part in parts if scores_content(part)]
    if len(scoring) > 1:
        raise InputError(
            f"chain got two encodings that score content, {scoring[0]!r} and {scoring[1]!r}: each takes "
            "the place of the product of queries and keys, so one is the most"
        )
    if not parts:
        return NoPE()
    if len(parts) == 1:
        return parts[0]
    return Chain(tuple(parts))
