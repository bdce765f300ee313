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
from posjax.attention.fused.pairwise.flatten import Flat, Step, body_counts, flatten
from posjax.attention.fused.pairwise.stages import Lookup, Loop, Number, Reader, Run, Stage, is_float, place
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
        return self._run(read, q_positions, k_positions)[0]

    def tile_and_pull(
        self, read: Reader, q_positions: jax.Array, k_positions: jax.Array
    ) -> tuple[jax.Array, Callable[[jax.Array, jax.Array], jax.Array]]:
        """The tile, and the function that adds a tile's cotangent to the gradient of the head's row `[1, P]`."""
        tile, values = self._run(read, q_positions, k_positions)

        def pull(cotangent: jax.Array, row: jax.Array) -> jax.Array:
            cotangents = {self.flat.output: cotangent} if isinstance(self.flat.output, int) else {}
            for stage in reversed(self.stages):
                row = stage.pull(read, values, cotangents, row)
            for slot, number in self.numbers.items():
                if number.is_float and slot in cotangents:
                    row = place(row, number.first, cotangents[slot])
            return row

        return tile, pull

    def _run(self, read: Reader, q_positions: jax.Array, k_positions: jax.Array) -> tuple[jax.Array, dict[int, Any]]:
        values: dict[int, Any] = dict(zip(self.positions, (q_positions, k_positions), strict=True))
        for slot, number in self.numbers.items():
            if not self.flat.avals[slot].ndim:
                values[slot] = read.number(number.first, number.is_float).astype(number.dtype)
        for stage in self.stages:
            stage.run(read, values)
        output = self.flat.output
        return (values[output] if isinstance(output, int) else output.value), values


def rows(program: Program, bias: ByPosition) -> tuple[jax.Array, jax.Array]:
    """What runs outside: the numbers of each head, float32 `[N, P]` and int32 `[N, Q]`."""
    leaves = jax.tree.leaves(bias.params)

    def one(index: jax.Array) -> tuple[jax.Array, jax.Array]:
        values: dict[int, Any] = dict(zip(program.flat.inputs, [*leaves, None, None, index], strict=True))
        for step in program.outside:
            step.run(values)
        parts: dict[bool, list[jax.Array]] = {True: [], False: []}
        for slot, number in program.numbers.items():
            parts[number.is_float].append(jnp.ravel(values[slot]).astype(jnp.float32 if number.is_float else jnp.int32))
        return (
            jnp.concatenate([*parts[True], jnp.zeros(1, jnp.float32)]),
            jnp.concatenate([*parts[False], jnp.zeros(1, jnp.int32)]),
        )

    return jax.vmap(one)(bias.head_indices)


def cotangent(bias: ByPosition, numbers: jax.Array | None) -> ByPosition:
    """The gradient of the parameters from that of the rows `[N, P]`; without one, zeros."""
    if numbers is None:
        return bias.cotangent(bias.gradient())  # type: ignore[arg-type]
    leaves, structure = jax.tree.flatten(bias.params)
    learned = [n for n, leaf in enumerate(leaves) if is_float(leaf)]
    program = build(bias, _ANY_TILE)

    def run(floats: list[jax.Array]) -> jax.Array:
        own = dict(zip(learned, floats, strict=True))
        params = structure.unflatten([own.get(n, leaf) for n, leaf in enumerate(leaves)])
        return rows(program, replace(bias, params=params))[0]

    _, pull = jax.vjp(run, [jnp.asarray(leaves[n]) for n in learned])
    return bias.cotangent(pull(numbers)[0])


