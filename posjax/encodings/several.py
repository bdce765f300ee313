"""What all encodings that are made of others share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import jax

from posjax.encodings.base import Dims, Encoding, Params
from posjax.errors import InputError


@dataclass(frozen=True)
class Several(Encoding):
    """Several encodings in one: what chains and encodings by head share.

    Their parameters are a dict, each part's under its number as a string: containers of Flax hold dicts alike in a
    model, in an optimiser's state and in a file, and not tuples.
    """

    parts: tuple[Encoding, ...]

    # What each part declares, together -------------------------------------------------------------------------------

    @property
    def causal(self) -> bool:
        return any(part.causal for part in self.parts)

    @property
    def relative(self) -> bool:
        return all(part.relative for part in self.parts)

    @property
    def max_length(self) -> int | None:
        bounded = [part.max_length for part in self.parts if part.max_length is not None]
        return min(bounded, default=None)

    @property
    def coordinates(self) -> int:
        return max(part.coordinates for part in self.parts)

    @property
    def length_dependent(self) -> bool:
        return any(part.length_dependent for part in self.parts)

    @property
    def bias_kind(self) -> Literal["none", "relative", "pairwise"]:
        kinds = {part.bias_kind for part in self.parts}
        # One that needs both positions makes the sum need them.
        for kind in ("pairwise", "relative"):
            if kind in kinds:
                return kind
        return "none"

    def slopes(self, params: Params, heads: int) -> jax.Array | None:
        """The slopes of a bias that is linear in the distance, float32 `[N]`; `None` for any other, or none."""
        return None

    # What each part is made of, under its number ---------------------------------------------------------------------

    def dims_of_part(self, dims: Dims) -> Dims:
        """The sizes that a part sees of a model."""
        return dims

    def init(self, key: jax.Array, dims: Dims) -> Params:
        inner = self.dims_of_part(dims)
        made = {}
        for i, part in enumerate(self.parts):
            # By its number, so that equal parts begin with different parameters.
            own_key = jax.random.fold_in(key, i)
            made[str(i)] = part.init(own_key, inner)
        return made

    def constants(self, dims: Dims) -> Params:
        inner = self.dims_of_part(dims)
        return {str(i): part.constants(inner) for i, part in enumerate(self.parts)}

    def join(self, params: Params, constants: Params) -> Params:
        params = self._checked_or_empty(params)
        constants = self._checked_or_empty(constants)
        joined = {}
        for i, part in enumerate(self.parts):
            joined[str(i)] = part.join(params.get(str(i)), constants.get(str(i)))
        return joined

    def prepare(self, params: Params, positions: jax.Array, dims: Dims) -> Params:
        inner = self.dims_of_part(dims)
        prepared = {}
        for i, (part, own) in enumerate(self.with_params(params)):
            prepared[str(i)] = part.prepare(own, first_coordinate(part, positions), inner)
        return prepared

    def at_length(self, length: int) -> Encoding:
        return type(self)(tuple(part.at_length(length) for part in self.parts))

    def embed(self, params: Params, x: jax.Array, positions: jax.Array) -> jax.Array:
        for part, own in self.with_params(params):
            x = part.embed(own, x, first_coordinate(part, positions))
        return x

    def with_params(self, params: Params) -> list[tuple[Encoding, Params]]:
        """Each part with its own parameters."""
        params = self._checked(params)
        return [(part, params[str(i)]) for i, part in enumerate(self.parts)]

    def _checked(self, params: Params) -> Params:
        names = [str(i) for i in range(len(self.parts))]
        if not isinstance(params, Mapping):
            raise self._lacking(type(params).__name__, names)
        # Sorted as text, since "10" stands before "2" in a dict that came from a file.
        if sorted(params) != sorted(names):
            raise self._lacking(sorted(params), names)
        return params

    def _checked_or_empty(self, params: Params) -> Params:
        if params is None:
            return {}
        return self._checked(params)

    def _lacking(self, got: object, names: list[str]) -> InputError:
        return InputError(
            f"{type(self).__name__} of {len(self.parts)} encodings got parameters {got}: needed is a "
            f"dict for each part under {', '.join(names)}, as encoding.init(key, dims) makes them"
        )


def first_coordinate(encoding: Encoding, positions: jax.Array) -> jax.Array:
    """Positions as an encoding takes them: of several coordinates the first, where it knows but one, as biases do."""
    if positions.ndim == 3 and encoding.coordinates == 1:
        return positions[..., 0]
    return positions
