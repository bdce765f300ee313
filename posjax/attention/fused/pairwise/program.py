"""An encoding's own `bias` taken apart for kernels, which hold no parameters and slice no arrays they have loaded.

Traced once, it falls into two parts. What does not depend on positions (slopes, exponentials of parameters, the choice
of a head) runs outside, once for each head, and leaves a row of plain numbers. What does runs inside the kernel, on one
tile, and reads those numbers one at a time. The gradient of the row is taken inside the kernel, tile by tile, and that
of the parameters from the row outside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from posjax.attention.biases import ByPosition
from posjax.attention.fused.pairwise.flatten import Flat, Step, body_counts, flatten, slots_among
from posjax.attention.fused.pairwise.stages import (
    Lookup,
    Loop,
    Number,
    PlainStage,
    Reader,
    Stage,
    Values,
    add_at,
    is_float,
)
from posjax.encodings.base import Head

_REFUSED = (
    "gather",
    "scatter",
    "scatter-add",
    "sort",
    "dynamic_slice",
    "dynamic_update_slice",
    "concatenate",
    "rev",
    "cumsum",
    "dot_general",
    "while",
    "cond",
    "conv_general_dilated",
    "top_k",
    "argmax",
    "argmin",
)
"""Operations that Triton or Mosaic cannot lower on values of a tile."""

_LONGEST = 256
"""The most numbers of a table to look up in: its gradient compares each pair with each of them."""

_ANY_TILE = (16, 16)
"""A program's numbers are the same for tiles of every shape."""


@dataclass(frozen=True)
class Program:
    """The part of a bias that runs inside a kernel, for tiles of one shape.

    `numbers` says where each slot that comes from outside is found, `positions` are the slots of queries' and keys'
    positions, and `widths` the lengths of a head's rows of floats and of integers.
    """

    flat: Flat
    outside: tuple[Step, ...]
    stages: tuple[Stage, ...]
    numbers: dict[int, Number]
    positions: tuple[int, int]
    widths: tuple[int, int]

    def tile(self, read: Reader, q_positions: jax.Array, k_positions: jax.Array) -> jax.Array:
        """The bias of a tile, float32 `[rows, columns]`, from positions `[rows]` and `[columns]`."""
        tile, _ = self._run(read, q_positions, k_positions)
        return tile

    def tile_and_pull(
        self, read: Reader, q_positions: jax.Array, k_positions: jax.Array
    ) -> tuple[jax.Array, Callable[[jax.Array, jax.Array], jax.Array]]:
        """The tile, and the function that adds a tile's cotangent to the gradient of the head's row `[1, P]`."""
        tile, values = self._run(read, q_positions, k_positions)

        def pull(cotangent: jax.Array, row: jax.Array) -> jax.Array:
            cotangents: Values = {}
            # A bias that is one known number for all pairs has no slot, and nobody to give a gradient to.
            if isinstance(self.flat.output, int):
                cotangents[self.flat.output] = cotangent
            for stage in reversed(self.stages):
                row = stage.pull(read, values, cotangents, row)
            # Loops and lookups have added to the row themselves; what plain operations read by its slot is left.
            for slot, number in self.numbers.items():
                if number.is_float and slot in cotangents:
                    row = add_at(row, number.first, cotangents[slot])
            return row

        return tile, pull

    def _run(self, read: Reader, q_positions: jax.Array, k_positions: jax.Array) -> tuple[jax.Array, Values]:
        q_slot, k_slot = self.positions
        values: Values = {q_slot: q_positions, k_slot: k_positions}
        for slot, number in self.numbers.items():
            # Arrays of numbers stay where they are: a stage reads one of them at a time.
            if not self.flat.avals[slot].ndim:
                values[slot] = read.number(number.first, number.is_float).astype(number.dtype)
        for stage in self.stages:
            stage.run(read, values)
        output = self.flat.output
        if isinstance(output, int):
            return values[output], values
        return output.value, values


