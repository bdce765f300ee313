"""Trains three steps on each of some meshes of 8 devices, and holds loss, gradient and parameters to those of one.

Run as a program of its own, since the number of devices is set before jax starts: names of cases, and meshes.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import jax
import numpy as np

from posjax import Alibi, Fire, Kerple, Rope, T5Bias, chain
from posjax.mesh import AXES
from posjax.models import Architecture
from posjax.models.presets import encoder_decoder
from posjax.training import AdamW, Devices, SeqToSeq, Train
from posjax.training.mesh import place
from tests.small import small

TOLERANCE = 1e-5
"""Of losses, gradients' norms (of their size, where that is above 1), moments and parameters after three steps.

Sums run in another order on each mesh.
"""
NOISE = 1e-4
"""Adam divides a gradient by its size, so of smaller ones it makes the rounding large: these are held by moments."""
VOCABULARY, BATCH, LENGTH = 32, 8, 16
ENCODINGS = {
    "rope": Rope(),
    "alibi": Alibi(),
    "t5": T5Bias(buckets=8, max_distance=16),
    "kerple": Kerple(),
    "fire": Fire(),
    "rope+t5": chain(Rope(), T5Bias(buckets=8, max_distance=16)),
}


def case(name: str) -> tuple[Architecture, Train, dict[str, np.ndarray]]:
    random = np.random.default_rng(0)
    tokens = random.integers(0, VOCABULARY, (BATCH, LENGTH + 1)).astype(np.int32)
    weights = (random.random((BATCH, LENGTH)) < 0.7).astype(np.float32)
    batch = {"inputs": tokens[:, :-1], "targets": tokens[:, 1:], "weights": weights}
    train = Train(steps=20, length=LENGTH, batch=BATCH, optimizer=AdamW(learning_rate=1e-4))
    if name != "seq":
        sizes = {"layers": 2, "width": 64, "heads": 8, "feed_forward": 64}
        return small(ENCODINGS[name], **sizes), train, batch
    batch["source"] = random.integers(0, VOCABULARY, (BATCH, LENGTH)).astype(np.int32)
    model = encoder_decoder(layers=1, width=64, heads=8, feed_forward=64)
    return model, replace(train, objective=SeqToSeq()), batch


def three_steps(
    train: Train, model: Architecture, batch: dict[str, np.ndarray]
) -> tuple[list[float], dict[str, np.ndarray], float]:
    trainer = train.trainer(model, VOCABULARY)
    state = trainer.start(0)
    step = trainer.compiled(0)
    share = held(state)
    numbers = []
    for _ in range(3):
        state, metrics = step(state, place(batch, trainer.mesh))
        numbers += [float(metrics["loss"]), float(metrics["gradient_norm"])]
    params = named(state.params)
    moments = named(state.optimizer)
    for name, moment in moments.items():
        # A softmax does not see FIRE's shift: Adam makes whole steps of what is rounding alone, in any direction.
        for own in params:
            if name.endswith(f".mu{own}"):
                params[own] = np.where(np.abs(moment) > NOISE, params[own], np.nan)
    return numbers, params | moments, share


def named(tree) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(jax.device_get(tree))
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def held(state) -> float:
    """The share of all parameters and moments that the first device holds."""
    leaves = [leaf for leaf in jax.tree.leaves(state) if leaf.ndim]
    mine = sum(leaf.addressable_shards[0].data.size for leaf in leaves)
    return mine / sum(leaf.size for leaf in leaves)


def main() -> None:
    names, shapes = sys.argv[1].split(","), [tuple(map(int, s.split(","))) for s in sys.argv[2].split(";")]
    for name in names:
        model, train, batch = case(name)
        one = replace(train, devices=Devices(data=1))
        wanted, params, _ = three_steps(one, model, batch)
        for shape in shapes:
            devices = Devices(**dict(zip(AXES, shape, strict=True)))
            got, own, share = three_steps(replace(train, devices=devices), model, batch)
            worst = max(float(np.nanmax(np.abs(own[k] - params[k]), initial=0)) for k in params)
            off = max(abs(a - b) / max(1, abs(b)) for a, b in zip(got, wanted, strict=True))
            print(name, shape, f"loss and norm {off:.1e} params {worst:.1e} share {share:.4f}", flush=True)
            assert off <= TOLERANCE, (name, shape, got, wanted)
            assert worst <= TOLERANCE, (name, shape, worst)


if __name__ == "__main__":
    main()
