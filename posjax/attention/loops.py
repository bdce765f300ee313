"""A loop whose bounds are known at run time only, and that can be differentiated all the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from posjax.positions import Index


def between(first: Index, end: Index, most: int, step: Callable[[Index, Any], Any], carry: Any) -> Any:
    """As `lax.fori_loop(first, end, step, carry)`, of at most `most` rounds, with derivatives in both modes.

    A loop that ends at a traced number has no reverse mode in JAX, since nobody knows how many rounds are to be kept.
    Its derivative is that of `most` rounds, those past the end left out. The derivatives of attention are its own, and
    run these loops as they are: only whoever differentiates them again, as a gradient penalty does, pays for that.
    """
    # What a step closes over has to be an argument, or nothing could be differentiated by it.
    converted, held = jax.closure_convert(step, jnp.int32(0), carry)

    @jax.custom_jvp
    def loop(first: Index, end: Index, carry: Any, held: list[Any]) -> Any:
        return lax.fori_loop(first, end, lambda n, carry: converted(n, carry, *held), carry)

    @loop.defjvp
    def derivative(primals: Any, tangents: Any) -> Any:
        first, end, *moved = primals

        def rounds(carry: Any, held: list[Any]) -> Any:
            def one(carry: Any, n: jax.Array) -> tuple[Any, None]:
                return lax.cond(n < end, lambda carry: converted(n, carry, *held), lambda carry: carry, carry), None

            return lax.scan(one, carry, first + jnp.arange(most, dtype=jnp.int32))[0]

        return jax.jvp(rounds, tuple(moved), tuple(tangents[2:]))

    return loop(first, end, carry, held)
