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
    """One operation; its inputs are numbered slots or known values."""

    primitive: Any
    params: dict[str, Any]
    inputs: tuple[int | Known, ...]
    outputs: tuple[int, ...]

    @property
    def reads(self) -> list[int]:
        """The slots it reads."""
        return slots_among(self.inputs)

    def run(self, values: dict[int, Any]) -> None:
        """Adds its outputs to the values, which hold its inputs."""
        given = [value_of(x, values) for x in self.inputs]
        # Some primitives are bound with other parameters than their equation shows: JAX knows which.
        out = self.primitive.bind(*given, **self.primitive.get_bind_params(self.params))
        if not self.primitive.multiple_results:
            out = [out]
        values.update(zip(self.outputs, out, strict=True))


def slots_among(inputs: Sequence[int | Known]) -> list[int]:
    """The slots among inputs or outputs, known values left out."""
    return [x for x in inputs if isinstance(x, int)]


def value_of(x: int | Known, values: dict[int, Any]) -> Any:
    """What stands in a slot, or what was known."""
    if isinstance(x, Known):
        return x.value
    return values[x]


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
        used = set(slots_among(self.outputs))
        # Backwards: whatever reads a slot comes after the step that made it.
        for step in reversed(self.steps):
            if used & set(step.outputs):
                used.update(step.reads)
        return used


def flatten(function: Callable[..., Any], *examples: Any) -> Flat:
    """The steps of a function of pytrees, traced at these examples."""
    closed = jax.make_jaxpr(function)(*examples)
    steps: list[Step] = []
    # Slots are counted through all calls: a variable of an inlined function has one of its own.
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
    # A call's variables are names for what its caller handed over: no step copies one to the other.
    where = dict(zip(jaxpr.invars, inputs, strict=True))
    for var, value in zip(jaxpr.constvars, closed.consts, strict=True):
        where[var] = Known(value)

    def find(atom: Any) -> Any:
        if isinstance(atom, core.Literal):
            return Known(atom.val)
        return where[atom]

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
    if name in _INLINED:
        # Primitives call the same thing by two names.
        if "jaxpr" in eqn.params:
            return eqn.params["jaxpr"]
        return eqn.params["call_jaxpr"]
    if name == "custom_vjp_call" and _scans(eqn.params["call_jaxpr"]):
        return eqn.params["call_jaxpr"]
    return None


def _scans(closed: Any) -> bool:
    """Whether there is a scan in a jaxpr, or in one that it calls."""
    for eqn in closed.jaxpr.eqns:
        if eqn.primitive.name == "scan":
            return True
        called = _called(eqn)
        if called is not None and _scans(called):
            return True
    return False


def body_counts(step: Step, avals: Sequence[Any]) -> tuple[int, int, int]:
    """How many constants, carried values and sequences a `lax.scan` reads; the carried ones are all it returns.

    Counted by shapes, since versions of JAX name these parameters differently: a sequence has one axis more outside.
    """

    def axes_outside(x: int | Known) -> int:
        if isinstance(x, Known):
            return np.ndim(x.value)
        return avals[x].ndim

    inside = step.params["jaxpr"].jaxpr.invars
    sequences = 0
    for x, var in zip(step.inputs, inside, strict=True):
        if axes_outside(x) != var.aval.ndim:
            sequences += 1
    carried = len(step.outputs)
    return len(inside) - sequences - carried, carried, sequences
