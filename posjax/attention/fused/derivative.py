"""The derivative of the fused backend, and the choice of a driver."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp

from posjax.attention.biases import Bias, ByContent, ByDistance, ByPosition, Slope, TileBias
from posjax.attention.fused import mosaic, tile, triton
from posjax.attention.fused.pairwise.program import cotangent
from posjax.attention.fused.plan import Call, Plan, Returned
from posjax.attention.fused.rules import Rule, take_apart
from posjax.attention.masks import Mask
from posjax.attention.reference import LOWEST, mark_keys, without_void


def planned(
    plan: Plan | None, q: jax.Array, k: jax.Array, v: jax.Array, bias: Bias, mask: Mask, q_offset: int | jax.Array = 0
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
    dtype = jnp.result_type(q, k, v)
    k, v = mark_keys(k, v)
    attended = _attend(plan, *(x.astype(dtype) for x in (q, k, v)), inside, rule)
    out, lse = cast(tuple[jax.Array, jax.Array], attended)
    return out.astype(q.dtype), lse


def _dispatch(plan: Plan | None, name: str, *operands: Any, **static: Any) -> Any:
    """A driver's pass: of the plan, or of the platform compiled for."""

    def of(plan: Plan) -> Callable[..., Any]:
        return partial(getattr(mosaic if plan.driver == "mosaic" else triton, name), plan, **static)

    if plan is not None:
        return of(plan)(*operands)
    gpu = of(Plan("triton"))
    return jax.lax.platform_dependent(
        *operands, cuda=gpu, rocm=gpu, tpu=of(Plan("mosaic")), default=of(Plan("triton", interpret=True))
    )


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(
    plan: Plan | None, q: jax.Array, k: jax.Array, v: jax.Array, bias: TileBias, rule: Rule
) -> tuple[jax.Array, jax.Array]:
    out, highest, total = _dispatch(plan, "forward", Call(q, k, v, bias, rule))
    return out, tile.log_sum(highest, total)


def _forward(plan: Plan | None, *primals: Any) -> Any:
    # Whether the bias is trained is known only here: one that is not costs no gradient.
    learned = any(x.perturbed for x in jax.tree.leaves(primals[3]))
    call = Call(*jax.tree.map(lambda x: x.value, primals))
    out, highest, total = _dispatch(plan, "forward", call)
    return (out, tile.log_sum(highest, total)), (call, out, highest, total, () if learned else None)


def _backward(plan: Plan | None, kept: Any, cotangents: Any) -> Any:
    call, out, highest, total, learned = kept
    d_out, d_lse = cotangents
    zero = jax.custom_derivatives.SymbolicZero
    d_out = jnp.zeros_like(out) if isinstance(d_out, zero) else d_out
    # What each row's softmax takes off its gradient; the log-sum-exp's own cotangent enters with the other sign.
    delta = jnp.sum(d_out.astype(jnp.float32) * out.astype(jnp.float32), -1).transpose(0, 2, 1)
    delta = delta if isinstance(d_lse, zero) else delta - d_lse
    # Rows without a meaning have no gradient, and reach none: their marks would survive a product with 0.
    delta = jnp.where(tile.log_sum(highest, total) > LOWEST, delta, 0.0)
    lse, factor = tile.for_backward(highest, total)
    # Weights enter every gradient beside what comes back for their row, which takes their factor.
    d_out = (d_out.astype(jnp.float32) * factor.transpose(0, 2, 1)[..., None]).astype(d_out.dtype)
    call = call._replace(q=without_void(call.q)[0], k=without_void(call.k)[0])
    back = Returned(d_out, lse, delta * factor)
    dq, dk, dv, numbers = _dispatch(plan, "backward", call, back, learned=learned is not None)
    d_bias: Any = None
    if isinstance(call.bias, Slope):
        d_bias = call.bias.slopes_cotangent(jnp.zeros_like(call.bias.slopes) if numbers is None else numbers[:, 0])
    elif isinstance(call.bias, ByDistance):
        d_bias = call.bias.cotangent(jnp.zeros_like(call.bias.vector) if numbers is None else numbers)
    elif isinstance(call.bias, ByPosition):
        d_bias = cotangent(call.bias, numbers)
    return dq, dk, dv, d_bias, None


_attend.defvjp(_forward, _backward, symbolic_zeros=True)
