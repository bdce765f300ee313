"""Attention over a sequence that is split among devices: keys and values travel around a ring, queries stay.

The mesh axis `context` has n devices, and each holds S / n tokens. In n steps every device meets the keys of every
other; what a step adds is folded into a running softmax in float32, so no device ever holds more than its share, nor a
block larger than `chunked.BLOCK` squared. The backward pass goes around once more, and the gradients of keys and values
travel with them. A part of the keys is known by the place of its first token, so masks and biases are the global ones.

Under a causal mask the last tokens see the most. So in the balanced order device i holds the halves i and 2n - 1 - i of
2n: in every step each device then has the same work. The exchange that makes this order, and the one that undoes it,
happen here, and nothing outside knows of it.

Source: Liu et al. 2023, arXiv:2310.01889 (the ring); the halves are those of Llama 3, arXiv:2407.21783, section 3.3.2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, PartitionSpec

from posjax.attention import chunked
from posjax.attention.biases import Bias, ByDistance, ByPosition, TileBias, over_rows
from posjax.attention.jobs import Job
from posjax.attention.masks import Mask, SomeRows
from posjax.attention.meshes import CONTEXT, bias_specs, free_axes, kinds_of_axes, mask_specs
from posjax.attention.reference import LOWEST, log_sum, mark_keys, without_void
from posjax.attention.ring_plan import Plan, plan_for
from posjax.encodings.base import Encoding, Head, Params


def refuse(job: Job) -> str | None:
    """Why this backend cannot do a job on the current mesh; `None` where it can."""
    kinds = kinds_of_axes()
    if job.context == 1 and CONTEXT not in kinds:
        return (
            f"it needs a mesh with an axis {CONTEXT!r} and found the axes {tuple(kinds)}: run under "
            f"jax.set_mesh(jax.make_mesh((n,), ({CONTEXT!r},), (jax.sharding.AxisType.Auto,)))"
        )
    if kinds.get(CONTEXT) == AxisType.Manual:
        return f"the mesh axis {CONTEXT!r} is already inside a shard_map: call it outside, with global arrays"
    if AxisType.Explicit in kinds.values():
        return f"the mesh has Explicit axes, {kinds}: make it with axis types of jax.sharding.AxisType.Auto"
    if job.bias == "content":
        return "the encoding scores content and needs whole rows of keys"
    if not job.square:
        q_offset = "known at run time only" if job.q_offset is None else job.q_offset
        return (
            f"it takes whole sequences, queries and keys of one length from q_offset 0 on, and got {job.queries} "
            f"queries, {job.keys} keys and a q_offset that is {q_offset}"
        )
    if job.queries % job.context:
        return (
            f"{job.queries} tokens do not divide among the {job.context} devices of the mesh axis {CONTEXT!r}: pad "
            "to a multiple"
        )
    return None


def attention(
    q: jax.Array, k: jax.Array, v: jax.Array, bias: Bias, mask: Mask, q_offset: int | jax.Array = 0
) -> tuple[jax.Array, jax.Array]:
    """As `reference.attention`, on the current mesh, for the jobs that `refuse` lets through.

    The arrays are global ones; call it under `jax.set_mesh(mesh)`, inside jit or not. The mesh has an axis `context`,
    which splits the sequence. Axes `data` and `fsdp` split the batch and `tensor` the heads, where these divide; over
    any other axis the work is repeated. Sums have one order, so that results repeat to the bit.

    >>> from posjax.attention.masks import Causal
    >>> mesh = jax.make_mesh((1,), ("context",), (jax.sharding.AxisType.Auto,))
    >>> x = jnp.ones((1, 6, 2, 4))
    >>> with jax.set_mesh(mesh):
    ...     out, lse = jax.jit(attention)(x, x, x, None, Causal())
    >>> out.shape, lse.shape
    ((1, 6, 2, 4), (1, 2, 6))
    """
    plan, spans = plan_for(q, k, mask)
    k, v = mark_keys(k, v)
    padded = cast(TileBias, bias)
    if isinstance(bias, ByDistance):  # The last block of the last part may reach past the end.
        whole = q.shape[1] + plan.padding
        padded = bias.padded(whole, whole)
    return cast(tuple[jax.Array, jax.Array], _ring(plan, q, k, v, padded, (mask, jnp.asarray(spans))))


# From global arrays to each device's own ------------------------------------------------------------------------------
@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _ring(
    plan: Plan, q: jax.Array, k: jax.Array, v: jax.Array, bias: TileBias, rule: Any
) -> tuple[jax.Array, jax.Array]:
    return _forward(plan, q, k, v, bias, rule)[0]


def _forward(plan: Plan, q: jax.Array, k: jax.Array, v: jax.Array, bias: TileBias, rule: Any) -> Any:
    lines, logs, laid, given = _specs(plan, bias, rule)
    run = _on_each(partial(_forward_here, plan), (lines, lines, lines, *given), ((lines, logs), laid))
    (out, lse), kept = run(q, k, v, bias, rule)
    return (out, lse), (kept, bias, rule, out)


def _backward(plan: Plan, kept: Any, cotangents: Any) -> Any:
    laid_out, bias, rule, out = kept
    lines, logs, laid, given = _specs(plan, bias, rule)
    sums = PartitionSpec(plan.heads) if isinstance(bias, ByDistance) else PartitionSpec()
    run = _on_each(partial(_backward_here, plan), (laid, lines, (lines, logs), *given), (lines,) * 3 + (sums,))
    dq, dk, dv, total = run(laid_out, out, cotangents, bias, rule)
    return dq, dk, dv, None if bias is None else bias.cotangent(total), None


_ring.defvjp(_forward, _backward)


def _on_each(function: Callable[..., Any], given: Any, returned: Any) -> Callable[..., Any]:
    # Every axis is manual: left to the compiler, a sum over the batch would become a collective in the inner loop.
    # Replication is not checked, since each sum over devices is written out below and nothing differentiates through.
    return jax.shard_map(function, in_specs=given, out_specs=returned, axis_names=free_axes(), check_vma=False)


def _specs(plan: Plan, bias: TileBias, rule: Any) -> tuple[Any, Any, Any, Any]:
    """Where arrays `[B, T, N, H]` lie, logs `[B, N, T]`, the five that `_forward_here` lays out, bias and rule."""
    batch, heads = plan.batch or None, plan.heads
    queries, keys = PartitionSpec(batch, heads, None, CONTEXT), PartitionSpec(batch, heads, CONTEXT)
    laid = (queries, keys, keys, queries, queries)
    return (
        PartitionSpec(batch, CONTEXT, heads),
        PartitionSpec(batch, heads, CONTEXT),
        laid,
        (bias_specs(bias, batch, heads, CONTEXT), (mask_specs(rule[0], batch), PartitionSpec())),
    )


# On one device --------------------------------------------------------------------------------------------------------
def _forward_here(plan: Plan, q: jax.Array, k: jax.Array, v: jax.Array, bias: TileBias, rule: Any) -> Any:
    B, _, N, H = q.shape
    K = k.shape[2]
    q_BKGTH = _lay(plan, q).reshape(B, -1, K, N // K, H).transpose(0, 2, 3, 1, 4)
    k_BKSH, v_BKSH = (_lay(plan, x).transpose(0, 2, 1, 3) for x in (k, v))
    bias, k_positions = _bias_here(plan, bias, N)

    def step(totals: Any, _: Any, arrived: Any, source: Any) -> Any:
        return _sweep(plan, _with_keys(bias, arrived[2]), rule, source, partial(_attend, q_BKGTH, arrived), totals), _

    each = q_BKGTH.shape[:-1]
    empty = (jnp.zeros(q_BKGTH.shape, jnp.float32), jnp.full(each, LOWEST, jnp.float32), jnp.zeros(each, jnp.float32))
    (out, highest, total), _ = _around(plan, step, empty, None, (k_BKSH, v_BKSH, k_positions))
    out_BKGTH = (out / jnp.where(total == 0, 1.0, total)[..., None]).astype(q.dtype)
    out_BTNH = out_BKGTH.transpose(0, 3, 1, 2, 4).reshape(B, -1, N, H)
    lse_BTN = log_sum(highest, total).transpose(0, 3, 1, 2).reshape(B, -1, N)
    kept = (q_BKGTH, k_BKSH, v_BKSH, highest, total)
    return (_unlay(plan, out_BTNH), _unlay(plan, lse_BTN).transpose(0, 2, 1)), kept


def _attend(q: jax.Array, arrived: Any, totals: Any, row: _Row) -> Any:
    """Adds what a block of queries sees of the keys that arrived to its output, highest logit and sum."""
    (k, v), rows, q_t = arrived[:2], row.plan.block, row.queries(q)

    def block(j: Any, state: Any) -> Any:
        out, highest, total = state
        logits = row.logits(q_t, row.keys(k, j), row.tile(j), j)
        now = jnp.maximum(highest, logits.max(-1))
        p, fade = jnp.exp(logits - now[..., None]), jnp.exp(highest - now)
        part = jnp.einsum("BKGTS,BKSH->BKGTH", p.astype(v.dtype), row.keys(v, j), preferred_element_type=jnp.float32)
        return out * fade[..., None] + part, now, total * fade + p.sum(-1)

    state = jax.lax.fori_loop(row.span[0], row.span[1], block, tuple(map(row.queries, totals)))
    return tuple(chunked._put(x, part, row.t, rows, 3) for x, part in zip(totals, state, strict=True))


def _backward_here(plan: Plan, laid: Any, out: jax.Array, cotangents: Any, bias: TileBias, rule: Any) -> Any:
    (q, k, v, highest, total), (d_out, d_lse) = laid, cotangents
    (q, _), (k, _) = without_void(q), without_void(k)
    B, K, G, _, H = q.shape

    def by_head(x_BTN: jax.Array) -> jax.Array:
        return jnp.moveaxis(x_BTN.reshape(B, -1, K, G, *x_BTN.shape[3:]), 1, 3)

    # What each row's softmax takes off its gradient; the log-sum-exp's own cotangent enters with the other sign.
    delta_BTN = jnp.sum(d_out.astype(jnp.float32) * out.astype(jnp.float32), -1) - d_lse.transpose(0, 2, 1)
    highest, share = chunked.for_backward(highest, total)
    # Padding repeats a real row, whose exponentials are finite, with a gradient of zero.
    d_out, delta = (by_head(_lay(plan, x, "constant")) for x in (d_out, delta_BTN))
    delta = jnp.where(share > 0, delta, 0.0)
    bias, k_positions = _bias_here(plan, bias, K * G)

    def step(stay: Any, travel: Any, arrived: Any, source: Any) -> Any:
        back = partial(_differentiate, (q, d_out, highest, share, delta), arrived)
        sums = _sweep(plan, _with_keys(bias, arrived[2]), rule, source, back, (*stay, *travel))
        return sums[:2], sums[2:]

    dq, dk, dv = (jnp.zeros(x.shape, jnp.float32) for x in (q, k, v))
    stay = (dq, None if bias is None else bias.gradient())
    (dq, d_bias), (dk, dv) = _around(plan, step, stay, (dk, dv), (k, v, k_positions))
    dq_BTNH = jnp.moveaxis(dq, 3, 1).reshape(B, -1, K * G, H)
    dk_BSKH, dv_BSKH = (jnp.moveaxis(x, 2, 1) for x in (dk, dv))
    shares = (*plan.batch, CONTEXT, *((plan.heads,) if plan.heads and isinstance(bias, ByPosition) else ()))
    d_bias = jax.tree.map(lambda x: jax.lax.psum(x, shares), d_bias)
    like = ((dq_BTNH, q), (dk_BSKH, k), (dv_BSKH, v))
    return (*(_unlay(plan, x.astype(y.dtype)) for x, y in like), d_bias)


def _differentiate(at_queries: tuple[jax.Array, ...], arrived: Any, sums: Any, row: _Row) -> Any:
    """Adds the gradients of a block of queries and the keys that arrived."""
    (k, v), rows = arrived[:2], row.plan.block
    q, d_out, highest, share, delta = map(row.queries, at_queries)
    scale = 1 / math.sqrt(q.shape[-1])

    def block(j: Any, state: Any) -> Any:
        dq, d_bias, dk, dv = state
        k_j, u = row.keys(k, j), row.slot * row.plan.blocks + j
        tile, pull = row.tile_and_pull(j)
        p = chunked.weights(row.logits(q, k_j, tile, j), highest, share)
        dp = jnp.einsum("BKGTH,BKSH->BKGTS", d_out, row.keys(v, j), preferred_element_type=jnp.float32)
        ds = p * (dp - delta[..., None])
        if tile is not None and pull is not None:
            whole = ds.reshape(ds.shape[0], -1, rows, rows)
            d_bias = pull(d_bias, over_rows(whole) if tile.shape[0] == 1 else whole)
        p, ds = p.astype(q.dtype), (ds * scale).astype(q.dtype)
        dq += jnp.einsum("BKGTS,BKSH->BKGTH", ds, k_j, preferred_element_type=jnp.float32)
        dk_j = jnp.einsum("BKGTS,BKGTH->BKSH", ds, q, preferred_element_type=jnp.float32) + row.keys(dk, j)
        dv_j = jnp.einsum("BKGTS,BKGTH->BKSH", p, d_out, preferred_element_type=jnp.float32) + row.keys(dv, j)
        return dq, d_bias, chunked._put(dk, dk_j, u, rows, 2), chunked._put(dv, dv_j, u, rows, 2)

    dq, *rest = sums
    dq_t, *rest = jax.lax.fori_loop(row.span[0], row.span[1], block, (row.queries(dq), *rest))
    return chunked._put(dq, dq_t, row.t, rows, 3), *rest


# Where things are -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Row:
    """A block of queries facing a part of the keys that arrived.

    The block is number `t` of all on this device, in the part `q_part` of the sequence. The keys are in `slot` of what
    arrived, and are the part `k_part`. `span`: the first of their blocks to visit, and the one past the last.
    """

    plan: Plan
    bias: TileBias
    mask: Mask
    t: Any
    slot: Any
    q_part: Any
    k_part: Any
    span: Any

    def queries(self, x: jax.Array) -> jax.Array:
        return chunked._take(x, self.t, self.plan.block, 3)

    def keys(self, x: jax.Array, j: Any) -> jax.Array:
        return chunked._take(x, self.slot * self.plan.blocks + j, self.plan.block, 2)

    def logits(self, q: jax.Array, k: jax.Array, tile: jax.Array | None, j: Any) -> jax.Array:
        plan, (q_first, k_first) = self.plan, (self.q_part * self.plan.length, self.k_part * self.plan.length)
        own = SomeRows(self.mask, jax.lax.axis_index(plan.batch) * q.shape[0], q.shape[0]) if plan.batch else self.mask
        rule = (_Onward(own, k_first), q_first, None)
        return chunked._logits((plan.length, plan.length, plan.block, plan.block), q, k, rule, tile, (self._i, j))

    def tile(self, j: Any) -> jax.Array | None:
        return None if self.bias is None else self.bias.tile(*self._tile(j))

    def tile_and_pull(self, j: Any) -> Any:
        return (None, None) if self.bias is None else self.bias.tile_and_pull(*self._tile(j))

    @property
    def _i(self) -> Any:
        return self.t % self.plan.blocks

    def _tile(self, j: Any) -> tuple[Any, Any, int, int]:
        """Distances are the whole sequence's, while positions have come along and are those of this device."""
        plan, rows = self.plan, self.plan.block
        if isinstance(self.bias, ByDistance):
            return self.q_part * plan.length + self._i * rows, self.k_part * plan.length + j * rows, rows, rows
        return self.t * rows, (self.slot * plan.blocks + j) * rows, rows, rows