def head_rows(program: Program, bias: ByPosition) -> tuple[jax.Array, jax.Array]:
    """What runs outside: the numbers of each head, float32 `[N, P]` and int32 `[N, Q]`."""
    leaves = jax.tree.leaves(bias.params)
    # The inputs that a program was traced with are the parameters, the positions, and the head's index.
    nowhere: list[Any] = [None, None]

    def of_head(index: jax.Array) -> tuple[jax.Array, jax.Array]:
        values: Values = dict(zip(program.flat.inputs, [*leaves, *nowhere, index], strict=True))
        for step in program.outside:
            step.run(values)
        floats, integers = [], []
        for slot, number in program.numbers.items():
            line = jnp.ravel(values[slot])
            if number.is_float:
                floats.append(line.astype(jnp.float32))
            else:
                integers.append(line.astype(jnp.int32))
        # One more, so that no row is empty: a kernel takes no array without numbers.
        floats.append(jnp.zeros(1, jnp.float32))
        integers.append(jnp.zeros(1, jnp.int32))
        return jnp.concatenate(floats), jnp.concatenate(integers)

    return jax.vmap(of_head)(bias.head_indices)


def cotangent(bias: ByPosition, d_rows: jax.Array | None) -> ByPosition:
    """The gradient of the parameters from that of the rows `[N, P]`; without one, zeros."""
    if d_rows is None:
        return bias.cotangent(bias.gradient())  # type: ignore[arg-type]
    leaves, structure = jax.tree.flatten(bias.params)
    learned = [n for n, leaf in enumerate(leaves) if is_float(leaf)]
    program = build(bias, _ANY_TILE)

    def rows_of(floats: list[jax.Array]) -> jax.Array:
        own = list(leaves)
        for n, leaf in zip(learned, floats, strict=True):
            own[n] = leaf
        rows, _ = head_rows(program, replace(bias, params=structure.unflatten(own)))
        return rows

    _, pull = jax.vjp(rows_of, [jnp.asarray(leaves[n]) for n in learned])
    (d_leaves,) = pull(d_rows)
    return bias.cotangent(d_leaves)


def build(bias: ByPosition, shape: tuple[int, int]) -> Program:
    """The program of a bias for tiles of `shape = (rows, columns)`.

    Errors: `NotImplementedError` for a bias that needs more inside a kernel than elementwise functions of a pair.
    """
    flat = _traced(bias, shape)
    q_slot, k_slot, _ = flat.inputs[-3:]
    inside = _inside(flat, {q_slot, k_slot})
    numbers, widths = _numbers(flat, _from_outside(flat, inside, {q_slot, k_slot}))
    try:
        stages = _stages(flat, inside, numbers, shape)
    except _Refused as refused:
        raise NotImplementedError(
            f"the fused backend cannot evaluate the bias of {bias.encoding!r} inside its kernels at explicit "
            f"positions: {refused}. Leave positions out where they are 0, 1, 2, …, so that a bias by distance enters "
            "as a vector, or take backend='chunked'"
        ) from None
    # By identity: two equal operations are still two, and parameters of an operation need not be comparable.
    chosen = {id(step) for step in inside}
    outside = tuple(step for step in flat.steps if id(step) not in chosen)
    return Program(flat, outside, stages, numbers, (q_slot, k_slot), widths)


def _traced(bias: ByPosition, shape: tuple[int, int]) -> Flat:
    """The steps of one head's bias, a function of the parameters' leaves, positions and the head's index."""
    leaves, structure = jax.tree.flatten(bias.params)

    def whole(leaves: list[Any], q: jax.Array, k: jax.Array, index: jax.Array) -> jax.Array:
        bias_TS = bias.encoding.bias(structure.unflatten(leaves), q, k, Head(index, bias.heads))
        return jnp.broadcast_to(bias_TS, shape).astype(jnp.float32)

    rows, columns = shape
    # Leaves as inputs, and not as what they hold: known values would become part of the kernel, which has no arrays.
    leaves_like = [jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x)) for x in leaves]
    q_like = jax.ShapeDtypeStruct((rows,), jnp.int32)
    k_like = jax.ShapeDtypeStruct((columns,), jnp.int32)
    return flatten(whole, leaves_like, q_like, k_like, jax.ShapeDtypeStruct((), jnp.int32))


class _Refused(Exception):
    """What a kernel cannot do, in words."""


