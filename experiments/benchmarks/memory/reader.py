"""The process that is watched: reads all tensors of a folder onto devices, in one of two ways.

It says when it begins and when all is there, and waits for a line after each, so that its memory can be looked at.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from posjax.interop.files import Folder
    from posjax.interop.sources import Source

STREAMED, WHOLE = "each part alone", "whole files first"
WAYS = (STREAMED, WHOLE)
LAYOUT = "F D -> D F"
"""Each tensor is turned round, as all of torch's linear maps are."""


def main(folder: str, way: str, devices: str) -> None:
    """Errors: none of its own."""
    # Before JAX is imported, which looks at it once.
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
    os.environ["JAX_PLATFORMS"] = "cpu"
    import jax
    import numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    from posjax.interop.files import open_folder
    from posjax.interop.placing import place
    from posjax.interop.rules import Weight

    mesh = Mesh(np.array(jax.devices()), ("fsdp",))
    sharding = NamedSharding(mesh, PartitionSpec("fsdp"))
    opened = open_folder(Path(folder))
    # What is there before: the interpreter, JAX and its devices.
    jax.block_until_ready(jax.device_put(np.zeros((8, 8), np.float32), sharding))
    _say("ready")
    source: Source = opened
    if way == WHOLE:
        source = Loaded(opened)
    held = []
    # The largest last, when all else is there already: no order takes more.
    for name, described in sorted(opened.tensors.items(), key=lambda item: item[1].size):
        rows, columns = described.shape
        wanted = jax.ShapeDtypeStruct((columns, rows), described.dtype, sharding=sharding)
        held.append(place(source, Weight(name, LAYOUT), wanted))
    jax.block_until_ready(held)
    _say("done")


class Loaded:
    """All tensors of a folder in memory, the way of most readers, to compare with."""

    def __init__(self, opened: Folder) -> None:
        from posjax.interop.sources import everything

        self.tensors = opened.tensors
        self.arrays = {}
        for name, described in opened.tensors.items():
            self.arrays[name] = opened.part(name, everything(described.shape))

    def part(self, name: str, index: Any) -> Any:
        """A part of one of them."""
        return self.arrays[name][index]


def _say(word: str) -> None:
    print(word, flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main(*sys.argv[1:])
