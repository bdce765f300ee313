"""The derivative of the fused backend, and the choice of a driver."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jax import lax

from posjax.attention.biases import Bias, ByContent, ByDistance, ByPosition, Slope, TileBias
from posjax.attention.fused import mosaic, tile, triton
from posjax.attention.fused.pairwise.program import cotangent
from posjax.attention.fused.plan import KernelCall, KernelPlan, Returned
from posjax.attention.fused.rules import Rule, take_apart
from posjax.attention.masks import Mask
from posjax.attention.reference import LOWEST, mark_keys, without_void
from posjax.attention.scoring import PLAIN, Scoring
from posjax.positions import Index


class Driver(NamedTuple):
    """The two passes of a kind of device."""

    forward: Callable[..., Any]
    backward: Callable[..., Any]


DRIVERS = {
    "mosaic": Driver(mosaic.forward, mosaic.backward),
    "triton": Driver(triton.forward, triton.backward),
}


def planned(
    plan: KernelPlan | None,
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    bias: Bias,
    mask: Mask,
    q_offset: Index = 0,
    scoring: Scoring = PLAIN,
) -> tuple[jax.Array, jax.Array]:
    """`fused.attention` by a plan; without one, by the driver of the platform it is compiled for."""
    if isinstance(bias, ByContent):
        raise NotImplementedError(
            f"the fused backend cannot score content, as {bias.encoding!r} does: take backend='chunked'"
        )
    rule = take_apart(mask, q_offset, (q.shape[1], k.shape[1]))
    inside: TileBias = bias
    if isinstance(bias, Slope) and not rule.causal:
        # Of later keys only the vector knows.
        inside = bias.by_vector()
    # One dtype for all: a kernel multiplies them with each other, and its device has no product of two.
    dtype = jnp.result_type(q, k, v)
    k, v = mark_keys(k, v)
    q_alike = q.astype(dtype)
    k_alike = k.astype(dtype)
    v_alike = v.astype(dtype)
    attended = _attend(plan, q_alike, k_alike, v_alike, inside, rule, scoring)
    out, lse = cast(tuple[jax.Array, jax.Array], attended)
    return out.astype(q.dtype), lse


def _forward_pass(plan: KernelPlan, call: KernelCall) -> Any:
    return DRIVERS[plan.driver].forward(plan, call)


def _backward_pass(learned: bool, plan: KernelPlan, call: KernelCall, back: Returned) -> Any:
    # `learned` comes first, to be bound: the other arguments are traced.
    return DRIVERS[plan.driver].backward(plan, call, back, learned)


def _by_platform(plan: KernelPlan | None, one_pass: Callable[..., Any], *operands: Any) -> Any:
    """What a pass of the planned driver gives; without a plan, of the driver of the platform compiled for.

    Chosen when it is compiled: the same traced function may be lowered for a device that is not at hand.
    """
    if plan is not None:
        return one_pass(plan, *operands)
    gpu = partial(one_pass, KernelPlan("triton"))
    tpu = partial(one_pass, KernelPlan("mosaic"))
    interpreted = partial(one_pass, KernelPlan("triton", interpret=True))
    return lax.platform_dependent(*operands, cuda=gpu, rocm=gpu, tpu=tpu, default=interpreted)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(
    plan: KernelPlan | None,
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    bias: TileBias,
    rule: Rule,
    scoring: Scoring,
) -> tuple[jax.Array, jax.Array]:
    out, highest, total = _by_platform(plan, _forward_pass, KernelCall(q, k, v, bias, rule, scoring))
    return out, tile.log_sum(highest, total)


def _forward(plan: KernelPlan | None, *primals: Any) -> Any:
    # Whether the bias is trained is known only here: one that is not costs no gradient.
    bias = primals[3]
    learned = any(leaf.perturbed for leaf in jax.tree.leaves(bias))
    call = KernelCall(*jax.tree.map(lambda primal: primal.value, primals))
    out, highest, total = _by_platform(plan, _forward_pass, call)
    # What is kept for the way back must be a tree of arrays: that the bias learns is said by an empty one.
    mark = None
    if learned:
        mark = ()
    return (out, tile.log_sum(highest, total)), (call, out, highest, total, mark)


def _backward(plan: KernelPlan | None, kept: Any, cotangents: Any) -> Any:
    call, out, highest, total, mark = kept
    learned = mark is not None
    d_out, d_lse = cotangents
    if _is_zero(d_out):
        d_out = jnp.zeros_like(out)
    # What each row's softmax takes off its gradient; the log-sum-exp's own cotangent enters with the other sign.
    delta_BTN = jnp.sum(d_out.astype(jnp.float32) * out.astype(jnp.float32), -1)
    delta = delta_BTN.transpose(0, 2, 1)
    if not _is_zero(d_lse):
        delta = delta - d_lse
    # Rows without a meaning have no gradient, and reach none: their marks would survive a product with 0.
    delta = jnp.where(tile.log_sum(highest, total) > LOWEST, delta, 0.0)
    lse, factor = tile.for_backward(highest, total)
    # Weights enter every gradient beside what comes back for their row, which takes their factor.
    factor_BTN = factor.transpose(0, 2, 1)
    d_rows = d_out.astype(jnp.float32) * factor_BTN[..., None]
    clean_q, _ = without_void(call.q)
    clean_k, _ = without_void(call.k)
    call = call._replace(q=clean_q, k=clean_k)
    back = Returned(d_rows.astype(d_out.dtype), lse, delta * factor)
    dq, dk, dv, d_bias = _by_platform(plan, partial(_backward_pass, learned), call, back)
    # The last arguments are the mask's and the scoring's: numbers that have no gradient.
    return dq, dk, dv, _bias_cotangent(call.bias, d_bias), None, None


def _is_zero(cotangent: Any) -> bool:
    """Whether nothing was differentiated with respect to an output: JAX then has no array for it."""
    return isinstance(cotangent, jax.custom_derivatives.SymbolicZero)


def _bias_cotangent(bias: TileBias, gradient: jax.Array | None) -> Any:
    """The gradient of what a bias reads, as `backward` of a driver returns it, in the shape that JAX expects."""
    if isinstance(bias, ByPosition):
        return cotangent(bias, gradient)
    if isinstance(bias, Slope):
        if gradient is None:
            return bias.slopes_cotangent(jnp.zeros_like(bias.slopes))
        return bias.slopes_cotangent(gradient[:, 0])
    if isinstance(bias, ByDistance):
        if gradient is None:
            return bias.cotangent(jnp.zeros_like(bias.vector))
        return bias.cotangent(gradient)
    return None


_attend.defvjp(_forward, _backward, symbolic_zeros=True)
