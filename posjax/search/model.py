"""A trained model under other rotary schedules, and its loss as a function of their numbers that has a gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from posjax.encodings import Chain, Encoding, Rope, Schedule, chain
from posjax.errors import InputError
from posjax.evaluation import TrainedModel
from posjax.models import Architecture, Transformer, build, constants_of, cross_entropy
from posjax.search.float_rope import FloatRope

Point = dict[str, jax.Array]
"""What is searched: `log_divisors [P]` and `log_temperature []`."""


def rope_of(architecture: Architecture) -> Rope:
    """The rotary encoding that a search is for. Errors: `InputError` for none, or several."""
    stack = architecture.main_stack
    parts = [part for encoding, _ in stack.encodings(architecture.width) for part in _parts(encoding)]
    # Equal encodings of several layers are one, as they share what is prepared.
    found = list(dict.fromkeys(part for part in parts if isinstance(part, Rope)))
    if len(found) != 1:
        told = ", ".join(map(repr, found)) or repr(architecture.encoding)
        # Several would each need a divisor of their own for each pair, and rows for all of them.
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
                # Field by field, so that layout and share of the head stay what they are.
                part = FloatRope(**held)
            parts.append(part)
        return chain(*parts)

    return changed


def differentiable(trained_model: TrainedModel, start: Schedule) -> tuple[Any, dict[str, Any], Any]:
    """The model with a differentiable rotation: its graph, its constants at the start, and its state."""
    # Of the same compute: a backend that the model was trained with has a gradient.
    model = trained_model.model
    architecture = model.architecture.with_encodings(floating(start))
    # Shapes alone: the weights are the trained ones, and a rotation learns nothing that would have to change place.
    shapes = nnx.eval_shape(lambda: build(architecture, model.vocabulary, 0, model.compute))
    graph, _ = nnx.split(shapes)
    return graph, constants_of(architecture), nnx.state(model)


@partial(jax.jit, static_argnums=(0,))
def loss_and_gradient(graph: Any, state: Any, constants: Any, point: Point, rows: Any) -> tuple[jax.Array, Point]:
    """The mean loss over the targets that count, and what it changes by at each number of the point."""

    # Of the point alone: the weights are data that nothing is differentiated in.
    def loss(at: Point) -> jax.Array:
        model: Transformer = nnx.merge(graph, state)
        logits = model(rows["inputs"], constants=_with_point(constants, at))
        weights = rows["weights"]
        return jnp.sum(cross_entropy(logits, rows["targets"]) * weights) / jnp.sum(weights)

    value, gradient = jax.value_and_grad(loss)(point)
    return value, gradient


def _with_point(constants: Any, point: Point) -> dict[str, Any]:
    """A model's constants, those of every `FloatRope` among them replaced by a point of the search."""
    # By its names, wherever a chain or a stack keeps it.
    if "log_divisors" in constants:
        return {**constants, **point}
    found = {}
    for name, part in constants.items():
        if isinstance(part, dict):
            part = _with_point(part, point)
        found[name] = part
    return found