def build(bias: ByPosition, shape: tuple[int, int]) -> Program:
    """The program of a bias for tiles of `shape = (rows, columns)`.

    Errors: `NotImplementedError` for a bias that needs more inside a kernel than elementwise functions of a pair.
    """
    leaves, structure = jax.tree.flatten(bias.params)

    def whole(leaves: list[Any], q: jax.Array, k: jax.Array, index: jax.Array) -> jax.Array:
        bias_TS = bias.encoding.bias(structure.unflatten(leaves), q, k, Head(index, bias.heads))
        return jnp.broadcast_to(bias_TS, shape).astype(jnp.float32)

    at = [jax.ShapeDtypeStruct((n,), jnp.int32) for n in shape]
    like = [jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x)) for x in leaves]
    flat = flatten(whole, like, *at, jax.ShapeDtypeStruct((), jnp.int32))
    q_slot, k_slot = flat.inputs[-3:-1]
    inside = _inside(flat, {q_slot, k_slot})
    made = {slot for step in inside for slot in step.outputs} | {q_slot, k_slot}
    needed = [slot for step in inside for slot in step.reads]
    needed += [slot for slot in flat.outputs if isinstance(slot, int)]
    numbers, widths = _numbers(flat, [slot for slot in dict.fromkeys(needed) if slot not in made])
    try:
        stages = _stages(flat, inside, numbers, shape)
    except _Refused as refused:
        raise NotImplementedError(
            f"the fused backend cannot evaluate the bias of {bias.encoding!r} inside its kernels at explicit "
            f"positions: {refused}. Leave positions out where they are 0, 1, 2, …, so that a bias by distance enters "
            "as a vector, or take backend='chunked'"
        ) from None
    chosen = {id(step) for step in inside}
    outside = tuple(step for step in flat.steps if id(step) not in chosen)
    return Program(flat, outside, stages, numbers, (q_slot, k_slot), widths)


class _Refused(Exception):
    """What a kernel cannot do, in words."""


def _inside(flat: Flat, positions: set[int]) -> list[Step]:
    """The steps that depend on positions, and those that only spread plain numbers over a tile for them."""
    moving, spread = set(positions), set()
    for step in flat.steps:
        reads = step.reads
        if moving & set(reads):
            moving.update(step.outputs)
        elif all(not flat.avals[slot].ndim or slot in spread for slot in reads):
            spread.update(slot for slot in step.outputs if flat.avals[slot].ndim)
    wanted = {slot for step in flat.steps if moving & set(step.outputs) for slot in step.reads}
    wanted |= {slot for slot in flat.outputs if isinstance(slot, int)}
    chosen: list[Step] = []
    for step in reversed(flat.steps):
        if moving & set(step.outputs) or (wanted & spread & set(step.outputs)):
            chosen.append(step)
            wanted.update(step.reads)
    return chosen[::-1]


def _numbers(flat: Flat, slots: Sequence[int]) -> tuple[dict[int, Number], tuple[int, int]]:
    places, ends = {}, [0, 0]
    for slot in slots:
        aval = flat.avals[slot]
        floats = bool(jnp.issubdtype(aval.dtype, jnp.floating))
        places[slot] = Number(ends[not floats], floats, int(np.prod(aval.shape)), aval.dtype)
        ends[not floats] += places[slot].length
    return places, (ends[0] + 1, ends[1] + 1)  # One more, so that no row is empty.


def _stages(
    flat: Flat, inside: Sequence[Step], numbers: dict[int, Number], shape: tuple[int, int]
) -> tuple[Stage, ...]:
    """The steps inside a kernel as stages. Errors: `_Refused`."""
    arrays = {slot for slot in numbers if flat.avals[slot].ndim}
    makers = {slot: step for step in inside for slot in step.outputs}
    lookups = {
        id(step): _lookup(flat, step, numbers, makers)
        for step in inside
        if step.primitive.name == "gather" and step.inputs[0] in arrays
    }
    # Their indices come with one more axis, which is for them alone and not made inside a kernel.
    wider = {slot for step in inside if id(step) in lookups for slot in step.reads[1:]}
    stages: list[Stage] = []
    for step in inside:
        if id(step) in lookups:
            stages.append(lookups[id(step)])
        elif step.primitive.name == "scan":
            stages.append(_loop(flat, step, numbers))
        elif not wider & set(step.outputs):
            _check(flat, step, arrays, shape[0] * shape[1])
            steps = stages.pop().steps if stages and isinstance(stages[-1], Run) else ()  # type: ignore[union-attr]
            stages.append(Run((*steps, step)))
    return tuple(stages)


