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
from jax import lax
from jax.extend import core

from posjax.attention.fused.pairwise.flatten import Step, value_of
from posjax.positions import Index

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


def add_at(row: jax.Array, index: Index, value: jax.Array) -> jax.Array:
    """The row `[1, P]` with one number added at one place."""
    # Every place is compared with the index, since a kernel cannot write to one place of a value.
    places = lax.broadcasted_iota(jnp.int32, row.shape, 1)
    return row + jnp.where(places == index, value.astype(jnp.float32), 0.0)


def _add(cotangents: Values, slot: Any, value: jax.Array) -> None:
    """Adds to the cotangent of a slot; what was known when the function was traced has none."""
    if not isinstance(slot, int):
        return
    if slot in cotangents:
        value = cotangents[slot] + value
    cotangents[slot] = value


@dataclass(frozen=True)
class PlainStage:
    """Operations one after the other."""

    steps: tuple[Step, ...]

    def run(self, read: Reader, values: Values) -> None:
        """Adds what the operations make to the values."""
        for step in self.steps:
            step.run(values)

    @property
    def made(self) -> list[int]:
        """The slots that the operations fill."""
        return [slot for step in self.steps for slot in step.outputs]

    @property
    def read_from_outside(self) -> list[int]:
        """The slots that they read and do not fill, each once, in the order in which they are read."""
        made = self.made
        reads = [slot for step in self.steps for slot in step.reads]
        return list(dict.fromkeys(slot for slot in reads if slot not in made))

    def pull(self, read: Reader, values: Values, cotangents: Values, row: jax.Array) -> jax.Array:
        """Replaces the cotangents of what was made by those of what was read."""
        wanted = [slot for slot in self.made if slot in cotangents]
        reads = self.read_from_outside
        floats = [slot for slot in reads if is_float(values[slot])]
        # No cotangent came back, or nothing that was read could have one.
        if not wanted or not floats:
            return row

        def again(*given: jax.Array) -> list[jax.Array]:
            own = {slot: values[slot] for slot in reads}
            own.update(zip(floats, given, strict=True))
            self.run(read, own)
            return [own[slot] for slot in wanted]

        # JAX differentiates the whole run at once: it knows the derivative of every operation, and of their order.
        _, pull = jax.vjp(again, *(values[slot] for slot in floats))
        returned = pull([cotangents.pop(slot) for slot in wanted])
        for slot, value in zip(floats, returned, strict=True):
            _add(cotangents, slot, value)
        return row


@dataclass(frozen=True)
class Loop:
    """A `lax.scan` over a head's numbers: it reads `constants`, then what it carries, then one of each sequence."""

    step: Step
    constants: int
    sequences: tuple[Number, ...]

    @property
    def length(self) -> int:
        """How many rounds there are."""
        return self.step.params["length"]

    @property
    def body(self) -> Callable[..., list[jax.Array]]:
        """One round, from constants, carried values and items to carried values."""
        closed = self.step.params["jaxpr"]
        return lambda *given: list(core.jaxpr_as_fun(closed)(*given))

    def inputs(self, values: Values) -> tuple[list[Any], list[Any]]:
        """The constants, and what is carried at first."""
        end = self.constants + len(self.step.outputs)
        given = [value_of(x, values) for x in self.step.inputs[:end]]
        return given[: self.constants], given[self.constants :]

    def at(self, m: Any) -> Any:
        """Which item of the sequences round m reads."""
        if self.step.params["reverse"]:
            return self.length - 1 - m
        return m

    def items(self, read: Reader, m: Any) -> list[jax.Array]:
        """What round m reads of the sequences."""
        item = self.at(m)
        return [read.number(n.first + item, n.is_float).astype(n.dtype) for n in self.sequences]

    def run(self, read: Reader, values: Values) -> None:
        """Adds what is carried at the end to the values."""
        constants, carried = self.inputs(values)

        def once(m: jax.Array, carried: list[jax.Array]) -> list[jax.Array]:
            return self.body(*constants, *carried, *self.items(read, m))

        # Not the scan itself: in a kernel there is no sequence to hand to it, only numbers to read one at a time.
        after = lax.fori_loop(0, self.length, once, carried)
        values.update(zip(self.step.outputs, after, strict=True))

    def pull(self, read: Reader, values: Values, cotangents: Values, row: jax.Array) -> jax.Array:
        """The way back through a loop that only adds to what it carries: each round is computed anew."""
        constants, carried = self.inputs(values)
        start = [cotangents.pop(slot, None) for slot in self.step.outputs]
        if all(cotangent is None for cotangent in start):
            return row
        for n, cotangent in enumerate(start):
            if cotangent is None:
                start[n] = jnp.zeros_like(carried[n])
        floats = [n for n, x in enumerate(constants) if is_float(x)]
        learned = [n for n, number in enumerate(self.sequences) if number.is_float]

        def once(round_back: jax.Array, state: Any) -> Any:
            back, totals, row = state
            m = self.length - 1 - round_back
            items = self.items(read, m)

            def again(carried: list[jax.Array], some: list[jax.Array], numbers: list[jax.Array]) -> list[jax.Array]:
                own_constants = _with(constants, floats, some)
                own_items = _with(items, learned, numbers)
                return self.body(*own_constants, *carried, *own_items)

            # At what was carried at first: a round that only adds has the same derivative wherever it is taken, so
            # what was carried in between need not be kept for every pair of the tile.
            some_constants = [constants[n] for n in floats]
            some_items = [items[n] for n in learned]
            _, pull = jax.vjp(again, carried, some_constants, some_items)
            back, some, numbers = pull(back)
            for n, value in zip(learned, numbers, strict=True):
                row = add_at(row, self.sequences[n].first + self.at(m), value)
            return back, [a + b for a, b in zip(totals, some, strict=True)], row

        state = (start, [jnp.zeros_like(constants[n]) for n in floats], row)
        back, totals, row = lax.fori_loop(0, self.length, once, state)
        for n, value in zip(floats, totals, strict=True):
            _add(cotangents, self.step.inputs[n], value)
        # What is carried follows the constants; the sequences behind it have given theirs to the row.
        for slot, value in zip(self.step.inputs[self.constants :], back, strict=False):
            _add(cotangents, slot, value)
        return row


def _with(values: Sequence[Any], at: Sequence[int], others: Sequence[Any]) -> list[Any]:
    """The values, some of them exchanged."""
    changed = list(values)
    for n, value in zip(at, others, strict=True):
        changed[n] = value
    return changed


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
        # A GPU would load from whatever address an index gives: it stays within the head's own numbers.
        within = jnp.clip(index, 0, self.number.length - 1)
        found = read.lookup(self.number, within).astype(self.number.dtype)
        if self.outside is not None:
            found = jnp.where(index == within, found, self.outside)
        values[self.output] = found

    def pull(self, read: Reader, values: Values, cotangents: Values, row: jax.Array) -> jax.Array:
        """Adds the sum of the cotangents of each number to the head's row."""
        cotangent = cotangents.pop(self.output, None)
        if cotangent is None or not self.number.is_float:
            return row
        index = values[self.index]
        # What is out of range and filled has no gradient: such an index equals no number's, and needs no clip.
        if self.outside is None:
            index = jnp.clip(index, 0, self.number.length - 1)

        def once(m: jax.Array, row: jax.Array) -> jax.Array:
            # Each number asks which pairs are its own: pairs that add to a place of their choice would race.
            mine = jnp.where(index == m, cotangent, 0.0)
            return add_at(row, self.number.first + m, jnp.sum(mine))

        return lax.fori_loop(0, self.number.length, once, row)


Stage = PlainStage | Loop | Lookup
