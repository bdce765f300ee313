"""Blocks of which the backward pass keeps no more than their inputs."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from posjax.models.layers import PreparedLayers


def recomputing(blocks: Any, x_BTD: jax.Array, prepared: PreparedLayers) -> jax.Array:
    """The stream after all blocks, of which the backward pass keeps nothing but each one's input.

    A loop over the layers, or over all kinds of layer in turn where they differ: of layers written out one after the
    other a compiler would compute everything anew at once, and save little.
    """
    kinds = len(prepared.kinds)

    @jax.checkpoint
    def turn(x: jax.Array, states: tuple[Any, ...]) -> tuple[jax.Array, None]:
        # What was prepared is no argument: what is static in it, the first index and windows, would become traced.
        for kind, state in enumerate(states):
            block = nnx.merge(graph, state)
            x, _, _ = block(x, prepared.of(kind))
        return x, None

    graph, _ = nnx.split(blocks[0])
    states = [nnx.state(block) for block in blocks]
    if not all(_alike(graph, states[0], block) for block in blocks):
        return _one_by_one(blocks, x_BTD, prepared)
    turns = len(states) // kinds
    whole = turns * kinds
    if whole:
        # One stack for each kind of layer, of every turn's layer of that kind.
        every = [_stacked(states[kind:whole:kinds]) for kind in range(kinds)]
        x_BTD, _ = jax.lax.scan(turn, x_BTD, tuple(every))
    # A turn that the layers do not fill: fewer kinds than a step of the loop takes.
    rest = tuple(states[whole:])
    if rest:
        x_BTD, _ = turn(x_BTD, rest)
    return x_BTD


def _stacked(states: list[Any]) -> Any:
    return jax.tree.map(lambda *each: jnp.stack(each), *states)


def _alike(graph: Any, state: Any, block: Any) -> bool:
    """Whether a block differs from the first in the numbers of its parameters alone, and changes none when it runs."""
    other, own = nnx.split(block)
    # What a block counts or draws, such as dropout's random state, would be lost in a loop over stacked parameters.
    beside_parameters = nnx.state(block, nnx.Not(nnx.Param))
    changing = jax.tree.leaves(beside_parameters)
    same_shapes = _shapes(own) == _shapes(state)
    return other == graph and same_shapes and not changing


def _shapes(state: Any) -> Any:
    return jax.tree.map(lambda x: (jnp.shape(x), jnp.result_type(x)), state)


def _one_by_one(blocks: Any, x_BTD: jax.Array, prepared: PreparedLayers) -> jax.Array:
    """The stream after blocks that a user has changed, each recomputed; what they count or draw is kept."""
    for i, block in enumerate(blocks):
        graph, state = nnx.split(block)

        @jax.checkpoint
        def run(state: Any, x: jax.Array, graph: Any = graph, i: int = i) -> tuple[jax.Array, Any]:
            own = nnx.merge(graph, state)
            x, _, _ = own(x, prepared.of(i))
            # Back as data: what a block changes while it is recomputed is a tracer, and lost outside.
            changed = nnx.state(own, nnx.Not(nnx.Param))
            return x, changed

        x_BTD, changed = run(state, x_BTD)
        if jax.tree.leaves(changed):
            nnx.update(block, changed)
    return x_BTD
