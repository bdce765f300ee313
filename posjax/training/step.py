"""One step of training: loss, gradient, update, as one jitted function over a mesh."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh

from posjax.models import Architecture, Compute, build, cross_entropy
from posjax.training import mesh as meshes
from posjax.training.optimizer import AdamW, norm

Batch = dict[str, jax.Array]
"""`inputs` and `targets` int32 `[B, T]`, `weights` float32 `[B, T]`."""


@dataclass(frozen=True)
class State:
    """Everything that a step changes: the parameters, the optimiser's state, the number of steps done."""

    params: Any
    optimizer: Any
    step: jax.Array


jax.tree_util.register_dataclass(State, data_fields=["params", "optimizer", "step"], meta_fields=[])


@dataclass(frozen=True)
class Trainer:
    """A model, an optimiser and a mesh: what makes a state and advances it."""

    model: Architecture
    vocabulary: int
    optimizer: AdamW
    steps: int
    mesh: Mesh
    compute: Compute = Compute()  # noqa: RUF009

    def graph(self) -> Any:
        """The model's structure, into which `State.params` merge."""
        return nnx.graphdef(nnx.eval_shape(lambda: build(self.model, self.vocabulary, 0, self.compute)))

    def start(self, seed: int) -> State:
        """The state before the first step, a function of the seed, on every device of the mesh."""

        def begin() -> State:
            params = nnx.state(build(self.model, self.vocabulary, seed, self.compute))
            optimizer = self.optimizer.build(self.steps).init(params)
            return State(params, optimizer, jnp.zeros((), jnp.int32))

        # Compiled with its sharding, so that each device makes its own copy and none is sent.
        return jax.jit(begin, out_shardings=meshes.shared(self.mesh))()

    def abstract(self) -> State:
        """The shapes, types and places of a state, for restoring into."""
        shapes = jax.eval_shape(lambda: self.start(0))
        place = meshes.shared(self.mesh)
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), shapes)

    def compiled(self, seed: int) -> Callable[[State, Batch], tuple[State, dict[str, jax.Array]]]:
        """One step, compiled: `(state, batch) -> (state, metrics)`; the state given is consumed."""
        graph = self.graph()
        transform = self.optimizer.build(self.steps)

        def loss(params: Any, batch: Batch, step: jax.Array) -> jax.Array:
            # A function of the seed and the step, so that a run which goes on draws what it would have drawn.
            key = jax.random.fold_in(jax.random.key(seed), step)
            logits = nnx.merge(graph, params)(batch["inputs"], key=key)
            weights = batch["weights"]
            losses = cross_entropy(logits, batch["targets"])
            # The mean over the targets that count: most tokens of a retrieval task are not asked for.
            return jnp.sum(losses * weights) / jnp.sum(weights)

        def advance(state: State, batch: Batch) -> tuple[State, dict[str, jax.Array]]:
            value, gradient = jax.value_and_grad(loss)(state.params, batch, state.step)
            updates, optimizer = transform.update(gradient, state.optimizer, state.params)
            after = State(optax.apply_updates(state.params, updates), optimizer, state.step + 1)
            return after, {"loss": value, "gradient_norm": norm(gradient)}

        shared, rows = meshes.shared(self.mesh), meshes.by_row(self.mesh)
        # The old state is given up: parameters and moments twice would be most of a device's memory.
        compiled = jax.jit(advance, donate_argnums=0, in_shardings=(shared, rows), out_shardings=(shared, shared))

        def step(state: State, batch: Batch) -> tuple[State, dict[str, jax.Array]]:
            # Kernels that the compiler cannot split look for the mesh here.
            with jax.set_mesh(self.mesh):
                return compiled(state, batch)

        return step
