"""Rotary embedding of several coordinates: images, video, and text among them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

from posjax.encodings import phases
from posjax.encodings.arrays import exact
from posjax.encodings.base import Dims, Encoding, Params, Role, complete
from posjax.encodings.phases import rotate_pairs
from posjax.encodings.ranges import Base
from posjax.encodings.schedules import inverse_frequencies
from posjax.errors import InputError


@dataclass(frozen=True)
class AxialRope(Encoding):
    """RoPE over positions with several coordinates, `[B, T, A]`: each pair of channels turns by one of them.

        pair i of section a turns by position[a] * theta_i

    `sections`: how many pairs read each coordinate, in order; their sum is at most half the head, and the rest passes.
    `frequencies`: "own" gives every section the whole range of frequencies, base^(-j / pairs of the section), as
    vision models do; "shared" counts pairs through all sections, base^(-i / all pairs), as multi-section RoPE does:
    with equal coordinates (text) it is then `Rope` itself.

    Positions without coordinates, `[T]` or `[B, T]`, are those of text: all coordinates are equal. Biases chained with
    it read the first coordinate.

    Convention: pairs are channels (i, i + r/2) of the r = 2 sum(sections) that turn ("split"), or (2i, 2i + 1)
    ("interleaved"). Relative: moving all coordinates by one offset each leaves the scores.

    Good at: images, video and documents among text: a score knows the offset along each coordinate, and text may
    stay plain RoPE.
    Bad at: heads with few pairs, since the coordinates divide them: each has fewer frequencies ("own") or only a
    band of them ("shared").

    Errors: `InputError` for a base not above 1, a section below 1, more pairs than the head has, or positions with
    another number of coordinates.
    Source: Wang et al. 2024, arXiv:2409.12191, section 2.1 (multi-section); Heo et al. 2024, arXiv:2403.13298,
    section 3 (axial).

    >>> import jax.numpy as jnp
    >>> x, at = jnp.ones((1, 4, 1, 8)), jnp.stack([jnp.arange(4) // 2, jnp.arange(4) % 2], -1)
    >>> AxialRope(sections=(2, 2)).rotate({}, x, at[None], "query").shape
    (1, 4, 1, 8)
    """

    sections: tuple[int, ...] = (2, 2)
    base: Base = 10_000.0
    frequencies: Literal["own", "shared"] = "own"
    layout: Literal["split", "interleaved"] = "split"

    swept = ("base",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.sections or min(self.sections) < 1:
            raise InputError(f"AxialRope got sections={self.sections}: needed is 1 pair or more for each coordinate")

    @property
    def relative(self) -> bool:
        return True

    @property
    def coordinates(self) -> int:
        return len(self.sections)

    def constants(self, dims: Dims) -> Params:
        pairs = sum(self.sections)
        if 2 * pairs > dims.head_size:
            raise InputError(
                f"AxialRope got sections={self.sections}, {2 * pairs} channels, and a head size of "
                f"{dims.head_size}: lower the sections or widen the head"
            )
        if self.frequencies == "shared":
            # Counted through all sections, so that with equal coordinates it is `Rope` to the bit.
            frequencies = inverse_frequencies(2 * pairs, self.base)
            return {"turns": phases.fixed_point_turns(frequencies)}
        each = []
        for section in self.sections:
            frequencies = inverse_frequencies(2 * section, self.base)
            turns = phases.fixed_point_turns(frequencies)
            each.append(turns)
        # One section stays numpy's: constants are made on the host.
        if len(each) == 1:
            return {"turns": each[0]}
        return {"turns": jnp.concatenate(each, axis=1)}

    def prepare(self, params: Params, positions: jax.Array, dims: Dims) -> Params:
        positions = exact(positions)
        if positions.ndim < 3:
            # Text: all of its coordinates are equal.
            shape = (*positions.shape, self.coordinates)
            positions = jnp.broadcast_to(positions[..., None], shape)
        if positions.shape[-1] != self.coordinates:
            raise InputError(
                f"AxialRope has {self.coordinates} sections and got positions of shape {positions.shape}: "
                f"needed is [B, T, {self.coordinates}], a coordinate for each section"
            )
        held = complete(self, params, dims)
        cosines = []
        sines = []
        first = 0
        for a, section in enumerate(self.sections):
            # Each section's pairs turn by its own coordinate alone.
            end = first + section
            turns = held["turns"][:, first:end]
            own = positions[..., a]
            cos, sin = phases.cos_sin(own, turns)
            cosines.append(cos)
            sines.append(sin)
            first = end
        cos = jnp.concatenate(cosines, axis=-1)
        sin = jnp.concatenate(sines, axis=-1)
        return {**held, "cos": cos, "sin": sin}

    def rotate(self, params: Params, x: jax.Array, positions: jax.Array, role: Role) -> jax.Array:
        if "cos" not in params:
            dims = Dims(head_size=x.shape[-1])
            params = self.prepare(params, positions, dims)
        channels = 2 * sum(self.sections)
        turning, passing = jnp.split(x, [channels], axis=-1)
        turned = rotate_pairs(turning, params["cos"], params["sin"], self.layout)
        # Without a rest there is nothing to copy.
        if not passing.shape[-1]:
            return turned
        return jnp.concatenate([turned, passing], axis=-1)
