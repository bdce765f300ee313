"""A trained table of absolute positions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import jax
import jax.numpy as jnp

from posjax.axes import expand_rank
from posjax.encodings.arrays import exact, held
from posjax.encodings.base import Dims, Encoding, Params
from posjax.encodings.ranges import Deviation
from posjax.errors import InputError
from posjax.fields import AtLeast
from posjax.mesh import placed

Fill = Literal["clamp", "wrap", "interpolate"]


@dataclass(frozen=True)
class Learned(Encoding):
    """A table with one trained row for each position, added to the embedding.

        x[t] + table[offset + p_t]

    `length`: the number of positions. `deviation`: the standard deviation of the initial rows. `offset`: how many rows
    there are before that of the first position; OPT's tables have two, which nothing reads.

    Convention: a position past the table gives NaN, never a reused row, since jit cannot raise.

    Good at: a fixed, short window: each position may mean anything that training finds, as in BERT and GPT-2.
    Bad at: any length past the trained one: those rows do not exist or were never trained, and clamped, wrapped or
    zero rows fail alike; only interpolated rows stay near.

    Errors: `InputError` for a length below 1, a negative deviation, or a negative offset.
    Source: Gehring et al. 2017, arXiv:1705.03122, section 3.1; Devlin et al. 2018, arXiv:1810.04805.

    >>> import jax
    >>> encoding = Learned(length=8)
    >>> encoding.init(jax.random.key(0), Dims(model_size=4))["table"].shape
    (8, 4)
    """

    length: Annotated[int, AtLeast(1, "the number of rows")] = 512
    deviation: Deviation = 0.02
    offset: Annotated[int, AtLeast(0, "rows before the first position's")] = 0

    @property
    def max_length(self) -> int | None:
        return self.length

    @property
    def rows(self) -> int:
        """Of the table."""
        return self.offset + self.length

    def init(self, key: jax.Array, dims: Dims) -> Params:
        shape = (self.rows, dims.model_size)
        drawn = jax.random.normal(key, shape, jnp.float32)
        return {"table": self.deviation * drawn}

    def embed(self, params: Params, x: jax.Array, positions: jax.Array) -> jax.Array:
        return placed(self._added, x, params, x, exact(positions))

    def _added(self, params: Params, x: jax.Array, positions: jax.Array) -> jax.Array:
        # A negative index would count from the end: send it past the table, where the fill value is.
        outside = (positions < 0) | (positions >= self.length)
        table = held(self, "table", params["table"], self.rows, x.shape[-1])
        index = jnp.where(outside, self.rows, self.offset + positions)
        rows = table.at[index].get(mode="fill", fill_value=jnp.nan)
        # Added in float32 and rounded once: in bfloat16 a small row would vanish beside a large embedding.
        added = expand_rank(rows.astype(jnp.float32), x.ndim)
        wide = x.astype(jnp.float32) + added
        return wide.astype(x.dtype)

    def fill(self, params: Params, trained: int, length: int, how: Fill) -> Params:
        """Parameters whose rows past the first `trained` follow from those, up to `length`, by a usual recipe.

        "clamp" repeats the last trained row, "wrap" starts over, "interpolate" stretches the trained rows evenly over
        `length` positions. Each reuses rows, so distinct positions no longer stay apart: it is for showing what
        happens, not for use.

        Errors: `InputError` where `trained` or `length` is outside the table.
        """
        if not 1 <= trained <= length <= self.length:
            raise InputError(
                f"fill got trained={trained} and length={length}: needed is 1 <= trained <= length <= "
                f"{self.length}, the rows of the table"
            )
        if how not in ("clamp", "wrap", "interpolate"):
            raise InputError(f"fill got how={how!r}: needed is 'clamp', 'wrap' or 'interpolate'")
        table = params["table"]
        held(self, "table", table, self.rows, table.shape[-1])
        unused, trained_rows = table[: self.offset], table[self.offset :]
        filled = _filled(trained_rows, trained, length, how)
        return {**params, "table": jnp.concatenate([unused, filled])}


def _filled(table: jax.Array, trained: int, length: int, how: Fill) -> jax.Array:
    rows = jnp.arange(table.shape[0])
    if how == "clamp":
        clamped = jnp.minimum(rows, trained - 1)
        return table[clamped]
    if how == "wrap":
        wrapped = rows % trained
        return table[wrapped]
    # Where each row stands among the trained ones: the first on the first, the last on the last.
    last = trained - 1
    step = last / max(length - 1, 1)
    scaled = rows.astype(jnp.float32) * step
    place = jnp.minimum(scaled, last)
    below = jnp.minimum(place.astype(jnp.int32), max(trained - 2, 0))
    above = jnp.minimum(below + 1, last)
    past = place - below.astype(jnp.float32)
    part = past[:, None]
    from_below = table[below] * (1 - part)
    from_above = table[above] * part
    return from_below + from_above
