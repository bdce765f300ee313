"""One block of queries facing keys that have come around the ring: what they see of them, and the gradients back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax
from jax import lax

from posjax.attention import blocks
from posjax.attention.biases import ByDistance, ByPosition, TileBias
from posjax.attention.blocks import BackwardRows, Totals, put, take
from posjax.attention.masks import Mask, SomeRows, indices_to
from posjax.attention.ring.plan import Plan
from posjax.attention.ring.travel import Arrived, Place, RingMask, lay
from posjax.positions import Index


@dataclass(frozen=True)
class Facing:
    """A block of queries facing a part of the keys that arrived; `span` are the key blocks to visit, first and end."""

    plan: Plan
    bias: TileBias
    rule: RingMask
    place: Place

    def queries(self, x: jax.Array) -> jax.Array:
        """The block's share of what this device holds for its queries."""
        return take(x, self.place.t, self.plan.block, 3)

    def keys(self, x: jax.Array, j: Index, axis: int = 2) -> jax.Array:
        """The share of key block j, of the part that is faced, in what arrived."""
        number = self.number(j)
        return take(x, number, self.plan.block, axis)

    def number(self, j: Index) -> Any:
        """The number of key block j among all that arrived, which may be two parts."""
        first = self.place.slot * self.plan.blocks
        return first + j

    def scores(self, q: jax.Array, k: jax.Array, tile: jax.Array | None, j: Index) -> blocks.BlockScores:
        """The scores of the block and key block j."""
        plan = self.plan
        place = self.place
        mask = self.rule.mask
        first_row = 0
        first_head = 0
        if plan.batch:
            device = lax.axis_index(plan.batch)
            rows = q.shape[0]
            first_row = device * rows
            mask = SomeRows(mask, first_row, rows)
        if plan.heads:
            first_head = lax.axis_index(plan.heads) * (q.shape[1] * q.shape[2])
        inside = indices_to(plan.block)
        q_block = place.t % plan.blocks
        q_index = q_block * plan.block + inside
        k_index = j * plan.block + inside
        length = plan.length
        k_offset = place.k_part * length
        q_offset = place.q_part * length
        # A mask asks for places in the whole sequence.
        onward = Onward(mask, k_offset)
        seen = blocks.allowed_pairs(onward, q_index, k_index, (length, length), q_offset)
        index = blocks.BlockIndex(q_offset + q_index, k_offset + k_index)
        return blocks.scores_of(q, k, tile, seen, self.rule.scoring.part(first_row, first_head), index)

    def tile(self, j: Index) -> jax.Array | None:
        """The bias of the block and key block j."""
        if self.bias is None:
            return None
        corner = self._corner(j)
        return self.bias.tile(*corner)

    def tile_and_pull(self, j: Index) -> Any:
        """The same, and what adds its gradient to a sum."""
        if self.bias is None:
            return blocks.pull_of(None)
        corner = self._corner(j)
        both = self.bias.tile_and_pull(*corner)
        return blocks.pull_of(both)

    def _corner(self, j: Index) -> tuple[Any, Any, int, int]:
        plan = self.plan
        place = self.place
        size = plan.block
        if isinstance(self.bias, ByDistance):  # Distances are those of the whole sequence.
            q_part = place.q_part * plan.length
            k_part = place.k_part * plan.length
            q_block = place.t % plan.blocks
            q_first = q_part + q_block * size
            k_first = k_part + j * size
            return q_first, k_first, size, size
        # Positions have come along with the keys, and are those of this device.
        number = self.number(j)
        q_first = place.t * size
        k_first = number * size
        return q_first, k_first, size, size


@dataclass(frozen=True)
class Onward(Mask):
    """A mask for keys counted from `first` on."""

    mask: Mask
    first: Index

    def allowed(self, q_index: jax.Array, k_index: jax.Array) -> jax.Array | None:
        k_index = self.first + k_index
        return self.mask.allowed(q_index, k_index)


def attend(
    q_BKGTH: jax.Array, arrived: Arrived, totals: Totals, plan: Plan, bias: Any, rule: RingMask, place: Place
) -> Any:
    """Adds what a block of queries sees of the keys that arrived to its totals."""
    facing = Facing(plan, bias, rule, place)
    q_t = facing.queries(q_BKGTH)

    def block(j: Index, gathered: Totals) -> Totals:
        k_j = facing.keys(arrived.k, j)
        v_j = facing.keys(arrived.v, j)
        tile = facing.tile(j)
        scores = facing.scores(q_t, k_j, tile, j)
        return blocks.gather(gathered, scores, v_j)

    before = Totals(*map(facing.queries, totals))
    after = lax.fori_loop(place.first, place.end, block, before)
    return Totals(*(put(x, part, place.t, plan.block, 3) for x, part in zip(totals, after, strict=True)))


def differentiate(
    q_BKGTH: jax.Array,
    rows: BackwardRows,
    arrived: Arrived,
    sums: Any,
    plan: Plan,
    bias: Any,
    rule: RingMask,
    place: Place,
) -> Any:
    """Adds the gradients of a block of queries and the keys that arrived to `sums`: dq, d_bias, dk, dv."""
    facing = Facing(plan, bias, rule, place)
    q_t = facing.queries(q_BKGTH)
    rows_t = BackwardRows(*map(facing.queries, rows))

    def block(j: Index, state: Any) -> Any:
        dq, d_bias, dk, dv = state
        k_j = facing.keys(arrived.k, j)
        v_j = facing.keys(arrived.v, j)
        tile, pull = facing.tile_and_pull(j)
        scores = facing.scores(q_t, k_j, tile, j)
        more = blocks.differentiate(scores, q_t, k_j, v_j, rows_t, d_bias, pull)
        u = facing.number(j)
        dk_j = facing.keys(dk, j, axis=3)
        dv_j = facing.keys(dv, j, axis=3)
        dk_j += more.dk
        dv_j += more.dv
        dk = put(dk, dk_j, u, plan.block, 3)
        dv = put(dv, dv_j, u, plan.block, 3)
        dq += more.dq
        return dq, more.d_bias, dk, dv

    dq, *rest = sums
    dq_t = facing.queries(dq)
    dq_t, *rest = lax.fori_loop(place.first, place.end, block, (dq_t, *rest))
    dq = put(dq, dq_t, place.t, plan.block, 3)
    return dq, *rest


def bias_here(plan: Plan, bias: TileBias, heads: int) -> tuple[TileBias, jax.Array | None]:
    """The bias of this device's queries and heads, and the positions of its keys, which will travel."""
    if not isinstance(bias, ByPosition):
        return bias, None
    if plan.heads:
        device = lax.axis_index(plan.heads)
        first_head = device * heads
        bias = bias.of_heads(first_head, heads)
    k_positions = lay(plan, bias.k_positions)
    q_positions = lay(plan, bias.q_positions)
    bias = replace(bias, q_positions=q_positions)
    return bias, k_positions


def with_keys(bias: TileBias, k_positions: jax.Array | None) -> TileBias:
    """The bias for the keys that arrived."""
    if not isinstance(bias, ByPosition):
        return bias
    return replace(bias, k_positions=k_positions)
