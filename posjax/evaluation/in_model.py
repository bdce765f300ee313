"""The encodings of a model with what they have learned, and what attention sees of them: no text, no weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from posjax.encodings import Chain, Dims, Encoding, Head, Pairs, Params, Rope
from posjax.encodings.traits import defines
from posjax.errors import InputError
from posjax.evaluation.variants import TrainedModel
from posjax.models import Architecture
from posjax.models.plans import plan

Turn = Callable[[jax.Array, jax.Array], jax.Array]
"""Rotates queries or keys `[B, T, N, H]` by their positions `[T]`."""


@dataclass(frozen=True, eq=False)
class EncodingInModel:
    """One encoding of a model: its sizes, its parameters with the constants, and the coordinates that name it."""

    encoding: Encoding
    dims: Dims
    params: Params
    coordinates: dict[str, int]

    def scores(
        self, q_TD: jax.Array, k_SD: jax.Array, q_at: jax.Array, k_at: jax.Array, turn: Turn | None = None
    ) -> jax.Array:
        """The logits `[N, T, S]` of tokens that go the way of a model's: embedded, cut into heads, turned, and biased.

        The queries are the last of the tokens. `turn` stands in for the encoding's own rotation.
        """
        queries = self._heads(q_TD, q_at)
        keys = self._heads(k_SD, k_at)
        if turn is None:
            queries = self.encoding.rotate(self.params, queries, q_at, "query")
            keys = self.encoding.rotate(self.params, keys, k_at, "key")
        else:
            queries = turn(queries, q_at)
            keys = turn(keys, k_at)
        T, S = len(q_at), len(k_at)
        # In token order, for encodings that count what lies between a query and a key.
        pairs = Pairs(q_at, k_at, jnp.arange(S - T, S), jnp.arange(S))
        content = self.encoding.score(self.params, queries[0], keys[0], pairs)
        return content + self.bias(q_at, k_at)

    def bias(self, q_at: jax.Array, k_at: jax.Array) -> jax.Array:
        """The biases of all heads, `[N, T, S]`."""
        heads = self.dims.heads
        each = [self.encoding.bias(self.params, q_at, k_at, Head(n, heads)) for n in range(heads)]
        return jnp.stack(each)

    def _heads(self, x_TD: jax.Array, at: jax.Array) -> jax.Array:
        """Token vectors as the queries or keys of heads, `[1, T, N, H]`: what a projection by the unit would give."""
        sizes = self.dims
        x_BTD = self.encoding.embed(self.params, x_TD[None], at)
        # Heads together may be wider than the stream: then it is taken again from its beginning.
        width = sizes.heads * sizes.head_size
        times = math.ceil(width / sizes.model_size)
        wide = jnp.tile(x_BTD, (1, 1, times))
        fitting = wide[..., :width]
        return fitting.reshape(1, len(at), sizes.heads, sizes.head_size)

    def rotary(self) -> tuple[Rope, Any] | None:
        """The rotary part and its constants, where it is all that turns; else nothing."""
        parts = [(self.encoding, self.params)]
        if isinstance(self.encoding, Chain):
            parts = list(self.encoding.with_params(self.params))
        # A bias beside it leaves the angles alone; a temperature does not, nor does a second rotation.
        turning = [(part, own) for part, own in parts if defines(part, "rotate")]
        if len(turning) != 1:
            return None
        part, own = turning[0]
        if not isinstance(part, Rope):
            return None
        return part, own


def encodings_in(trained_model: TrainedModel, length: int) -> Iterator[EncodingInModel]:
    """The encodings of a model's main stack for a context of that length, each once.

    Where there are several, `layer` is the first layer that one of them stands in.
    """
    architecture = trained_model.architecture
    name = architecture.main
    made = plan(architecture.main_stack, architecture.width)
    kinds = dict(made.kinds)
    first: dict[str, int] = {}
    for layer, sublayers in enumerate(made.layers):
        for kind in sublayers:
            # A feed-forward has no tokens to tell apart.
            if kind is not None:
                first.setdefault(kinds[kind].owner, layer)
    for owner, (encoding, dims) in made.owners.items():
        learned = trained_model.model.encodings[name][owner].get_value()
        # A schedule may follow the length; what was learned does not.
        of_length = encoding.at_length(length)
        params = of_length.join(learned, of_length.constants(dims))
        coordinates = {}
        if len(made.owners) > 1:
            coordinates["layer"] = first[owner]
        yield EncodingInModel(of_length, dims, params, coordinates)


def require_one_coordinate(model: Architecture, evaluation: str) -> None:
    """Errors: `InputError` for encodings whose positions are no single number, and so have no distance."""
    for encoding, _ in model.main_stack.encodings(model.width):
        if encoding.coordinates != 1:
            raise InputError(
                f"{evaluation} measures by distance, and the positions of {encoding!r} have {encoding.coordinates} "
                "coordinates: take an encoding of texts"
            )
