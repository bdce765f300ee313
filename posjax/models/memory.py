"""What an encoder hands to a decoder: its stream, and where its tokens stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax

from posjax import positions
from posjax.arguments import integers
from posjax.attention import Full, Mask, Segments


@dataclass(frozen=True)
class Memory:
    """An encoder's stream `[B, S, D]`, the positions `[S]` or `[B, S]` of its tokens, and which are real, `[B, S]`.

    `None` for positions: 0, 1, 2, …; for `real`: all of them. A negative position is padding too.
    """

    stream: jax.Array
    positions: jax.Array | None = None
    real: jax.Array | None = None

    @property
    def rows(self) -> int:
        return self.stream.shape[0]

    @property
    def tokens(self) -> int:
        return self.stream.shape[1]

    @property
    def k_positions(self) -> jax.Array:
        if self.positions is None:
            return positions.contiguous(self.tokens)
        return self.positions

    def mask(self, queries: int) -> Mask:
        """Which tokens of it that many queries may see."""
        real = None
        if self.real is not None:
            real = documents(self.real)
        if self.positions is not None:
            somewhere = jax.numpy.asarray(self.positions) >= 0
            if somewhere.ndim == 3:
                somewhere = jax.numpy.all(somewhere, axis=-1)
            # Positions of all rows at once have no axis for the batch.
            placed = documents(jax.numpy.broadcast_to(somewhere, (self.rows, self.tokens)))
            real = placed if real is None else real * placed
        if real is None:
            return Full()
        # Every query is of document 1, and so is every key that is real.
        looking = jax.numpy.ones((1, queries), jax.numpy.int32)
        return Segments(looking, real)


jax.tree_util.register_dataclass(Memory, data_fields=["stream", "positions", "real"], meta_fields=[])


def documents(real: Any) -> jax.Array:
    """The ids of `Segments` under which padding is not seen, and sees nothing: int32, 1 where `real` is true.

    Errors: `InputError` where it is not bool, or integers, `[B, S]`.
    """
    marks = integers(real, "real", (2,), "needed is bool [B, S], true where there is a token", boolean=True)
    # True or false, whatever the numbers: two of them that differ would be two documents.
    return jax.numpy.asarray(marks).astype(bool).astype(jax.numpy.int32)
