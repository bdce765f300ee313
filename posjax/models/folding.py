"""A model whose layers that are alike are held as one, their parameters stacked: what is looped over is compiled once.

Stacked inside a step, the parameters of each layer would still be arguments, gradients and updates of their own, and a
compiler's work would grow with the layers.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from posjax.models.block import Block
from posjax.models.looping import alike, stacked
from posjax.models.transformer import Transformer


def fold(model: Transformer) -> Transformer:
    """The model, changed in place: of alike turns of a pattern one is left, whose parameters lead with an axis `L`.

    It trains, and computes the same; a cache or a probe needs `unfold`.
    """
    if model.folded:
        return model
    held = []
    for name, stack in model.architecture.stacks.items():
        groups = alike(model.blocks[name], len(stack.pattern))
        blocks: list[Block] = []
        for turns in groups:
            states = turns.states
            if turns.count > 1:
                states = _lettered(states)
            blocks += [nnx.merge(graph, state) for graph, state in zip(turns.graphs, states, strict=True)]
        model.blocks[name] = nnx.List(blocks)
        held.append((name, tuple((turns.count, len(turns.graphs)) for turns in groups)))
    model.folded = tuple(held)
    return model


def unfold(model: Transformer) -> Transformer:
    """The model with a block for each layer again, changed in place."""
    for name, counts in model.folded:
        blocks: list[Block] = []
        for turns in stacked(model.blocks[name], counts):
            for index in range(turns.count):
                states = turns.states
                if turns.count > 1:
                    states = _one(states, index)
                blocks += [nnx.merge(graph, state) for graph, state in zip(turns.graphs, states, strict=True)]
        model.blocks[name] = nnx.List(blocks)
    model.folded = ()
    return model


def _lettered(states: Any) -> Any:
    """Stacked states, whose parameters say so by their letters."""

    def lettered(variable: Any) -> Any:
        return variable.replace(letters="L" + variable.get_metadata()["letters"])

    return jax.tree.map(lettered, states, is_leaf=_is_variable)


def _one(states: Any, index: int) -> Any:
    """One turn's states out of those stacked."""

    def one(variable: Any) -> Any:
        letters = variable.get_metadata()["letters"].removeprefix("L")
        return variable.replace(jnp.asarray(variable.get_value())[index], letters=letters)

    return jax.tree.map(one, states, is_leaf=_is_variable)


def _is_variable(part: Any) -> bool:
    return isinstance(part, nnx.Variable)
