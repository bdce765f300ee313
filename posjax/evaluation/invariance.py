"""Whether scores stay the same when all positions move by one offset: as here, and with the usual float32 angles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from posjax.arguments import LARGEST
from posjax.encodings.phases import rotate_pairs
from posjax.errors import InputError
from posjax.evaluation.base import Evaluation
from posjax.evaluation.in_model import EncodingInModel, Turn, encodings_in, require_one_coordinate
from posjax.evaluation.variants import TrainedModel
from posjax.fields import check_fields
from posjax.models import Architecture
from posjax.results import Measurement


@dataclass(frozen=True)
class Invariance(Evaluation):
    """How far scores move when every position moves by the same offset: the relative property, as a number.

        shift_error = max |score at p + offset - score at p| / max |score at p|

    over `tokens` random queries and keys, each pair of them. `angles` "posjax" is the encoding as it stands; "float32"
    is the same rotation by float32(position) * float32(frequency), as most code computes it, where the encoding is
    rotary. Offsets that a table does not hold are left out. An encoding that adds to the tokens is not relative, and
    shows it.

    Errors: `InputError` for a negative offset, or one that leads past 2^31 - 1, and for positions of several
    coordinates.
    """

    offsets: tuple[int, ...] = (0, 1000, 1_000_000, 2**24, 2**31 - 1 - 64)
    tokens: int = 64

    name: ClassVar[str] = "invariance"

    def __post_init__(self) -> None:
        check_fields(self, positive=("tokens",))
        furthest = LARGEST - self.tokens
        for offset in self.offsets:
            if not 0 <= offset <= furthest:
                raise InputError(
                    f"Invariance got the offset {offset}: needed are 0 to {furthest}, so that positions stay below 2^31"
                )

    def rehearse(self, model: Architecture, vocabulary: int, trained_length: int) -> None:
        require_one_coordinate(model, "Invariance")

    def smaller(self) -> Invariance:
        return replace(self, offsets=self.offsets[:2])

    def run(self, trained_model: TrainedModel, data: Any, seed: int) -> Iterator[Measurement]:
        most = trained_model.architecture.max_length
        offsets = [offset for offset in self.offsets if most is None or offset + self.tokens <= most]
        for one in encodings_in(trained_model, self.tokens):
            for found in self._of_encoding(one, offsets, seed):
                yield found.placed(**one.coordinates)

    def _of_encoding(self, one: EncodingInModel, offsets: list[int], seed: int) -> Iterator[Measurement]:
        # What is no rotation has no angles that could be computed otherwise.
        ways: dict[str, Turn | None] = {"posjax": None}
        if one.rotary() is not None:
            ways["float32"] = float32_turn(one)
        for angles, turn in ways.items():
            for offset, error in zip(offsets, self._errors(one, turn, offsets, seed), strict=True):
                coordinates = {"angles": angles, "offset": offset}
                yield Measurement("shift_error", error, count=self.tokens**2, coordinates=coordinates)

    def _errors(self, one: EncodingInModel, turn: Turn | None, offsets: list[int], seed: int) -> list[float]:
        size = one.dims.model_size
        keys = jax.random.split(jax.random.key(seed))
        queries, tokens = [jax.random.normal(key, (self.tokens, size)) for key in keys]

        @jax.jit
        def scores(offset: jax.Array) -> jax.Array:
            at = offset + jnp.arange(self.tokens, dtype=jnp.int32)
            return one.scores(queries, tokens, at, at, turn)

        # What is ahead of a query is no part of a causal encoding.
        seen = np.tri(self.tokens, dtype=bool)
        found = []
        # In float64 from here, so that the difference is that of the scores and not of its own rounding.
        before = np.asarray(scores(jnp.int32(0)), np.float64)[:, seen]
        scale = np.abs(before).max()
        for offset in offsets:
            after = np.asarray(scores(jnp.int32(offset)), np.float64)[:, seen]
            found.append(float(np.abs(after - before).max() / scale))
        return found


def float32_turn(one: EncodingInModel) -> Turn:
    """The rotation of a rotary encoding as most code has it: the angle is a float32 product, and is reduced after.

    At position p its rounding is half of 2^-24 p radians for the fastest pair: past 2^24 neighbours share an angle.
    """
    rotary = one.rotary()
    if rotary is None:
        raise InputError(f"{one.encoding!r} does not turn queries and keys by angles: it has none in float32")
    rope, _ = rotary
    channels = rope.rotary_size(one.dims.head_size)
    frequencies, factor = rope.schedule.frequencies(channels, rope.base)
    # Here they are rounded to float32, as a table of inverse frequencies holds them.
    rates = jnp.asarray(frequencies, jnp.float32)

    def turn(x: jax.Array, at: jax.Array) -> jax.Array:
        angles = at.astype(jnp.float32)[:, None] * rates[None]
        turning, passing = jnp.split(x, [channels], axis=-1)
        # A schedule's factor on the channels that turn, as the encoding has it.
        cos = jnp.cos(angles) * factor
        sin = jnp.sin(angles) * factor
        turned = rotate_pairs(turning, cos, sin, rope.layout)
        return jnp.concatenate([turned, passing], axis=-1)

    return turn
