"""How keys travel around the ring, and how a sequence is laid out on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from posjax.attention.biases import TileBias
from posjax.attention.masks import Mask
from posjax.attention.ring.plan import Plan
from posjax.attention.scoring import PLAIN, Scoring
from posjax.mesh import CONTEXT
from posjax.positions import Index


class Arrived(NamedTuple):
    """What travels: keys and values `[B, K, S, H]`, and their positions where a bias asks for them."""

    k: jax.Array
    v: jax.Array
    k_positions: jax.Array | None


class RingMask(NamedTuple):
    """Who may see whom: a mask of the whole sequence, and the `spans_of` of blocks that it leaves to visit.

    And how a pair that may is scored.
    """

    mask: Mask
    spans: jax.Array
    scoring: Scoring = PLAIN


class Place(NamedTuple):
    """Where a block of queries and the keys it faces are.

    The block is number `t` of all on this device, in the part `q_part` of the sequence. The keys are in `slot` of what
    arrived, and are the part `k_part`. Their blocks from `first` to before `end` are to be visited.
    """

    t: Index
    slot: Index
    q_part: Index
    k_part: Index
    first: Index
    end: Index


def around(plan: Plan, step: Callable[..., Any], stay: Any, travel: Any, arrived: Arrived) -> Any:
    """Folds `step(stay, travel, arrived, source) -> (stay, travel)` over the devices whose keys arrive here.

    The sums in `travel` belong to the keys in `arrived`, move on with them, and come home at the end.
    """
    me = lax.axis_index(CONTEXT)

    def hop(carry: Any, number: jax.Array) -> tuple[Any, None]:
        stay, travel, arrived = carry
        # Sent before they are used, so that the transfer may run beside the computation.
        onward = send(plan, arrived, 1)
        source = (me - number) % plan.devices
        stay, travel = step(stay, travel, arrived, source)
        return (stay, send(plan, travel, 1), onward), None

    hops = jnp.arange(plan.steps, dtype=jnp.int32)
    (stay, travel, _), _ = lax.scan(hop, (stay, travel, arrived), hops)
    return stay, send(plan, travel, -plan.steps)


def send(plan: Plan, arrays: Any, distance: int) -> Any:
    """The arrays of the device `distance` places back."""
    if distance % plan.devices == 0:
        return arrays
    there = [(i, (i + distance) % plan.devices) for i in range(plan.devices)]
    return jax.tree.map(lambda x: lax.ppermute(x, CONTEXT, there), arrays)


def sweep(plan: Plan, bias: TileBias, rule: RingMask, source: Index, fold: Callable[..., Any], sums: Any) -> Any:
    """Folds every block of queries here with every part of the keys that came from the device `source`."""
    parts = jnp.asarray(plan.places)
    mine, theirs = parts[lax.axis_index(CONTEXT)], parts[source]
    # Spans are listed by how far the queries are ahead, which may be behind: the middle one is that of one part.
    middle = rule.spans.shape[0] // 2

    def one(x: Any, sums: Any) -> Any:
        t, slot = x // plan.parts, x % plan.parts
        q_part, k_part = mine[t // plan.blocks], theirs[slot]
        first, end = rule.spans[q_part - k_part + middle, t % plan.blocks]
        place = Place(t, slot, q_part, k_part, first, end)
        return fold(sums, plan, bias, rule, place)

    return lax.fori_loop(0, plan.parts**2 * plan.blocks, one, sums)


def lay(plan: Plan, x: jax.Array, fill: Any = "edge") -> jax.Array:
    """This device's tokens `[B, T, ...]` in the ring's order, each part padded to whole blocks."""
    parts = jnp.split(x, plan.parts, 1)
    if plan.parts == 2:
        parts = [lax.ppermute(part, CONTEXT, there) for part, there in zip(parts, homes(plan), strict=True)]
    pad = ((0, 0), (0, plan.padding), *((0, 0),) * (x.ndim - 2))
    return jnp.concatenate([jnp.pad(part, pad, mode=fill) for part in parts], 1)


def unlay(plan: Plan, x: jax.Array) -> jax.Array:
    """The inverse of `lay`."""
    parts = [part[:, : plan.length] for part in jnp.split(x, plan.parts, 1)]
    if plan.parts == 2:
        back = [[(there, here) for here, there in pairs] for pairs in homes(plan)]
        parts = [lax.ppermute(part, CONTEXT, pairs) for part, pairs in zip(parts, back, strict=True)]
    return jnp.concatenate(parts, 1)


def homes(plan: Plan) -> list[list[tuple[int, int]]]:
    """For both halves of each device, the one that holds it in the balanced order: pairs of (from, to)."""
    # Number i of the sorted places is where part i is found among all slots, two a device.
    holder = np.argsort(plan.places.ravel()) // plan.parts
    return [[(i, int(holder[2 * i + slot])) for i in range(plan.devices)] for slot in range(2)]
