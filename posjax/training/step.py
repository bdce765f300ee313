"""One step of training: loss, gradient, update, as one jitted function over a mesh."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh

from posjax.mesh import split_here
from posjax.models import Architecture, Compute, Transformer, build
from posjax.models.folding import fold, unfold
from posjax.training.mesh import BATCH_LETTERS, Places, shared
from posjax.training.objectives import Batch, CausalLM, Objective
from posjax.training.optimizers import Optimizer, norm

ASKED = "asked"
"""Under which name a batch and the metrics say that a process was asked to stop."""

Metrics = dict[str, jax.Array]
Step = Callable[["State", Batch], tuple["State", Metrics]]


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
    optimizer: Optimizer
    steps: int
    places: Places
    compute: Compute = Compute()  # noqa: RUF009
    objective: Objective = CausalLM()  # noqa: RUF009
    accumulate: int = 1

    @property
    def mesh(self) -> Mesh:
        """The devices."""
        return self.places.mesh

    def graph(self) -> Any:
        """The model's structure, into which `State.params` merge."""
        return nnx.graphdef(nnx.eval_shape(lambda: self._build(0)))

    def _build(self, seed: int) -> Transformer:
        model = build(self.model, self.vocabulary, seed, self.compute)
        if self.compute.loops:
            return fold(model)
        return model

    def trained(self, params: Any) -> Transformer:
        """The model with parameters of a state, for use without the mesh."""
        trainer = self
        if self.compute.backend == "ring":
            # Which needs a mesh that splits rows, and a user of the model has none.
            trainer = replace(self, compute=replace(self.compute, backend="auto"))
        return unfold(nnx.merge(trainer.graph(), params))

    def start(self, seed: int) -> State:
        """The state before the first step, a function of the seed, each device with its own part."""
        # Compiled with its shardings, so that each device makes its own part and none is sent.
        return jax.jit(lambda: self._begin(seed), out_shardings=self._shardings())()

    def start_from(self, params: Any) -> State:
        """The state before the first step, of parameters that lie on this mesh already."""
        return jax.jit(self._of, out_shardings=self._shardings())(params)

    def _begin(self, seed: int) -> State:
        return self._of(nnx.state(self._build(seed)))

    def _of(self, params: Any) -> State:
        optimizer = self.optimizer.build(self.steps).init(params)
        return State(params, optimizer, jnp.zeros((), jnp.int32))

    def _shardings(self) -> Any:
        return self.places.of(jax.eval_shape(lambda: self._begin(0)))

    def abstract(self) -> State:
        """The shapes, types and places of a state, for restoring into."""
        shapes = jax.eval_shape(lambda: self._begin(0))
        placed = jax.tree.leaves(self.places.of(shapes))
        leaves, structure = jax.tree.flatten(shapes)
        put = [
            jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place)
            for leaf, place in zip(leaves, placed, strict=True)
        ]
        return structure.unflatten(put)

    def compiled(self, seed: int) -> Step:
        """One step, compiled: `(state, batch) -> (state, metrics)`; the state given is consumed.

        A step whose loss or gradient is not finite changes nothing but its number, and says so by `skipped`.
        """
        jitted = self.jitted(seed)

        def step(state: State, batch: Batch) -> tuple[State, Metrics]:
            # Kernels that the compiler cannot split look for the mesh here.
            with jax.set_mesh(self.mesh):
                return jitted(state, batch)

        return step

    def jitted(self, seed: int) -> Any:
        """The step as `jax.jit` has it, to be called or lowered under `jax.set_mesh(mesh)`."""
        transform = self.optimizer.build(self.steps)

        def advance(state: State, batch: Batch) -> tuple[State, Metrics]:
            # A function of the seed and the step, so that a run which goes on draws what it would have drawn.
            key = jax.random.fold_in(jax.random.key(seed), state.step)
            batch = dict(batch)
            asked = batch.pop(ASKED, None)
            value, gradient = self._gradient(state.params, batch, key)
            size = norm(gradient)
            updates, optimizer = transform.update(gradient, state.optimizer, state.params)
            params = optax.apply_updates(state.params, updates)
            sound = jnp.isfinite(value) & jnp.isfinite(size)
            # One number that is none would be in every parameter after the next step.
            params, optimizer = jax.tree.map(
                lambda new, old: jnp.where(sound, new, old), (params, optimizer), (state.params, state.optimizer)
            )
            metrics = {"loss": value, "gradient_norm": size, "skipped": ~sound}
            if asked is not None:
                metrics[ASKED] = jnp.any(asked)
            return State(params, optimizer, state.step + 1), metrics

        shardings = self._shardings()
        # The old state is given up: parameters and moments twice would be most of a device's memory.
        return jax.jit(
            advance,
            donate_argnums=0,
            in_shardings=(shardings, None),
            out_shardings=(shardings, shared(self.mesh)),
        )

    def _gradient(self, params: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, Any]:
        """The loss of a batch and its gradient, of the whole at once or of parts one after the other."""
        graph = self.graph()
        weight = self.objective.weight(batch)

        def loss(params: Any, part: Batch, key: jax.Array) -> jax.Array:
            # By the weight of the whole batch, so that parts add up to its mean.
            return self.objective.total(nnx.merge(graph, params), part, key) / weight

        if self.accumulate == 1:
            return jax.value_and_grad(loss)(params, batch, key)

        def add(sums: Any, given: Any) -> tuple[Any, None]:
            part, own_key = given
            more = jax.value_and_grad(loss)(params, part, own_key)
            return jax.tree.map(jnp.add, sums, more), None

        nothing = jnp.zeros((), jnp.float32), jax.tree.map(jnp.zeros_like, params)
        keys = jax.random.split(key, self.accumulate)
        sums, _ = jax.lax.scan(add, nothing, (self._parts(batch), keys))
        return sums

    def _parts(self, batch: Batch) -> Batch:
        """A batch as `accumulate` parts, `[A, B / A, ...]`; each device's rows stay its own."""
        parts = {}
        for name, array in batch.items():
            # Row r is in part r % A: a device that holds neighbours has some of each.
            rows = array.reshape(-1, self.accumulate, *array.shape[1:])
            parts[name] = split_here(rows.swapaxes(0, 1), "_" + BATCH_LETTERS[name])
        return parts
