"""What all encodings that are made of others share."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import jax

from posjax.encodings.base import Dims, Encoding, Params
from posjax.errors import InputError


@dataclass(frozen=True)
class Several(Encoding):
    """Several encodings in one: what chains and encodings by head or layer share.

    Their parameters are a dict, each part's under its number as a string: containers of Flax hold dicts alike in a
    model, in an optimiser's state and in a file, and not tuples.
    """

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
        params = {} if params is None else self._checked(params)
        constants = {} if constants is None else self._checked(constants)
        return {str(i): part.join(params.get(str(i)), constants.get(str(i))) for i, part in enumerate(self.parts)}

    def at_length(self, length: int) -> Encoding:
        return type(self)(tuple(part.at_length(length) for part in self.parts))

    @property
    def structure(self) -> Hashable:
        return (type(self), *(part.structure for part in self.parts))

    def _dims(self, dims: Dims) -> Dims:
        return dims

    def init(self, key: jax.Array, dims: Dims) -> Params:
        inner = self._dims(dims)
        return {str(i): part.init(jax.random.fold_in(key, i), inner) for i, part in enumerate(self.parts)}

    def constants(self, dims: Dims) -> Params:
        return {str(i): part.constants(self._dims(dims)) for i, part in enumerate(self.parts)}

    def prepare(self, params: Params, positions: jax.Array, dims: Dims) -> Params:
        inner = self._dims(dims)
        return {str(i): part.prepare(own, positions, inner) for i, (part, own) in enumerate(self._with(params))}

    def embed(self, params: Params, x: jax.Array, positions: jax.Array) -> jax.Array:
        for part, own in self._with(params):
            x = part.embed(own, x, positions)
        return x

    def _with(self, params: Params) -> list[tuple[Encoding, Params]]:
        params = self._checked(params)
        return [(part, params[str(i)]) for i, part in enumerate(self.parts)]

    def _checked(self, params: Params) -> Params:
        names = [str(i) for i in range(len(self.parts))]
        if not isinstance(params, Mapping) or sorted(params) != sorted(names):
            got = sorted(params) if isinstance(params, Mapping) else type(params).__name__
            raise InputError(
                f"{type(self).__name__} of {len(self.parts)} encodings got parameters {got}: needed is a "
                f"dict for each part under {', '.join(names)}, as encoding.init(key, dims) makes them"
            )
        return params


@dataclass(frozen=True)
class BySide(Several):
    """Parts of which each serves some heads or layers alone, so none may act on all of them."""

    def __post_init__(self) -> None:
        super().__post_init__()

        def wrong(part: object) -> bool:
            return not isinstance(part, Encoding) or part.scores_content or part.moves_tokens or part.layers > 1

        if not self.parts or any(map(wrong, self.parts)):
            raise InputError(
                f"{type(self).__name__} got {self.parts!r}: needed is one encoding or more, none of which "
                "scores content, moves positions or varies over the layers; chain such a one beside it"
            )
