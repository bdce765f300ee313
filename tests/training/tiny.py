"""The smallest of everything that trains, and the one allowance that training needs in bad weather."""

from __future__ import annotations

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
import pytest

from posjax.data import Batches, Text, training_windows
from posjax.encodings import Encoding, Rope
from posjax.evaluation import Extrapolation
from posjax.models import Architecture
from posjax.runs import Run
from posjax.training import AdamW, Devices, Train
from posjax.training.optimizers import muon as optimizers_muon
from tests.small import small

ROPE = Rope()
LENGTH = 8


@pytest.fixture(autouse=True)
def optax_promotes(monkeypatch):
    """See `patch_optax`."""
    patch_optax(monkeypatch)


def patch_optax(monkeypatch: pytest.MonkeyPatch) -> None:
    """optax mixes a float with an int32 count: let it; everything of ours stays under strict promotion."""
    for place, name in (
        (optax, "adam"),
        (optax, "adamw"),
        (optax, "adafactor"),
        (optax, "lion"),
        (optimizers_muon, "muon"),
    ):
        monkeypatch.setattr(place, name, _promoting(getattr(place, name)))


def _promoting(real):
    def build(*args, **kwargs):
        transform = real(*args, **kwargs)

        def update(*inner, **more):
            with jax.numpy_dtype_promotion("standard"):
                return transform.update(*inner, **more)

        return optax.GradientTransformationExtraArgs(transform.init, update)

    return build


def corpus(folder: Path) -> Text:
    """Three files of plain text, about 6 kB."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, line in (
        ("a", "to be or not to be, that is the question\n"),
        ("b", "all the world is a stage\n"),
        ("c", "if music be the food of love, play on\n"),
    ):
        (folder / f"{name}.txt").write_text("".join(f"{i} {line}" for i in range(50)))
    return Text(paths=(str(folder),), validation_share=0.3)


def decoder(encoding: Encoding = ROPE, **changes) -> Architecture:
    return small(encoding, **{"feed_forward": 16} | changes)


def train(**changes) -> Train:
    return Train(
        **{
            "steps": 6,
            "length": LENGTH,
            "batch": 4,
            "optimizer": AdamW(learning_rate=1e-2),
            "devices": Devices(data=1),
            "checkpoint_every": 3,
            "log_every": 2,
        }
        | changes
    )


def run(text: Text, name: str = "rope", encoding: Encoding = ROPE, **changes) -> Run:
    evaluation = Extrapolation(multiples=(1, 2), windows=2, extensions=("yarn",))
    return Run(name, name.upper(), decoder(encoding), text, train(**changes), evaluation)


def batches(text: Text, size: int = 4, seed: int = 0) -> Batches:
    return Batches(training_windows(text.load(), LENGTH, seed), size)


def with_devices(count: int) -> str:
    """The XLA flags of the suite for a process of its own, with another number of simulated devices."""
    asked = "--xla_force_host_platform_device_count="
    others = [flag for flag in os.environ["XLA_FLAGS"].split() if not flag.startswith(asked)]
    return " ".join([*others, f"{asked}{count}"])


class Warm:
    """A trainer that compiles once for all the tests of a file."""

    def __init__(self, plan: Train, model: Architecture):
        self.inner, self.mesh = plan.trainer(model, 257), plan.devices.mesh(plan.batch)
        self.model, self.vocabulary = model, 257
        self.advance, self.states = {}, {}
        self.shapes = self.inner.abstract()

    def start(self, seed):
        if seed not in self.states:
            self.states[seed] = self.inner.start(seed)
        return jax.tree.map(jnp.copy, self.states[seed])  # A step consumes the state that it is given.

    def compiled(self, seed):
        # Nothing in the step of a model without randomised positions depends on the seed.
        return self.advance.setdefault(0, self.inner.compiled(0))

    def abstract(self):
        return self.shapes

    def graph(self):
        return self.inner.graph()
