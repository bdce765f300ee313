"""The matrix products of a traced function, counted from its jaxpr: every round of each loop."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Operations:
    """Floating-point operations of matrix products, on all devices together.

    `products`: those that the compiler sees. `kernels`: those of Pallas kernels, as if they visited every block.
    `open`: those in loops whose length is known at run time only, of one round.
    """

    products: float = 0.0
    kernels: float = 0.0
    open: float = 0.0

    def __add__(self, other: Operations) -> Operations:
        return Operations(self.products + other.products, self.kernels + other.kernels, self.open + other.open)

    def times(self, count: float) -> Operations:
        """As many of them."""
        return Operations(self.products * count, self.kernels * count, self.open * count)

    @property
    def total(self) -> float:
        return self.products + self.kernels + self.open


def operations(jaxpr: Any) -> Operations:
    """What a jaxpr multiplies. Of a branch the most expensive one counts, since some device takes it.

    >>> import jax, jax.numpy as jnp
    >>> x = jnp.ones((8, 8))
    >>> looped = jax.make_jaxpr(lambda x: jax.lax.fori_loop(0, 5, lambda _, y: y @ x, x))(x)
    >>> operations(looped).total
    5120.0
    """
    total = Operations()
    # By shapes before the compiler splits them: where it repeats work on every device, that is not seen here.
    for equation in _inside(jaxpr).eqns:
        total += _of_equation(equation)
    return total


def _of_equation(equation: Any) -> Operations:
    name = equation.primitive.name
    params = equation.params
    if name == "dot_general":
        return Operations(_product(equation))
    parts = [operations(part) for part in _jaxprs(params)]
    if name == "cond":
        return max(parts, key=lambda part: part.total, default=Operations())
    inside = sum(parts, Operations())
    if name == "scan":
        return inside.times(params["length"])
    if name == "while":
        # A loop of known length that is differentiated is a scan by now: this one is open.
        return Operations(open=inside.total)
    if name == "pallas_call":
        # One program of the grid, as often as there are places in it.
        rounds = math.prod(params["grid_mapping"].grid)
        return Operations(kernels=inside.total * rounds)
    if name == "shard_map":
        # Inside are the shapes of one device; over axes that are not its own the compiler splits them further.
        sizes = params["mesh"].shape
        # The parameter has two names across the jax versions in use.
        axes = params.get("newly_manual_axes", params.get("manual_axes"))
        return inside.times(math.prod(sizes[axis] for axis in axes))
    return inside


def _product(equation: Any) -> float:
    (contracted, _), _ = equation.params["dimension_numbers"]
    shape = equation.invars[0].aval.shape
    # A multiplication and an addition for each term of each sum.
    terms = math.prod(shape[axis] for axis in contracted)
    return 2.0 * terms * math.prod(equation.outvars[0].aval.shape)


def _jaxprs(params: dict[str, Any]) -> Iterator[Any]:
    """The jaxprs among the parameters of an equation."""
    for value in params.values():
        values = [value]
        if isinstance(value, tuple | list):
            values = list(value)
        yield from (part for part in values if hasattr(_inside(part), "eqns"))


def _inside(part: Any) -> Any:
    """A jaxpr, without the constants that it may be closed over."""
    return getattr(part, "jaxpr", part)
