"""What all encodings that are made of others share."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import jax

from posjax.encodings.base import Dims, Encoding, Params
from posjax.errors import InputError


@dataclass(frozen=True)
class _Several(Encoding):
    """Several encodings in one, their parameters in a tuple: what chains and encodings by head or layer share."""

    parts: tuple[Encoding, ...]

    @property
    def causal(self) -> bool:  # type: ignore[override]
        return any(part.causal for part in self.parts)

    @property
    def relative(self) -> bool:
        return all(part.relative for part in self.parts)

    @property
    def max_length(self) -> int | None:
        return min((part.max_length for part in self.parts if part.max_length is not None), default=None)

    @property
    def coordinates(self) -> int:  # type: ignore[override]
        return max(part.coordinates for part in self.parts)

    @property
    def embeds(self) -> bool:
        return any(part.embeds for part in self.parts)

    def advice(self, trained_length: int) -> tuple[str, ...]:
        return tuple(sentence for part in self.parts for sentence in part.advice(trained_length))

    @property
    def length_dependent(self) -> bool:
        return any(part.length_dependent for part in self.parts)

    def join(self, params: Params, constants: Params) -> Params:
        none = (None,) * len(self.parts)
        pairs = zip(self.parts, params or none, constants or none, strict=True)
        return tuple(part.join(own, fixed) for part, own, fixed in pairs)

    def at_length(self, length: int) -> Encoding:
        return type(self)(tuple(part.at_length(length) for part in self.parts))

    @property
    def family(self) -> Hashable:
        return (type(self), *(part.family for part in self.parts))

    def _dims(self, dims: Dims) -> Dims:
        return dims

    def init(self, key: jax.Array, dims: Dims) -> Params:
        return tuple(part.init(jax.random.fold_in(key, i), self._dims(dims)) for i, part in enumerate(self.parts))

    def constants(self, dims: Dims) -> Params:
        return tuple(part.constants(self._dims(dims)) for part in self.parts)

    def prepare(self, params: Params, positions: jax.Array, dims: Dims) -> Params:
        inner = self._dims(dims)
        return tuple(part.prepare(own, positions, inner) for part, own in self._with(params))

    def embed(self, params: Params, x: jax.Array, positions: jax.Array) -> jax.Array:
        for part, own in self._with(params):
            x = part.embed(own, x, positions)
        return x

    def _with(self, params: Params) -> list[tuple[Encoding, Params]]:
        if len(params) != len(self.parts):
            raise InputError(f"{type(self).__name__} of {len(self.parts)} encodings got {len(params)} parameters: give "
                             "one dict for each part, as encoding.init(key, dims) makes them")
        return list(zip(self.parts, params, strict=True))
