"""Attention on a GPU, by one command in under 8 minutes: experiments/benchmarks/gpu.sh.

Each shape runs in a process of its own, so that a kernel that brings one down costs one row. First all shapes are
compiled side by side, which fills the compilers' caches; then they are timed one after another. Needs jax, and
encodings and attention of posjax; torch, where it is installed, is compared too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from experiments.benchmarks.gpu import MISSING
from experiments.benchmarks.gpu.page import write
from experiments.benchmarks.gpu.rows import Row, Shape, names, work
from posjax.errors import InputError

ROUNDS = 5
AT_ONCE = 4
"""Processes that compile side by side."""


def options(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line, read without the libraries that the other commands take."""
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks.gpu", description=__doc__)
    parser.add_argument("--head-sizes", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--lengths", type=int, nargs="+", default=[2048, 8192, 16384, 32768])
    parser.add_argument("--minutes", type=float, default=7.0, help="when no further row is begun")
    parser.add_argument("--smoke", action="store_true", help="tiny shapes on any device, to see that it works")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"), help="the folder of the results")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def shapes(chosen: argparse.Namespace) -> list[Shape]:
    """What is measured, in the order of its importance: should time run out, the last are missing."""
    if chosen.smoke:
        return [Shape(16, 64, tokens=128, width=32, device="cpu" if platform() == "cpu" else "cuda")]
    order = sorted(chosen.lengths, key=lambda n: (n not in (8192, 32768), n))
    return [Shape(size, n) for n in order for size in chosen.head_sizes]


def platform() -> str:
    """What jax runs on, asked in another process so that this one holds no device."""
    asked = subprocess.run(
        [sys.executable, "-c", "import jax; print(jax.default_backend())"], capture_output=True, text=True, check=False
    )
    return asked.stdout.strip().splitlines()[-1] if asked.stdout.strip() else "none"


class Workers:
    """Processes, one for each shape, that write their rows to files."""

    def __init__(self, folder: Path, deadline: float):
        self.folder, self.deadline = folder, deadline
        self.environment = os.environ | {
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            "JAX_COMPILATION_CACHE_DIR": str(folder / "jax"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            "TORCHINDUCTOR_CACHE_DIR": str(folder / "torch"),
            "TORCHINDUCTOR_FX_GRAPH_CACHE": "1",
        }

    def start(self, shape: Shape, path: Path, skip: Sequence[str], rounds: int) -> subprocess.Popen[bytes]:
        """A process for one shape; what it prints goes to a file beside `path`."""
        task = json.dumps(
            {"shape": asdict(shape), "path": str(path), "skip": list(skip), "rounds": rounds, "deadline": self.deadline}
        )
        with path.with_suffix(".log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "experiments.benchmarks.gpu", "--worker", task],
                env=self.environment,
                stdout=log,
                stderr=log,
            )

    def compile(self, every: Sequence[Shape]) -> None:
        """Fills the caches. What goes wrong here is seen again when it is timed."""
        # At most half of the time: what is not compiled by then is compiled when its turn comes.
        limit = time.time() + (self.deadline - time.time()) / 2
        waiting, running = list(every), []
        while waiting or running:
            while waiting and len(running) < AT_ONCE:
                shape = waiting.pop(0)
                path = self.folder / f"compile-{shape.head_size}-{shape.length}.jsonl"
                running.append(self.start(shape, path, (), rounds=0))
            time.sleep(0.2)
            if time.time() > limit:
                for process in running:
                    process.kill()
                waiting = []
            running = [process for process in running if process.poll() is None]

    def measure(self, shape: Shape) -> list[Row]:
        """Every row of a shape. A row during which the process ended is given up, and the others begin anew."""
        done: dict[str, Row] = {}
        for attempt in range(4):
            path = self.folder / f"rows-{shape.head_size}-{shape.length}-{attempt}.jsonl"
            process = self.start(shape, path, list(done), ROUNDS)
            try:
                code = process.wait(max(5.0, self.deadline + 30 - time.time()))
            except subprocess.TimeoutExpired:
                process.kill()
                code = process.wait()
            begun, rows = read(path)
            done |= rows
            if not begun or time.time() > self.deadline:
                break
            why = f"the process ended with code {code}" if code >= 0 else f"the process was ended by signal {-code}"
            given = [row for row in missing(shape, done) if begun in (row.key, "timing")]
            done |= {row.key: replace(row, why=f"{why} while {begun.split('|')[0]} ran") for row in given}
        return [*done.values(), *(replace(row, why="it was not reached") for row in missing(shape, done))]


def missing(shape: Shape, done: dict[str, Row]) -> list[Row]:
    """Empty rows for what is not known yet of a shape."""
    every = (Row(name, kind, shape.head_size, shape.length, backward) for name, kind, backward in names())
    return [row for row in every if row.key not in done]


def read(path: Path) -> tuple[str, dict[str, Row]]:
    """What a worker had begun and not ended, "" where it came to its end, and the rows it wrote."""
    begun, rows = "timing", {}
    for line in path.read_text().splitlines() if path.exists() else []:
        said: dict[str, Any] = json.loads(line)
        begun = said.get("begin", begun)
        if "row" in said:
            row = Row(**said["row"])
            rows[row.key] = row
    return begun, rows


def command(arguments: Sequence[str]) -> None:
    """Compiles, measures, writes and prints; or, as a worker, measures one shape. Errors: `InputError`."""
    chosen = options(arguments)
    if chosen.worker:
        task = json.loads(chosen.worker)
        work(Shape(**task["shape"]), Path(task["path"]), frozenset(task["skip"]), task["rounds"], task["deadline"])
        return
    if not chosen.smoke and (found := platform()) != "gpu":
        raise InputError(
            f"jax runs on {found} here and a GPU is needed: install jax for this machine's GPU, or give "
            "--smoke for tiny shapes on any device"
        )
    begin = time.time()
    every = shapes(chosen)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        workers = Workers(Path(folder), begin + 60 * chosen.minutes)
        if not chosen.smoke:
            workers.compile(every)
            print(f"compiled in {time.time() - begin:.0f} s", file=sys.stderr, flush=True)
        for shape in every:
            rows += workers.measure(shape)
            print(f"D={shape.head_size} S={shape.length}: {time.time() - begin:.0f} s", file=sys.stderr, flush=True)
    sizes = {"dtype": every[0].dtype, "tokens": every[0].tokens, "width": every[0].width}
    said = "experiments/benchmarks/gpu.sh " + " ".join(arguments)
    print(write(chosen.out, said.strip(), rows, sizes, time.time() - begin))
    if MISSING:
        print(f"{MISSING} is not installed: posjax's encodings and attention were imported without the rest")
