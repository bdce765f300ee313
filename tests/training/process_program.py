"""One of several processes that train together: index, count, port, folder, the mesh's fsdp and tensor, seconds a step,
one step in how many is checked, 0 for none, and whether it is a training or one of stages, "plain" or "staged".

At the end it prints a digest of all parameters.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from posjax import runs
from posjax.data import Batches
from posjax.errors import Diverged, InputError, Stopped
from posjax.evaluation import Extrapolation
from posjax.runs import Run
from posjax.stages import Stage, Stages
from posjax.training import AdamW, Check, Devices, EarlyStop, Train, fit, launch
from tests.training.tiny import batches, corpus, decoder


def slowed(pause: float) -> None:
    """Has every batch take a while, so that something may happen between two of them."""
    real = Batches.rows

    def rows(self: Batches, step: int, start: int, stop: int) -> dict[str, np.ndarray]:
        time.sleep(pause)
        return real(self, step, start, stop)

    Batches.rows = rows  # type: ignore[method-assign]


def plain(folder: Path, text: Path, devices: Devices, check: Check) -> Any:
    """The parameters that one training ends with."""
    train = Train(
        steps=6,
        length=8,
        batch=8,
        optimizer=AdamW(learning_rate=1e-3),
        devices=devices,
        checkpoint_every=2,
        log_every=1,
        check=check,
    )
    trainer = train.trainer(decoder(), 257)
    return fit(train, trainer, batches(corpus(text), size=8), 0, folder / "run").params


def staged(folder: Path, text: Path, devices: Devices, check: Check) -> Any:
    """Those that two stages end with, of which the first stops early: nothing is ever better by ten nats."""
    train = Train(steps=6, length=8, batch=8, devices=devices, checkpoint_every=2, log_every=1, check=check)
    stop = EarlyStop(every=1, patience=3, least=10.0, windows=4)
    stages = Stages((Stage(replace(train, stop=stop)), Stage(replace(train, steps=4))))
    evaluation = Extrapolation(multiples=(1, 2), windows=2, extensions=())
    plan = Run("two", "Two", decoder(), corpus(text), stages, evaluation)
    return nnx.state(runs.train(plan, folder / "run").model, nnx.Param)


def main() -> int:
    index, count, port = map(int, sys.argv[1:4])
    folder = Path(sys.argv[4])
    fsdp, tensor, pause = int(sys.argv[5]), int(sys.argv[6]), float(sys.argv[7])
    every = int(sys.argv[8])
    if count > 1:
        launch.start(launch.Processes(f"127.0.0.1:{port}", count, index, heartbeat=10), say=print)
    slowed(pause)
    fitted = {"plain": plain, "staged": staged}[sys.argv[9]]
    devices = Devices(fsdp=fsdp, tensor=tensor)
    try:
        # A text for each, since one may write it while another reads.
        params = fitted(folder, folder / f"text{index}", devices, Check(every=every))
    except (InputError, Stopped, Diverged) as error:
        print(f"ended: {error}", flush=True)
        return error.code
    total = jax.jit(lambda tree: sum(abs(x).astype("float32").sum() for x in jax.tree.leaves(tree)))
    print(f"digest {float(np.asarray(total(params))):.6f}", flush=True)
    if count > 1:
        launch.meet("the end")
        launch.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