def _inside(flat: Flat, positions: set[int]) -> list[Step]:
    """The steps that depend on positions, and those that only spread plain numbers over a tile for them."""
    moving = set(positions)
    spread: set[int] = set()
    for step in flat.steps:
        if moving & set(step.reads):
            moving.update(step.outputs)
        # Made outside, an array as large as a tile would have to be loaded; of one number a kernel makes it anew.
        elif all(not flat.avals[slot].ndim or slot in spread for slot in step.reads):
            spread.update(slot for slot in step.outputs if flat.avals[slot].ndim)
    wanted = set(slots_among(flat.outputs))
    for step in flat.steps:
        if moving & set(step.outputs):
            wanted.update(step.reads)
    chosen: list[Step] = []
    # Backwards, so that what spreads for a chosen step is wanted before it is asked about.
    for step in reversed(flat.steps):
        outputs = set(step.outputs)
        if moving & outputs or wanted & spread & outputs:
            chosen.append(step)
            wanted.update(step.reads)
    return chosen[::-1]


def _from_outside(flat: Flat, inside: Sequence[Step], positions: set[int]) -> list[int]:
    """The slots that a kernel reads and does not make, each once, in the order in which they are read."""
    made = set(positions)
    needed = []
    for step in inside:
        made.update(step.outputs)
        needed.extend(step.reads)
    needed.extend(slots_among(flat.outputs))
    return [slot for slot in dict.fromkeys(needed) if slot not in made]


def _numbers(flat: Flat, slots: Sequence[int]) -> tuple[dict[int, Number], tuple[int, int]]:
    """Where the numbers of each slot stand in a head's two rows, and how long these are, with the one more at the end.

    Floats and integers apart: a float32 would round integers past 2^24.
    """
    numbers: dict[int, Number] = {}
    floats, integers = 0, 0
    for slot in slots:
        aval = flat.avals[slot]
        length = int(np.prod(aval.shape))
        if jnp.issubdtype(aval.dtype, jnp.floating):
            numbers[slot] = Number(floats, True, length, aval.dtype)
            floats += length
        else:
            numbers[slot] = Number(integers, False, length, aval.dtype)
            integers += length
    return numbers, (floats + 1, integers + 1)


def _stages(
    flat: Flat, inside: Sequence[Step], numbers: dict[int, Number], shape: tuple[int, int]
) -> tuple[Stage, ...]:
    """The steps inside a kernel as stages. Errors: `_Refused`."""
    rows, columns = shape
    arrays = {slot for slot in numbers if flat.avals[slot].ndim}
    makers = {slot: step for step in inside for slot in step.outputs}
    lookups: dict[int, Lookup] = {}
    wider: set[int] = set()
    for step in inside:
        if step.primitive.name == "gather" and step.inputs[0] in arrays:
            lookups[id(step)] = _lookup(flat, step, numbers, makers)
            # Their indices come with one more axis, which is for them alone and not made inside a kernel.
            wider.update(step.reads[1:])
    stages: list[Stage] = []
    for step in inside:
        if id(step) in lookups:
            stages.append(lookups[id(step)])
        elif step.primitive.name == "scan":
            stages.append(_loop(flat, step, numbers))
        elif not wider & set(step.outputs):
            _check(flat, step, arrays, rows * columns)
            _append_plain(stages, step)
    return tuple(stages)


def _append_plain(stages: list[Stage], step: Step) -> None:
    """Adds a plain operation to the run at the end, or begins one: one run is differentiated as a whole."""
    if stages and isinstance(stages[-1], PlainStage):
        stages[-1] = PlainStage((*stages[-1].steps, step))
    else:
        stages.append(PlainStage((step,)))


def _check(flat: Flat, step: Step, arrays: set[int], pairs: int) -> None:
    """Errors: `_Refused` for an operation that a kernel cannot do on a tile of so many pairs."""
    name = step.primitive.name
    if name in _REFUSED:
        raise _Refused(f"it needs the operation {name!r} on values that depend on positions")
    # Sandwich's waves, for one, are a number for each pair and frequency.
    if any(flat.avals[slot].size > pairs for slot in step.outputs):
        raise _Refused(f"its operation {name!r} makes an array larger than the tile of pairs")
    if arrays & set(step.reads):
        raise _Refused(f"it reads an array of parameters in the operation {name!r}")


