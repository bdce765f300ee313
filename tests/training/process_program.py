"""One of several processes that train together: index, count, port, folder, the mesh's fsdp and tensor, seconds a step,
and one step in how many is checked, 0 for none.

At the end it prints a digest of all parameters.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import jax
import numpy as np

from posjax.data import Batches
from posjax.errors import Diverged, InputError, Stopped
from posjax.training import AdamW, Check, Devices, Train, fit, launch
from tests.training.tiny import batches, corpus, decoder


class Slow:
    """Batches that take a while, so that something may happen between two of them."""

    def __init__(self, inner: Batches, pause: float):
        self.inner, self.size, self.pause = inner, inner.size, pause

    def rows(self, step: int, start: int, stop: int) -> dict[str, np.ndarray]:
        time.sleep(self.pause)
        return self.inner.rows(step, start, stop)


def main() -> int:
    index, count, port = map(int, sys.argv[1:4])
    folder = Path(sys.argv[4])
    fsdp, tensor, pause = int(sys.argv[5]), int(sys.argv[6]), float(sys.argv[7])
    every = int(sys.argv[8])
    if count > 1:
        launch.start(launch.Processes(f"127.0.0.1:{port}", count, index, heartbeat=10), say=print)
    train = Train(
        steps=6,
        length=8,
        batch=8,
        optimizer=AdamW(learning_rate=1e-3),
        devices=Devices(fsdp=fsdp, tensor=tensor),
        checkpoint_every=2,
        log_every=1,
        check=Check(every=every),
    )
    data = Slow(batches(corpus(folder / f"text{index}"), size=8), pause)
    try:
        trainer = train.trainer(decoder(), 257)
        state = fit(train, trainer, data, 0, folder / "run")
    except (InputError, Stopped, Diverged) as error:
        print(f"ended: {error}", flush=True)
        return error.code
    total = jax.jit(lambda tree: sum(abs(x).astype("float32").sum() for x in jax.tree.leaves(tree)))
    print(f"digest {float(np.asarray(total(state.params))):.6f}", flush=True)
    if count > 1:
        launch.meet("the end")
        launch.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
