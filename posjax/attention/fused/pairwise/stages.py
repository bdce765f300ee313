"""What a program does inside a kernel: runs of plain operations, loops over a head's numbers, and lookups in them.

Each stage adds what it makes to the values, and on the way back turns the cotangents of what it made into those of what
it read; those of a head's numbers it adds to the head's row, by a comparison, since kernels cannot index a value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core

from posjax.attention.fused.pairwise.flatten import Known, Step

Values = dict[int, Any]
"""Arrays by slot."""


class Number(NamedTuple):
    """Where a slot's numbers begin in the head's row of floats or of integers, how many there are, and their dtype."""

    first: int
    is_float: bool
    length: int
    dtype: Any


class Reader(NamedTuple):
    """How a kernel reads a head's rows: `number(place, is_float)`, `lookup(number, index)` for an index in range."""

    number: Callable[[Any, bool], jax.Array]
    lookup: Callable[[Number, jax.Array], jax.Array]


def is_float(x: Any) -> bool:
    """Whether something has a gradient."""
    return bool(jnp.issubdtype(jnp.result_type(x), jnp.floating))


def place(row: jax.Array, index: Any, value: jax.Array) -> jax.Array:
    """The row `[1, P]` with one number added at one place."""
    places = jax.lax.broadcasted_iota(jnp.int32, row.shape, 1)
    return row + jnp.where(places == index, value.astype(jnp.float32), 0.0)


def _add(cotangents: Values, slot: Any, value: jax.Array) -> None:
    if isinstance(slot, int):
        cotangents[slot] = cotangents[slot] + value if slot in cotangents else value


@dataclass(frozen=True)
class Run:
    """Plain operations, one after the other."""

    steps: tuple[Step, ...]

    def run(self, read: Reader, values: Values) -> None:
        """Adds what the operations make to the values."""
        for step in self.steps:
            step.run(values)

    def pull(self, read: Reader, values: Values, cotangents: Values, row: jax.Array) -> jax.Array:
        """Replaces the cotangents of what was made by those of what was read."""
        made = [slot for step in self.steps for slot in step.outputs]
        out = [slot for slot in made if slot in cotangents]
        reads = dict.fromkeys(slot for step in self.steps for slot in step.reads if slot not in made)
        floats = [slot for slot in reads if is_float(values[slot])]
        if not out or not floats:
            return row

        def again(*given: jax.Array) -> list[jax.Array]:
            own = {**{slot: values[slot] for slot in reads}, **dict(zip(floats, given, strict=True))}
            for step in self.steps:
                step.run(own)
            return [own[slot] for slot in out]

        _, pull = jax.vjp(again, *(values[slot] for slot in floats))
        for slot, value in zip(floats, pull([cotangents.pop(slot) for slot in out]), strict=True):
            _add(cotangents, slot, value)
        return row


@dataclass(frozen=True)
class Loop:
    """A `lax.scan` over a head's numbers: it reads `constants`, then what it carries, then one of each sequence."""

    step: Step
    constants: int
    sequences: tuple[Number, ...]

    @property
    def body(self) -> Callable[..., list[jax.Array]]:
        """One round, from constants, carried values and items to carried values."""
        closed = self.step.params["jaxpr"]
        return lambda *given: list(core.jaxpr_as_fun(closed)(*given))

    def inputs(self, values: Values) -> tuple[list[Any], list[Any]]:
        """The constants, and what is carried at first."""
        end = self.constants + len(self.step.outputs)
        given = [x.value if isinstance(x, Known) else values[x] for x in self.step.inputs[:end]]
        return given[: self.constants], given[self.constants :]

    def at(self, m: Any) -> Any:
        """Which item of the sequences round m reads."""
        return self.step.params["length"] - 1 - m if self.step.params["reverse"] else m

    def items(self, read: Reader, m: Any) -> list[jax.Array]:
        """What round m reads of the sequences."""
        return [read.number(n.first + self.at(m), n.is_float).astype(n.dtype) for n in self.sequences]

    def run(self, read: Reader, values: Values) -> None:
        """Adds what is carried at the end to the values."""
        constants, carried = self.inputs(values)

        def once(m: jax.Array, carried: list[jax.Array]) -> list[jax.Array]:
            return self.body(*constants, *carried, *self.items(read, m))

        after = jax.lax.fori_loop(0, self.step.params["length"], once, carried)
        values.update(zip(self.step.outputs, after, strict=True))

    def pull(self, read: Reader, values: Values, cotangents: Values, row: jax.Array) -> jax.Array:
        """The way back through a loop that only adds to what it carries: each round is computed anew."""
        constants, carried = self.inputs(values)
        start = [cotangents.pop(slot, None) for slot in self.step.outputs]
        if all(ct is None for ct in start):
            return row
        start = [jnp.zeros_like(x) if ct is None else ct for x, ct in zip(carried, start, strict=True)]
        floats = [n for n, x in enumerate(constants) if is_float(x)]
        learned = [n for n, number in enumerate(self.sequences) if number.is_float]

        def once(m: jax.Array, state: Any) -> Any:
            back, totals, row = state
            m = self.step.params["length"] - 1 - m
            items = self.items(read, m)

            def again(carried: list[jax.Array], some: list[jax.Array], numbers: list[jax.Array]) -> list[jax.Array]:
                return self.body(*_with(constants, floats, some), *carried, *_with(items, learned, numbers))

            _, pull = jax.vjp(again, carried, [constants[n] for n in floats], [items[n] for n in learned])
            back, some, numbers = pull(back)
            for n, value in zip(learned, numbers, strict=True):
                row = place(row, self.sequences[n].first + self.at(m), value)
            return back, [a + b for a, b in zip(totals, some, strict=True)], row

        state = (start, [jnp.zeros_like(constants[n]) for n in floats], row)
        back, totals, row = jax.lax.fori_loop(0, self.step.params["length"], once, state)
        for n, value in zip(floats, totals, strict=True):
            _add(cotangents, self.step.inputs[n], value)
        for slot, value in zip(self.step.inputs[self.constants :], back, strict=False):
            _add(cotangents, slot, value)
        return row


def _with(values: Sequence[Any], at: Sequence[int], others: Sequence[Any]) -> list[Any]:
    changed = dict(zip(at, others, strict=True))
    return [changed.get(n, value) for n, value in enumerate(values)]


@dataclass(frozen=True)
class Lookup:
    """A head's number for each pair, by an index that depends on positions; out of range it is `outside`, if given."""

    number: Number
    index: int
    output: int
    outside: float | None

    def run(self, read: Reader, values: Values) -> None:
        """Adds the numbers looked up to the values."""
        index = values[self.index]
        within = jnp.clip(index, 0, self.number.length - 1)
        found = read.lookup(self.number, within).astype(self.number.dtype)
        values[self.output] = found if self.outside is None else jnp.where(index == within, found, self.outside)

    def pull(self, read: Reader, values: Values, cotangents: Values, row: jax.Array) -> jax.Array:
        """Adds the sum of the cotangents of each number to the head's row."""
        cotangent = cotangents.pop(self.output, None)
        if cotangent is None or not self.number.is_float:
            return row
        index = values[self.index]
        if self.outside is None:
            index = jnp.clip(index, 0, self.number.length - 1)

        def once(m: jax.Array, row: jax.Array) -> jax.Array:
            return place(row, self.number.first + m, jnp.sum(jnp.where(index == m, cotangent, 0.0)))

        return jax.lax.fori_loop(0, self.number.length, once, row)


Stage = Run | Loop | Lookup
