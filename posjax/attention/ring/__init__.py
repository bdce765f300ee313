"""Attention over a sequence that is split among devices: keys and values travel around a ring, queries stay.

The mesh axis `context` has n devices, and each holds S / n tokens. In n steps every device meets the keys of every
other; what a step adds is folded into a running softmax in float32, so no device ever holds more than its share, nor a
block larger than `blocks.BLOCK` squared. The backward pass goes around once more, and the gradients of keys and values
travel with them. A part of the keys is known by the place of its first token, so masks and biases are the global ones.

Under a causal mask the last tokens see the most. So in the balanced order device i holds the halves i and 2n - 1 - i of
2n: in every step each device then has the same work. The exchange that makes this order, and the one that undoes it,
happen here, and nothing outside knows of it.

Source: Liu et al. 2023, arXiv:2310.01889 (the ring); the halves are those of Llama 3, arXiv:2407.21783, section 3.3.2.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType, PartitionSpec

from posjax.attention import blocks
from posjax.attention.biases import Bias, ByDistance, ByPosition, TileBias
from posjax.attention.jobs import Job
from posjax.attention.masks import Mask
from posjax.attention.meshes import bias_specs, free_axes, mask_specs
from posjax.attention.reference import mark_keys, without_void
from posjax.attention.ring.facing import attend, bias_here, differentiate, with_keys
from posjax.attention.ring.plan import Plan, plan_for
from posjax.attention.ring.travel import Arrived, RingMask, around, lay, sweep, unlay
from posjax.attention.scoring import PLAIN, Scoring
from posjax.mesh import CONTEXT, kinds_of_axes
from posjax.positions import Index


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
    if job.varying:
        return "inside a jax.shard_map it does not say what varies over its other axes: pass check_vma=False to it"
    if AxisType.Explicit in kinds.values():
        return f"the mesh has Explicit axes, {kinds}: make it with axis types of jax.sharding.AxisType.Auto"
    if job.bias == "content":
        return "the encoding scores content and needs whole rows of keys"
    if not job.square:
        q_offset: Any = job.q_offset
        if q_offset is None:
            q_offset = "known at run time only"
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
    q: jax.Array, k: jax.Array, v: jax.Array, bias: Bias, mask: Mask, q_offset: Index = 0, scoring: Scoring = PLAIN
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
    rule = RingMask(mask, jnp.asarray(spans), scoring)
    return cast(tuple[jax.Array, jax.Array], _ring(plan, q, k, v, padded, rule))


# From global arrays to each device's own ------------------------------------------------------------------------------
class LaidOut(NamedTuple):
    """What the forward pass keeps for the backward one, each device's own in the ring's order."""

    q_BKGTH: jax.Array
    k_BKSH: jax.Array
    v_BKSU: jax.Array
    highest_BKGT: jax.Array
    total_BKGT: jax.Array


class Specs(NamedTuple):
    """Where arrays lie: `lines [B, T, N, H]`, `logs [B, N, T]`, what is kept, the bias and the rule."""

    lines: PartitionSpec
    logs: PartitionSpec
    laid: LaidOut
    given: tuple[Any, Any]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _ring(
    plan: Plan, q: jax.Array, k: jax.Array, v: jax.Array, bias: TileBias, rule: RingMask
) -> tuple[jax.Array, jax.Array]:
    return _forward(plan, q, k, v, bias, rule)[0]


def _forward(plan: Plan, q: jax.Array, k: jax.Array, v: jax.Array, bias: TileBias, rule: RingMask) -> Any:
    specs = _specs(plan, bias, rule)
    lines = specs.lines
    given = (lines, lines, lines, *specs.given)
    run = _on_each(partial(_forward_here, plan), given, ((lines, specs.logs), specs.laid))
    (out, lse), laid = run(q, k, v, bias, rule)
    return (out, lse), (laid, bias, rule, out)


def _backward(plan: Plan, kept: Any, cotangents: Any) -> Any:
    laid, bias, rule, out = kept
    specs = _specs(plan, bias, rule)
    lines = specs.lines
    sums = PartitionSpec()
    if isinstance(bias, ByDistance):
        sums = PartitionSpec(plan.heads)
    given = (specs.laid, lines, (lines, specs.logs), *specs.given)
    run = _on_each(partial(_backward_here, plan), given, (lines, lines, lines, sums))
    dq, dk, dv, d_bias = run(laid, out, cotangents, bias, rule)
    if bias is not None:
        d_bias = bias.cotangent(d_bias)
    return dq, dk, dv, d_bias, None


_ring.defvjp(_forward, _backward)


def _on_each(function: Callable[..., Any], given: Any, returned: Any) -> Callable[..., Any]:
    # Every axis is manual: left to the compiler, a sum over the batch would become a collective in the inner loop.
    # Replication is not checked, since each sum over devices is written out below and nothing differentiates through.
    return jax.shard_map(function, in_specs=given, out_specs=returned, axis_names=free_axes(), check_vma=False)


def _specs(plan: Plan, bias: TileBias, rule: RingMask) -> Specs:
    batch, heads = plan.batch or None, plan.heads
    queries = PartitionSpec(batch, heads, None, CONTEXT)
    keys = PartitionSpec(batch, heads, CONTEXT)
    laid = LaidOut(queries, keys, keys, queries, queries)  # type: ignore[arg-type]
    whole: Any = jax.tree.map(lambda _: PartitionSpec(), rule.scoring)
    rules = RingMask(mask_specs(rule.mask, batch), PartitionSpec(), whole)  # type: ignore[arg-type]
    given = (bias_specs(bias, batch, heads, CONTEXT), rules)
    return Specs(PartitionSpec(batch, CONTEXT, heads), PartitionSpec(batch, heads, CONTEXT), laid, given)


# On one device --------------------------------------------------------------------------------------------------------
def _forward_here(plan: Plan, q: jax.Array, k: jax.Array, v: jax.Array, bias: TileBias, rule: RingMask) -> Any:
    B, _, N, H = q.shape
    K = k.shape[2]
    q_BKGTH = lay(plan, q).reshape(B, -1, K, N // K, H).transpose(0, 2, 3, 1, 4)
    k_BKSH = lay(plan, k).swapaxes(1, 2)
    v_BKSU = lay(plan, v).swapaxes(1, 2)
    bias, k_positions = bias_here(plan, bias, N)

    def step(totals: Any, travel: Any, arrived: Arrived, source: Index) -> Any:
        fold = partial(attend, q_BKGTH, arrived)
        return sweep(plan, with_keys(bias, arrived.k_positions), rule, source, fold, totals), travel

    empty = blocks.nothing_yet(q_BKGTH, v.shape[-1])
    totals, _ = around(plan, step, empty, None, Arrived(k_BKSH, v_BKSU, k_positions))
    out_BKGTU, lse_BKGT = blocks.finished(totals, q.dtype)
    out_BTNU = out_BKGTU.transpose(0, 3, 1, 2, 4).reshape(B, -1, N, v.shape[-1])
    lse_BTN = lse_BKGT.transpose(0, 3, 1, 2).reshape(B, -1, N)
    laid = LaidOut(q_BKGTH, k_BKSH, v_BKSU, totals.highest, totals.total)
    return (unlay(plan, out_BTNU), unlay(plan, lse_BTN).transpose(0, 2, 1)), laid


def _backward_here(plan: Plan, laid: LaidOut, out: jax.Array, cotangents: Any, bias: TileBias, rule: RingMask) -> Any:
    d_out, d_lse_BNT = cotangents
    # A mark is never a number: rows of NaN are computed at 0 here, and their share of 0 keeps them out of every sum.
    (q, _), (k, _) = without_void(laid.q_BKGTH), without_void(laid.k_BKSH)
    v = laid.v_BKSU
    B, K, G, _, H = q.shape

    def by_head(x_BTN: jax.Array) -> jax.Array:
        # Padding repeats a real row, whose exponentials are finite, with a gradient of zero.
        laid_out = lay(plan, x_BTN, "constant")
        return jnp.moveaxis(laid_out.reshape(B, -1, K, G, *x_BTN.shape[3:]), 1, 3)

    out_cotangent, lse_cotangent = by_head(d_out), by_head(d_lse_BNT.transpose(0, 2, 1))
    rows = blocks.rows_backward(out_cotangent, lse_cotangent, by_head(out), laid.highest_BKGT, laid.total_BKGT)
    bias, k_positions = bias_here(plan, bias, K * G)

    def step(stay: Any, travel: Any, arrived: Arrived, source: Index) -> Any:
        fold = partial(differentiate, q, rows, arrived)
        here = with_keys(bias, arrived.k_positions)
        dq, d_bias, dk, dv = sweep(plan, here, rule, source, fold, (*stay, *travel))
        return (dq, d_bias), (dk, dv)

    # Gradients of keys and values lie transposed, as `blocks.differentiate` gives them, until all are summed.
    dq = jnp.zeros(q.shape, jnp.float32)
    dk = jnp.zeros(k.mT.shape, jnp.float32)
    dv = jnp.zeros(v.mT.shape, jnp.float32)
    d_bias = None
    if bias is not None:
        d_bias = bias.gradient()
    travelling = Arrived(k, v, k_positions)
    (dq, d_bias), (dk, dv) = around(plan, step, (dq, d_bias), (dk, dv), travelling)
    scale = rule.scoring.factor(H)
    dq_BTNH = jnp.moveaxis(dq * scale, 3, 1).reshape(B, -1, K * G, H)
    dk_BSKH = (dk * scale).transpose(0, 3, 1, 2)
    dv_BSKU = dv.transpose(0, 3, 1, 2)
    sums = ((dq_BTNH, q), (dk_BSKH, k), (dv_BSKU, v))
    grads = [unlay(plan, gradient.astype(of.dtype)) for gradient, of in sums]
    shares = _shares(plan, bias)
    return (*grads, jax.tree.map(lambda x: lax.psum(x, shares), d_bias))


def _shares(plan: Plan, bias: TileBias) -> tuple[str, ...]:
    """The mesh axes over which each device has a part of the bias's gradient."""
    if plan.heads and isinstance(bias, ByPosition):
        # Its parameters are whole on every device, and each has used them for its own heads.
        return (*plan.batch, CONTEXT, plan.heads)
    return (*plan.batch, CONTEXT)
