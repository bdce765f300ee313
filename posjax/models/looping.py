"""Layers as a loop over turns of their pattern, and a backward pass that computes again what it did not keep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from posjax.models.block import Block
from posjax.models.compute import Compute
from posjax.models.preparing import PreparedLayers

Turn = Callable[[jax.Array, Any], tuple[jax.Array, None]]


@dataclass(frozen=True)
class Training:
    """What a pass without cache or probe hands to each layer; `keys` hold one for each, or are `None`."""

    prepared: PreparedLayers
    memory: jax.Array | None
    keys: jax.Array | None

    def key(self, layer: int) -> jax.Array | None:
        if self.keys is None:
            return None
        return self.keys[layer]


@dataclass(frozen=True)
class Turns:
    """Turns of a pattern that are alike: the structure of each block of one, and their states, stacked if several."""

    graphs: tuple[Any, ...]
    states: tuple[Any, ...]
    count: int

    @property
    def layers(self) -> int:
        """How many layers these are."""
        return self.count * len(self.graphs)


def alike(blocks: Sequence[Block], pattern: int) -> list[Turns]:
    """The turns of a pattern, neighbours whose structures are equal together.

    A first layer without its norm, say, is a turn of its own.
    """
    split = [nnx.split(block) for block in blocks]
    turns = [split[at : at + pattern] for at in range(0, len(blocks), pattern)]

    def structure(turn: list[Any]) -> Any:
        return [(graph, _shapes(state)) for graph, state in turn]

    found = []
    for _, group in groupby(turns, key=structure):
        same = list(group)
        graphs = tuple(graph for graph, _ in same[0])
        states = [tuple(state for _, state in turn) for turn in same]
        stacked = states[0]
        if len(states) > 1:
            stacked = jax.tree.map(lambda *each: jnp.stack(each), *states)
        found.append(Turns(graphs, stacked, len(same)))
    return found


def stacked(blocks: Sequence[Block], counts: Sequence[tuple[int, int]]) -> list[Turns]:
    """The turns of blocks whose parameters are stacked already: how many are alike, and of how many layers each is."""
    found = []
    at = 0
    for count, layers in counts:
        split = [nnx.split(block) for block in blocks[at : at + layers]]
        graphs = tuple(graph for graph, _ in split)
        states = tuple(state for _, state in split)
        found.append(Turns(graphs, states, count))
        at += layers
    return found


def looped(blocks: Sequence[Block], x_BTD: jax.Array, given: Training, pattern: int, compute: Compute) -> jax.Array:
    """The stream after all blocks, by a loop over the turns of their pattern that are alike.

    Of layers written out one after the other a compiler would compute everything anew at once, and save little; and it
    would compile each of them.
    """
    if any(map(_changes, blocks)):
        return _one_by_one(blocks, x_BTD, given, compute)
    return through(alike(blocks, pattern), x_BTD, given, compute)


def through(groups: Sequence[Turns], x_BTD: jax.Array, given: Training, compute: Compute) -> jax.Array:
    """The stream after turns of blocks, by a loop over those that are stacked."""
    done = 0
    for turns in groups:
        keys = None
        if given.keys is not None:
            own = given.keys[done : done + turns.layers]
            # Old keys are arrays of numbers, with an axis of their own.
            keys = own.reshape(turns.count, len(turns.graphs), *own.shape[1:])
        done += turns.layers
        turn = _turn(turns.graphs, given, compute)
        if turns.count > 1:
            x_BTD, _ = jax.lax.scan(turn, x_BTD, (turns.states, keys))
            continue
        own_keys = None
        if keys is not None:
            own_keys = keys[0]
        x_BTD, _ = turn(x_BTD, (turns.states, own_keys))
    return x_BTD


def _turn(graphs: Sequence[Any], given: Training, compute: Compute) -> Turn:
    def turn(x: jax.Array, data: Any) -> tuple[jax.Array, None]:
        # What was prepared is no argument: what is static in it, the first index and windows, would become traced.
        states, keys = data
        for at, (graph, state) in enumerate(zip(graphs, states, strict=True)):
            key = None
            if keys is not None:
                key = keys[at]
            block = nnx.merge(graph, state)
            x, _, _ = block(x, given.prepared, memory=given.memory, key=key)
        return x, None

    return _recomputed(turn, compute)


def _recomputed(function: Callable[..., Any], compute: Compute) -> Callable[..., Any]:
    if compute.remat == "none":
        return function
    policy = None
    if compute.remat == "products":
        # Those of a batch are attention's own, which grow with the square of the length.
        policy = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
    return jax.checkpoint(function, policy=policy)


def _changes(block: Block) -> bool:
    """Whether a block counts or draws when it runs, as a user's own dropout does: a loop would lose that."""
    beside_parameters = nnx.state(block, nnx.Not(nnx.Param))
    return bool(jax.tree.leaves(beside_parameters))


def _shapes(state: Any) -> Any:
    return jax.tree.map(lambda x: (jnp.shape(x), jnp.result_type(x)), state)


def _one_by_one(blocks: Sequence[Block], x_BTD: jax.Array, given: Training, compute: Compute) -> jax.Array:
    """The stream after blocks that a user has changed; what they count or draw is kept."""
    for i, block in enumerate(blocks):
        graph, state = nnx.split(block)

        def run(state: Any, x: jax.Array, graph: Any = graph, i: int = i) -> tuple[jax.Array, Any]:
            own = nnx.merge(graph, state)
            x, _, _ = own(x, given.prepared, memory=given.memory, key=given.key(i))
            # Back as data: what a block changes while it is recomputed is a tracer, and lost outside.
            changed = nnx.state(own, nnx.Not(nnx.Param))
            return x, changed

        x_BTD, changed = _recomputed(run, compute)(state, x_BTD)
        if jax.tree.leaves(changed):
            nnx.update(block, changed)
    return x_BTD