@dataclass(frozen=True)
class _Onward(Mask):
    """A mask for keys counted from `first` on."""

    mask: Mask
    first: Any

    def allowed(self, q_index: jax.Array, k_index: jax.Array) -> jax.Array | None:
        return self.mask.allowed(q_index, self.first + k_index)


@dataclass(frozen=True)
class _SomeHeads(Encoding):
    """An encoding whose heads are counted from `first` on."""

    encoding: Encoding
    first: Any
    count: int

    def bias(self, params: Params, q_positions: jax.Array, k_positions: jax.Array, head: Head) -> jax.Array:
        return self.encoding.bias(params, q_positions, k_positions, Head(self.first + head.index, self.count))


def _bias_here(plan: Plan, bias: TileBias, heads: int) -> tuple[TileBias, jax.Array | None]:
    """The bias of this device's queries and heads, and the positions of its keys, which will travel."""
    if not isinstance(bias, ByPosition):
        return bias, None
    encoding = bias.encoding
    if plan.heads:
        encoding = _SomeHeads(encoding, jax.lax.axis_index(plan.heads) * heads, bias.heads)
    q_at, k_at = _lay(plan, bias.q_positions), _lay(plan, bias.k_positions)
    return replace(bias, q_positions=q_at, encoding=encoding, heads=heads), k_at


