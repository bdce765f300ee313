"""A trained model at another length: its loss on rows, as exact schedules have it, and differentiable in a point."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from posjax.data.source import Row
from posjax.encodings import Chain, Encoding, Rope, Schedule, chain
from posjax.errors import InputError
from posjax.evaluation import TrainedModel
from posjax.models import Architecture, Transformer, build, constants_of, cross_entropy
from posjax.search.float_rope import FloatRope

TOKENS = 16_384
"""Tokens of one call that is not differentiated."""

Point = dict[str, jax.Array]
"""What is searched: `log_divisors [P]` and `log_temperature []`."""


def rope_of(architecture: Architecture) -> Rope:
    """The rotary encoding that a search is for. Errors: `InputError` for none, or several."""
    stack = architecture.main_stack
    parts = [part for encoding, _ in stack.encodings(architecture.width) for part in _parts(encoding)]
    found = list(dict.fromkeys(part for part in parts if isinstance(part, Rope)))
    if len(found) != 1:
        told = ", ".join(map(repr, found)) or repr(architecture.encoding)
        raise InputError(f"the model has {len(found)} rotary encodings, {told}: a search is for one, such as Rope()")
    return found[0]


def _parts(encoding: Encoding) -> tuple[Encoding, ...]:
    if isinstance(encoding, Chain):
        return encoding.parts
    return (encoding,)


def with_schedule(schedule: Schedule) -> Callable[[Encoding], Encoding]:
    """What gives a rotary encoding another schedule, and leaves what it is chained with as it is."""

    def change(encoding: Encoding) -> Encoding:
        parts = []
        for part in _parts(encoding):
            if isinstance(part, Rope):
                part = replace(part, schedule=schedule)
            parts.append(part)
        return chain(*parts)

    return change


def floating(schedule: Schedule) -> Callable[[Encoding], Encoding]:
    """What makes a rotary encoding a differentiable one of that schedule."""
    change = with_schedule(schedule)

    def changed(encoding: Encoding) -> Encoding:
        parts = []
        for part in _parts(change(encoding)):
            if isinstance(part, Rope):
                held = {field.name: getattr(part, field.name) for field in fields(Rope)}
                part = FloatRope(**held)
            parts.append(part)
        return chain(*parts)

    return changed


def differentiable(trained_model: TrainedModel, start: Schedule) -> tuple[Any, dict[str, Any], Any]:
    """The model with a differentiable rotation: its graph, its constants at the start, and its state."""
    model = trained_model.model
    architecture = model.architecture.with_encodings(floating(start))
    # Shapes alone: the weights are the trained ones, and a rotation learns nothing that would have to change place.
    shapes = nnx.eval_shape(lambda: build(architecture, model.vocabulary, 0, model.compute))
    graph, _ = nnx.split(shapes)
    return graph, constants_of(architecture), nnx.state(model)


def answers(trained_model: TrainedModel, change: Callable[[Encoding], Encoding], rows: Row) -> np.ndarray:
    """What the model with changed encodings makes of rows: `[2, n]`, each row's loss in nats, and its share of right
    answers, over the targets that count."""
    graph, state = nnx.split(trained_model.model)
    count, length = rows["inputs"].shape
    # What depends on the length of the context is told it: LongRoPE has another list past the trained length.
    constants = constants_of(trained_model.architecture, lambda encoding: change(encoding).at_length(length))
    size = min(count, max(1, TOKENS // length))
    whole = math.ceil(count / size) * size
    found = []
    for start in range(0, whole, size):
        # Filled up with the first rows, so that one compilation serves all.
        chosen = np.arange(start, start + size) % count
        batch = {name: jnp.asarray(array[chosen]) for name, array in rows.items()}
        found.append(np.asarray(_answers(graph, state, constants, batch)))
    return np.concatenate(found, axis=1)[:, :count]


@partial(jax.jit, static_argnums=(0,))
def _answers(graph: Any, state: Any, constants: Any, rows: Any) -> jax.Array:
    logits = _logits(graph, state, constants, rows["inputs"])
    losses = cross_entropy(logits, rows["targets"])
    right = jnp.argmax(logits, -1) == rows["targets"]
    weights = rows["weights"]
    both = jnp.stack([losses, right.astype(jnp.float32)])
    return jnp.sum(both * weights[None], -1) / jnp.sum(weights, -1)[None]


@partial(jax.jit, static_argnums=(0,))
def loss_and_gradient(graph: Any, state: Any, constants: Any, point: Point, rows: Any) -> tuple[jax.Array, Point]:
    """The mean loss over the targets that count, and what it changes by at each number of the point."""

    def loss(at: Point) -> jax.Array:
        logits = _logits(graph, state, _with_point(constants, at), rows["inputs"])
        weights = rows["weights"]
        return jnp.sum(cross_entropy(logits, rows["targets"]) * weights) / jnp.sum(weights)

    value, gradient = jax.value_and_grad(loss)(point)
    return value, gradient


def _logits(graph: Any, state: Any, constants: Any, inputs: jax.Array) -> jax.Array:
    model: Transformer = nnx.merge(graph, state)
    return model(inputs, constants=constants)


def _with_point(constants: Any, point: Point) -> dict[str, Any]:
    """A model's constants, those of every `FloatRope` among them replaced by a point of the search."""
    if "log_divisors" in constants:
        return {**constants, **point}
    found = {}
    for name, part in constants.items():
        if isinstance(part, dict):
            part = _with_point(part, point)
        found[name] = part
    return found
