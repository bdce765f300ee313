"""A traced function as a flat list of operations, its calls inlined: what a kernel's program is cut from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.extend import core

_INLINED = ("pjit", "jit", "closed_call", "core_call")


@dataclass(frozen=True)
class Known:
    """A value known when the function was traced."""

    value: Any


@dataclass(frozen=True)
class Step:
    """One operation; its inputs are numbered slots or literals."""

    primitive: Any
    params: dict[str, Any]
    inputs: tuple[int | Known, ...]
    outputs: tuple[int, ...]

    @property
    def reads(self) -> list[int]:
        """The slots it reads."""
        return [x for x in self.inputs if isinstance(x, int)]

    def run(self, values: dict[int, Any]) -> None:
        """Adds its outputs to the values, which hold its inputs."""
        given = [values[x] if isinstance(x, int) else x.value for x in self.inputs]
        out = self.primitive.bind(*given, **self.primitive.get_bind_params(self.params))
        values.update(zip(self.outputs, out if self.primitive.multiple_results else [out], strict=True))


@dataclass(frozen=True)
class Flat:
    """The steps of a function; `avals` by slot, the first slots being its inputs, and where its outputs are."""

    steps: tuple[Step, ...]
    avals: tuple[Any, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int | Known, ...]

    @property
    def output(self) -> int | Known:
        """Where the one output is."""
        (output,) = self.outputs
        return output

    @property
    def used(self) -> set[int]:
        """The slots that the outputs depend on."""
        used = {x for x in self.outputs if isinstance(x, int)}
        for step in reversed(self.steps):
            if used & set(step.outputs):
                used.update(step.reads)
        return used


def flatten(function: Callable[..., Any], *examples: Any) -> Flat:
    """The steps of a function of pytrees, traced at these examples."""
    closed = jax.make_jaxpr(function)(*examples)
    steps: list[Step] = []
    avals: list[Any] = []

    def slot(aval: Any) -> int:
        avals.append(aval)
        return len(avals) - 1

    inputs = [slot(var.aval) for var in closed.jaxpr.invars]
    outputs = _inline(closed, inputs, steps, slot)
    return Flat(tuple(steps), tuple(avals), tuple(inputs), tuple(outputs))


def _inline(closed: Any, inputs: Sequence[Any], steps: list[Step], slot: Callable[[Any], int]) -> list[Any]:
    """Appends the steps of a closed jaxpr, and returns where its outputs are."""
    jaxpr = closed.jaxpr
    where = dict(zip(jaxpr.invars, inputs, strict=True))
    where.update((var, Known(value)) for var, value in zip(jaxpr.constvars, closed.consts, strict=True))

    def find(atom: Any) -> Any:
        return Known(atom.val) if isinstance(atom, core.Literal) else where[atom]

    for eqn in jaxpr.eqns:
        given = [find(atom) for atom in eqn.invars]
        inner = _called(eqn)
        if inner is not None:
            out = _inline(inner, given, steps, slot)
        else:
            out = [slot(var.aval) for var in eqn.outvars]
            steps.append(Step(eqn.primitive, eqn.params, tuple(given), tuple(out)))
        where.update(zip(eqn.outvars, out, strict=True))
    return [find(atom) for atom in jaxpr.outvars]


def _called(eqn: Any) -> Any:
    """The closed jaxpr of a call to inline, `None` for any other operation.

    A function with a derivative of its own keeps it, unless it scans: then its rounds are differentiated.
    """
    name = eqn.primitive.name
    if name not in _INLINED and name != "custom_vjp_call":
        return None
    inner = eqn.params["jaxpr" if "jaxpr" in eqn.params else "call_jaxpr"]
    return inner if name in _INLINED or _scans(inner) else None


def _scans(closed: Any) -> bool:
    inner = [_called(eqn) for eqn in closed.jaxpr.eqns]
    return any(
        eqn.primitive.name == "scan" or (called is not None and _scans(called))
        for eqn, called in zip(closed.jaxpr.eqns, inner, strict=True)
    )


def body_counts(step: Step, avals: Sequence[Any]) -> tuple[int, int, int]:
    """How many constants, carried values and sequences a `lax.scan` reads; the carried ones are all it returns.

    Counted by shapes, since versions of JAX name these parameters differently: a sequence has one axis more outside.
    """
    inside = step.params["jaxpr"].jaxpr.invars
    outside = [avals[x].ndim if isinstance(x, int) else np.ndim(x.value) for x in step.inputs]
    sequences = sum(out != var.aval.ndim for out, var in zip(outside, inside, strict=True))
    return len(inside) - sequences - len(step.outputs), len(step.outputs), sequences