def _with_keys(bias: TileBias, k_positions: jax.Array | None) -> TileBias:
    return replace(bias, k_positions=k_positions) if isinstance(bias, ByPosition) else bias


# Around the ring ------------------------------------------------------------------------------------------------------
def _around(plan: Plan, step: Callable[..., Any], stay: Any, travel: Any, arrived: Any) -> Any:
    """Folds `step(stay, travel, arrived, source) -> (stay, travel)` over the devices whose keys arrive here.

    The sums in `travel` belong to the keys in `arrived`, move on with them, and come home at the end.
    """
    me = jax.lax.axis_index(CONTEXT)

    def hop(carry: Any, number: jax.Array) -> tuple[Any, None]:
        stay, travel, arrived = carry
        # Sent before they are used, so that the transfer may run beside the computation.
        onward = _send(plan, arrived, 1)
        stay, travel = step(stay, travel, arrived, (me - number) % plan.devices)
        return (stay, _send(plan, travel, 1), onward), None

    (stay, travel, _), _ = jax.lax.scan(hop, (stay, travel, arrived), jnp.arange(plan.steps, dtype=jnp.int32))
    return stay, _send(plan, travel, -plan.steps)


def _send(plan: Plan, arrays: Any, distance: int) -> Any:
    if distance % plan.devices == 0:
        return arrays
    there = [(i, (i + distance) % plan.devices) for i in range(plan.devices)]
    return jax.tree.map(lambda x: jax.lax.ppermute(x, CONTEXT, there), arrays)


