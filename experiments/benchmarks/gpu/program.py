"""Attention on a GPU, by one command in under 8 minutes: experiments/benchmarks/gpu.sh.

Each shape runs in a process of its own, so that a kernel that brings one down costs one row. First all shapes are
compiled side by side, which fills the compilers' caches; then they are timed one after another. Needs jax, and
encodings and attention of posjax; torch, where it is installed, is compared too.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from experiments.benchmarks.common.pages import folders
from experiments.benchmarks.gpu.page import Taken, write
from experiments.benchmarks.gpu.rows import GpuRow, Shape
from experiments.benchmarks.gpu.work import GpuTask, work
from experiments.benchmarks.gpu.workers import Workers
from posjax.errors import InputError

FIRST = (8192, 32768)
"""The lengths that come before all others."""


def options(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line, read without the libraries that the other commands take."""
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks.gpu", description=__doc__)
    parser.add_argument("--head-sizes", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--lengths", type=int, nargs="+", default=[2048, 8192, 16384, 32768])
    parser.add_argument("--minutes", type=float, default=7.0, help="when no further row is begun")
    parser.add_argument("--smoke", action="store_true", help="tiny shapes on any device, to see that it works")
    parser.add_argument("--out", type=Path, help="one folder for all that is written, not the repository's own")
    # How a process of one shape is told what to do: `workers`.
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def shapes(chosen: argparse.Namespace) -> list[Shape]:
    """What is measured, in the order of its importance: should time run out, the last are missing."""
    if chosen.smoke:
        # torch has names of its own for devices, and every GPU here is "cuda".
        device = "cuda"
        if platform() == "cpu":
            device = "cpu"
        return [Shape(16, 64, tokens=128, width=32, device=device)]
    important = [length for length in sorted(chosen.lengths) if length in FIRST]
    others = [length for length in sorted(chosen.lengths) if length not in FIRST]
    return [Shape(size, length) for length in important + others for size in chosen.head_sizes]


def platform() -> str:
    """What jax runs on, asked in another process so that this one holds no device."""
    question = "import jax; print(jax.default_backend())"
    asked = subprocess.run([sys.executable, "-c", question], capture_output=True, text=True, check=False)
    # The last line: drivers may say something before.
    lines = asked.stdout.strip().splitlines()
    if not lines:
        return "none"
    return lines[-1]


def command(arguments: Sequence[str]) -> None:
    """Compiles, measures, writes and prints; or, as a worker, measures one shape. Errors: `InputError`."""
    chosen = options(arguments)
    if chosen.worker:
        work(GpuTask.read(chosen.worker))
        return
    if not chosen.smoke:
        _check_platform()
    begin = time.time()
    every = shapes(chosen)
    rows = _measured(every, begin, chosen)
    # Not this module, but the script that sets its environment.
    said = " ".join(["experiments/benchmarks/gpu.sh", *arguments])
    sizes = {"dtype": every[0].dtype, "tokens": every[0].tokens, "width": every[0].width}
    taken = Taken(said, time.time() - begin, sizes)
    print(write(folders(chosen.out), rows, taken))


def _check_platform() -> None:
    found = platform()
    if found != "gpu":
        raise InputError(
            f"jax runs on {found} here and a GPU is needed: install jax for this machine's GPU, or give "
            "--smoke for tiny shapes on any device"
        )


def _measured(every: Sequence[Shape], begin: float, chosen: argparse.Namespace) -> list[GpuRow]:
    """The rows of every shape; how long each took is said on the way."""
    rows: list[GpuRow] = []
    with tempfile.TemporaryDirectory() as folder:
        workers = Workers(Path(folder), begin + 60 * chosen.minutes)
        # One tiny shape is compiled as fast when its turn comes.
        if not chosen.smoke:
            workers.compile(every)
            _say("compiled in", begin)
        for shape in every:
            rows += workers.measure(shape)
            _say(f"D={shape.head_size} S={shape.length}:", begin)
    return rows


def _say(what: str, begin: float) -> None:
    print(f"{what} {time.time() - begin:.0f} s", file=sys.stderr, flush=True)