def _check(flat: Flat, step: Step, arrays: set[int], pairs: int) -> None:
    name = step.primitive.name
    if name in _REFUSED:
        raise _Refused(f"it needs the operation {name!r} on values that depend on positions")
    if any(flat.avals[slot].size > pairs for slot in step.outputs):
        raise _Refused(f"its operation {name!r} makes an array larger than the tile of pairs")
    if arrays & set(step.reads):
        raise _Refused(f"it reads an array of parameters in the operation {name!r}")


def _lookup(flat: Flat, step: Step, numbers: dict[int, Number], makers: dict[int, Step]) -> Lookup:
    """A gather of single numbers of a head, at an index for each pair."""
    table, wide = step.reads
    number, maker = numbers[table], makers.get(wide)
    plain = flat.avals[table].ndim == 1 and tuple(step.params["slice_sizes"]) == (1,)
    if not plain or maker is None or flat.avals[maker.reads[0]].shape != flat.avals[step.outputs[0]].shape:
        raise _Refused("it looks up more than one number of the head's parameters for each pair")
    if number.length > _LONGEST:
        raise _Refused(
            f"it looks up in a table of {number.length} numbers, and {_LONGEST} are the most that a tile's "
            "pairs are compared with"
        )
    filled = "FILL" in str(step.params["mode"])
    fill = step.params["fill_value"]
    outside = (float("nan") if fill is None else float(fill)) if filled and number.is_float else None
    return Lookup(number, maker.reads[0], step.outputs[0], outside)


def _loop(flat: Flat, step: Step, numbers: dict[int, Number]) -> Loop:
    """A scan over numbers of a head, all that it returns being what it carries."""
    constants, carried, _ = body_counts(step, flat.avals)
    body = step.params["jaxpr"].jaxpr
    if any(
        a.aval.shape != b.aval.shape
        for a, b in zip(body.outvars, body.invars[constants : constants + carried], strict=True)
    ):
        raise _Refused("its scan returns more than what it carries")
    sequences = step.inputs[constants + carried :]
    if any(not isinstance(x, int) for x in sequences):
        raise _Refused(
            "its scan runs over an array that is no parameter: give encoding.join(params, "
            "encoding.constants(dims)) as params, and make the array one of its constants"
        )
    slots = [x for x in sequences if isinstance(x, int)]
    if any(slot not in numbers or flat.avals[slot].ndim > 1 for slot in slots):
        raise _Refused("its scan runs over more than one number at a time of the head's parameters")
    if any(
        slot in numbers and flat.avals[slot].ndim
        for slot in step.inputs[: constants + carried]
        if isinstance(slot, int)
    ):
        raise _Refused("its scan reads an array of parameters in every round")
    if not _only_adds(step, constants, carried):
        raise _Refused("its scan does more than add to what it carries")
    return Loop(step, constants, tuple(numbers[slot] for slot in slots))


def _only_adds(step: Step, constants: int, carried: int) -> bool:
    """Whether the gradients of a scan's round are the same whatever it carries, so that none of it need be kept."""
    closed = step.params["jaxpr"]
    like = [jax.ShapeDtypeStruct(var.aval.shape, var.aval.dtype) for var in closed.jaxpr.invars]
    carries = like[constants : constants + carried]
    if not any(is_float(x) for x in carries):
        return True  # Integers have no gradients.
    if not all(is_float(x) for x in carries):
        return False
    floats = [n for n, x in enumerate(like) if is_float(x)]

    def pull(given: list[jax.Array], cotangents: list[jax.Array]) -> list[jax.Array]:
        def run(some: list[jax.Array]) -> list[jax.Array]:
            own = dict(zip(floats, some, strict=True))
            return list(core.jaxpr_as_fun(closed)(*(own.get(n, x) for n, x in enumerate(given))))

        return jax.vjp(run, [given[n] for n in floats])[1](cotangents)[0]

    flat = flatten(pull, like, carries)
    return not flat.used & set(flat.inputs[constants : constants + carried])