def _sweep(plan: Plan, bias: TileBias, rule: Any, source: Any, fold: Callable[[Any, _Row], Any], sums: Any) -> Any:
    """Folds every block of queries here with every part of the keys that came from the device `source`."""
    mask, spans = rule
    places = jnp.asarray(plan.places)
    mine, theirs = places[jax.lax.axis_index(CONTEXT)], places[source]

    def one(x: Any, sums: Any) -> Any:
        t, slot = x // plan.parts, x % plan.parts
        q_part, k_part = mine[t // plan.blocks], theirs[slot]
        span = spans[q_part - k_part + spans.shape[0] // 2, t % plan.blocks]
        return fold(sums, _Row(plan, bias, mask, t, slot, q_part, k_part, span))

    return jax.lax.fori_loop(0, plan.parts**2 * plan.blocks, one, sums)


def _lay(plan: Plan, x: jax.Array, fill: Any = "edge") -> jax.Array:
    """This device's tokens `[B, T, ...]` in the ring's order, each part padded to whole blocks."""
    parts = jnp.split(x, plan.parts, 1)
    if plan.parts == 2:
        parts = [jax.lax.ppermute(part, CONTEXT, there) for part, there in zip(parts, _homes(plan), strict=True)]
    pad = ((0, 0), (0, plan.padding), *((0, 0),) * (x.ndim - 2))
    return jnp.concatenate([jnp.pad(part, pad, mode=fill) for part in parts], 1)


def _unlay(plan: Plan, x: jax.Array) -> jax.Array:
    """The inverse of `_lay`."""
    parts = [part[:, : plan.length] for part in jnp.split(x, plan.parts, 1)]
    if plan.parts == 2:
        back = [[(there, here) for here, there in pairs] for pairs in _homes(plan)]
        parts = [jax.lax.ppermute(part, CONTEXT, pairs) for part, pairs in zip(parts, back, strict=True)]
    return jnp.concatenate(parts, 1)


def _homes(plan: Plan) -> list[list[tuple[int, int]]]:
    """For both halves of each device, the one that holds it in the balanced order: pairs of (from, to)."""
    holder = np.argsort(plan.places.ravel()) // plan.parts
    return [[(i, int(holder[2 * i + slot])) for i in range(plan.devices)] for slot in range(2)]
