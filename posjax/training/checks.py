"""What a training asserts of its own model while it trains: laws of positions, on the batch and the parameters it has.

A broken law is no matter of numbers that went astray: some code does not do what it says, and every step from the
first was wrong. So the first step is checked, and then one in `every`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any

import jax
from flax import nnx
from jax.sharding import Mesh

from posjax.fields import AtLeast, check_fields
from posjax.invariants import Finding, asserting
from posjax.mesh import split_here
from posjax.models.holding import ModelLaws, assert_numbers, in_float32, precisely
from posjax.models.laws import LawSample, error, finding, forward, worst
from posjax.training.launch import gathered
from posjax.training.mesh import BATCH_LETTERS, Devices, shared
from posjax.training.objectives import Batch
from posjax.training.step import Trainer

NAMES = {"inputs": "tokens", "positions": "positions", "segments": "segments", "source": "source", "real": "real"}
"""What a batch calls the parts of a sample."""


@dataclass(frozen=True)
class Check:
    """Whether a training asserts the laws of its model: at the first step and every `every` steps on; 0 is never.

    Of each row `length` tokens at most are looked at, and a row on each device. On a mesh, two rows are computed on
    one device too, which takes all parameters: of larger models than `parameters` this law is left out.

    Errors: `InputError` for a number below its least.
    """

    every: Annotated[int, AtLeast(0)] = 0
    length: Annotated[int, AtLeast(2)] = 512
    parameters: Annotated[int, AtLeast(0)] = 10**9

    def __post_init__(self) -> None:
        check_fields(self)


class Checks:
    """The checks of one training, compiled at the first of them.

    `say` tells once which laws are left out, and why.
    """

    def __init__(self, check: Check, trainer: Trainer, say: Callable[[str], None]):
        self.check = check
        self.trainer = trainer
        self.say = say
        self._programs: Programs | None = None

    def due(self, step: int) -> bool:
        """Whether a step, the first being step 1, is checked: none is after `chex.disable_asserts()`."""
        every = self.check.every
        return every > 0 and (step - 1) % every == 0 and asserting()

    def broken(self, params: Any, batch: Batch) -> str | None:
        """What the model breaks, in one line; `None` where all laws hold."""
        begins = self._programs is None
        try:
            if self._programs is None:
                self._programs = Programs(self.check, self.trainer, batch)
            with precisely(self.trainer.compute.dtype):
                found = self._programs.findings(params, batch)
        except AssertionError as why:
            # chex's have several lines.
            return " ".join(str(why).split())
        if begins and self._programs.left_out:
            reasons = [f"{law} ({why})" for law, why in self._programs.left_out.items()]
            self.say(f"the checks leave out {'; '.join(reasons)}")
        # All of them: which laws are broken together tells where to look.
        wrong = [law.told for law in found if not law.holds]
        if not wrong:
            return None
        return f"the model breaks {' and '.join(wrong)}"


class Programs:
    """What a check computes: on the mesh the laws of a model, and beside them a few rows on one device."""

    def __init__(self, check: Check, trainer: Trainer, batch: Batch):
        mesh = trainer.mesh
        rows, length = _cut(check, batch["inputs"].shape, mesh)
        self.mesh = mesh
        exact = None
        if trainer.compute.dtype != "float32":
            exact = replace(trainer, compute=in_float32(trainer.compute)).graph()
        self.laws = ModelLaws(trainer.graph(), exact, trainer.model, length)
        # Padding, and what stands past a table, is marked by NaN.
        most = trainer.model.max_length
        self.is_marked = "positions" in batch or (most is not None and most < length)
        # Known alike to all processes, as the room that is left on a device is not.
        size = sum(leaf.size for leaf in jax.tree.leaves(trainer.abstract().params))
        self.alone = "mesh"
        if mesh.size == 1:
            self.alone = "backend"
        if size > check.parameters:
            self.laws.left_out[self.alone] = f"{size:,} parameters are more than {check.parameters:,}"
        # Of many processes each computes the same, on a device of its own.
        self.one = Devices(data=1).mesh(1, devices=[mesh.local_devices[0]])
        # By the backend that is the definition, so that a wrong one is found on a single device too.
        plain = replace(trainer, compute=replace(trainer.compute, backend="reference")).graph()

        def cut(given: Batch) -> LawSample:
            parts = {}
            for name, array in given.items():
                parts[NAMES[name]] = split_here(array[:rows, :length], BATCH_LETTERS[name])
            return LawSample(**parts)

        def errors(params: Any, sample: LawSample, got: jax.Array) -> Any:
            want = forward(nnx.merge(plain, params), sample)
            return worst(error((got, want), sample.counted))

        self._cut = jax.jit(cut)
        self._errors = jax.jit(errors)
        # The last row too: a mistake may spare the first device.
        last = max(rows - 1, 1)
        self._few = jax.jit(lambda tree: jax.tree.map(lambda array: array[::last], tree), out_shardings=shared(mesh))

    @property
    def left_out(self) -> dict[str, str]:
        """The laws that nothing is said of, and why."""
        return {law: why for law, why in self.laws.left_out.items() if law != "length"}

    def findings(self, params: Any, batch: Batch) -> list[Finding]:
        """Each law's finding. Errors: `AssertionError`, chex's, for shapes and for what is no number."""
        with jax.set_mesh(self.mesh):
            sample = self._cut({name: array for name, array in batch.items() if name in NAMES})
            logits = self.laws.forward(params, sample)
            if not self.is_marked:
                assert_numbers(logits)
            allowed = self.laws.allowed(params, sample, logits)
            found = list(self.laws.findings(params, sample, logits, allowed))
            few = self._few((sample, logits))
        if self.alone in self.laws.left_out:
            return found
        own, got = jax.device_get(few)
        # By a sharding: a device alone would leave them of the other mesh, by their type.
        whole = jax.device_put(gathered(params), shared(self.one))
        with jax.set_mesh(self.one):
            errors = self._errors(whole, own, got)
        return [*found, finding(self.alone, errors, allowed)]


def _cut(check: Check, shape: tuple[int, ...], mesh: Mesh) -> tuple[int, int]:
    """How many rows are looked at, and tokens of each: a row for each device that has any, two at least."""
    batch, tokens = shape
    rows = min(max(mesh.shape["data"] * mesh.shape["fsdp"], 2), batch)
    length = min(tokens, check.length)
    # Each half, as a document, divides among the devices that share a row.
    parts = 2 * mesh.shape["context"]
    if length >= parts:
        length -= length % parts
    return rows, length