def _lookup(flat: Flat, step: Step, numbers: dict[int, Number], makers: dict[int, Step]) -> Lookup:
    """A gather of single numbers of a head, at an index for each pair."""
    table, wide_index = step.reads
    number = numbers[table]
    maker = makers.get(wide_index)
    # One number of one row for each pair, as `table[index]` traces to.
    plain = flat.avals[table].ndim == 1 and tuple(step.params["slice_sizes"]) == (1,)
    # `maker` gave the index its last axis, of one; the index before that has the shape of the result.
    if not plain or maker is None or flat.avals[maker.reads[0]].shape != flat.avals[step.outputs[0]].shape:
        raise _Refused("it looks up more than one number of the head's parameters for each pair")
    if number.length > _LONGEST:
        raise _Refused(
            f"it looks up in a table of {number.length} numbers, and {_LONGEST} are the most that a tile's "
            "pairs are compared with"
        )
    return Lookup(number, maker.reads[0], step.outputs[0], _filled_with(step, number))


def _filled_with(step: Step, number: Number) -> float | None:
    """What a gather gives for an index out of range; `None` where it takes the nearest in range."""
    filled = "FILL" in str(step.params["mode"])
    if not filled or not number.is_float:
        return None
    fill = step.params["fill_value"]
    # JAX's own default for floats.
    if fill is None:
        return float("nan")
    return float(fill)


def _loop(flat: Flat, step: Step, numbers: dict[int, Number]) -> Loop:
    """A scan over numbers of a head, all that it returns being what it carries."""
    constants, carried, _ = body_counts(step, flat.avals)
    end = constants + carried
    body = step.params["jaxpr"].jaxpr
    # What a round returns beside what it carries would be stacked, an array with a tile for each round.
    for returned, taken in zip(body.outvars, body.invars[constants:end], strict=True):
        if returned.aval.shape != taken.aval.shape:
            raise _Refused("its scan returns more than what it carries")
    sequences = step.inputs[end:]
    slots = slots_among(sequences)
    if len(slots) < len(sequences):
        raise _Refused(
            "its scan runs over an array that is no parameter: give encoding.join(params, "
            "encoding.constants(dims)) as params, and make the array one of its constants"
        )
    if any(slot not in numbers or flat.avals[slot].ndim > 1 for slot in slots):
        raise _Refused("its scan runs over more than one number at a time of the head's parameters")
    if any(slot in numbers and flat.avals[slot].ndim for slot in slots_among(step.inputs[:end])):
        raise _Refused("its scan reads an array of parameters in every round")
    if not _only_adds(step, constants, carried):
        raise _Refused("its scan does more than add to what it carries")
    return Loop(step, constants, tuple(numbers[slot] for slot in slots))


def _only_adds(step: Step, constants: int, carried: int) -> bool:
    """Whether the gradients of a scan's round are the same whatever it carries, so that none of it need be kept."""
    closed = step.params["jaxpr"]
    like = [jax.ShapeDtypeStruct(var.aval.shape, var.aval.dtype) for var in closed.jaxpr.invars]
    end = constants + carried
    carries = like[constants:end]
    # Integers have no gradients.
    if not any(is_float(x) for x in carries):
        return True
    if not all(is_float(x) for x in carries):
        return False
    floats = [n for n, x in enumerate(like) if is_float(x)]

    def pull(given: list[jax.Array], cotangents: list[jax.Array]) -> list[jax.Array]:
        def run(some: list[jax.Array]) -> list[jax.Array]:
            own = list(given)
            for n, x in zip(floats, some, strict=True):
                own[n] = x
            return list(core.jaxpr_as_fun(closed)(*own))

        _, back = jax.vjp(run, [given[n] for n in floats])
        return back(cotangents)[0]

    # The way back of one round, as steps: none of what it computes may depend on a slot of what is carried.
    flat = flatten(pull, like, carries)
    return not flat.used & set(flat.inputs[constants:end])
