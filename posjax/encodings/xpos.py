"""Rotary embedding with a decay along the distance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np

from posjax.axes import expand_rank
from posjax.encodings import phases
from posjax.encodings.arrays import exact
from posjax.encodings.base import Dims, Encoding, Params, Role, complete
from posjax.encodings.phases import rotate_pairs
from posjax.encodings.ranges import Base
from posjax.encodings.schedules import inverse_frequencies
from posjax.errors import InputError
from posjax.fields import AtLeast

UNITS = 60
NARROW_UNITS = 4
"""Where the scales, up to 2^1.81 for each unit, end: within float32's 2^127 and within half of float16's 2^15."""


@dataclass(frozen=True)
class XPos(Encoding):
    """xPos: as RoPE, with queries that shrink and keys that grow along the sequence, each pair at its own rate.

        queries times zeta_i^(m / unit), keys times zeta_i^(-n / unit),   zeta_i = (2i/H + 0.4) / 1.4

    so a score decays as zeta_i^(d / unit). For causal attention only: ahead of the query it would grow.

    Convention: `unit` is 512 tokens, as published. The scales themselves leave float32's range past
    `max_length = 60 unit` positions, so that is where the encoding ends, with NaN; positions may begin anywhere below.
    float16 has an eighth of the exponents: queries and keys of that type end at 4 units, 2,048 positions as published,
    half of its range being left to their own sizes. A query or key whose scaled value its type cannot hold is NaN too,
    never infinite.

    Good at: contexts somewhat past the trained length: far scores fade as well as turn, so it degrades later than
    RoPE does.
    Bad at: attention without a causal mask, and far context, which fades exponentially; a context ends at 60 units,
    in float16 at 4: use bfloat16, which holds all 60.

    Errors: `InputError` for a base not above 1, a unit below 1, another layout, or an odd head size.
    Source: Sun et al. 2022, arXiv:2212.10554, section 3 and algorithm 1.

    >>> import jax.numpy as jnp
    >>> XPos().rotate({}, jnp.ones((1, 1, 1, 4)), jnp.zeros(1, jnp.int32), "query").tolist()
    [[[[1.0, 1.0, 1.0, 1.0]]]]
    """

    base: Base = 10_000.0
    unit: Annotated[int, AtLeast(1, "a unit in tokens", "; published is 512")] = 512
    layout: Literal["split", "interleaved"] = "split"

    swept = ("base",)

    @property
    def causal(self) -> bool:
        return True

    @property
    def relative(self) -> bool:
        return True

    @property
    def max_length(self) -> int | None:
        return UNITS * self.unit

    def constants(self, dims: Dims) -> Params:
        if dims.head_size < 2 or dims.head_size % 2:
            raise InputError(f"XPos got a head size of {dims.head_size}: needed is an even number of 2 or more")
        # Base 2, since a power of two then scales without rounding.
        pairs = np.arange(dims.head_size // 2)
        place = 2 * pairs / dims.head_size
        ratio = (place + 0.4) / 1.4
        decay = np.log2(ratio) / self.unit
        # Eight bits and the rest: a position times the first is exact, so the exponent loses nothing.
        largest = np.abs(decay).max()
        step = 2.0 ** (np.floor(np.log2(largest)) - 8)
        steps = np.round(decay / step)
        coarse = steps * step
        fine = decay - coarse
        frequencies = inverse_frequencies(dims.head_size, self.base)
        return {
            "turns": phases.fixed_point_turns(frequencies),
            "coarse": coarse.astype(np.float32),
            "fine": fine.astype(np.float32),
        }

    def prepare(self, params: Params, positions: jax.Array, dims: Dims) -> Params:
        positions = exact(positions)
        held = complete(self, params, dims)
        cos, sin = phases.cos_sin(positions, held["turns"])
        end = UNITS * self.unit
        outside = (positions < 0) | (positions >= end)
        marked = jnp.where(outside, jnp.nan, positions.astype(jnp.float32))
        at = marked[..., None]
        coarse_rate = expand_rank(jnp.asarray(held["coarse"]), at.ndim)
        fine_rate = expand_rank(jnp.asarray(held["fine"]), at.ndim)
        coarse = at * coarse_rate
        fine = at * fine_rate
        # Whole powers of two are exact, so that only a part of at most a half is left to the exponential.
        whole = jnp.round(coarse)
        power = whole.astype(jnp.int32)
        part = coarse - whole + fine
        grown = jnp.exp2(part)
        shrunk = jnp.exp2(-part)
        query = jnp.ldexp(grown, power)
        key = jnp.ldexp(shrunk, -power)
        return {**held, "cos": cos, "sin": sin, "query": query, "key": key}

    def rotate(self, params: Params, x: jax.Array, positions: jax.Array, role: Role) -> jax.Array:
        if "cos" not in params:
            dims = Dims(head_size=x.shape[-1])
            params = self.prepare(params, positions, dims)
        scale = params[role]
        if x.dtype == jnp.float16:
            end = NARROW_UNITS * self.unit
            past = positions >= end
            scale = jnp.where(past[..., None], jnp.nan, scale)
        cos = params["cos"] * scale
        sin = params["sin"] * scale
        turned = rotate_pairs(x, cos, sin, self.layout)
        # An infinite key would only look like one of no weight, where its score is negative.
        return jnp.where(jnp.isinf(turned), jnp.nan, turned)
