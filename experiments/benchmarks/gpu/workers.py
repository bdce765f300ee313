"""Processes that measure, one for each shape; what they write is read here, however they end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.benchmarks.gpu.rows import GpuRow, Shape, names
from experiments.benchmarks.gpu.work import ENDED, TIMING, GpuTask

ROUNDS = 5
AT_ONCE = 4
"""Processes that compile side by side."""
ATTEMPTS = 4
"""How often a shape begins anew after a row that ended its process."""


class Workers:
    """Processes, one for each shape, that write their rows to files."""

    def __init__(self, folder: Path, deadline: float):
        self.folder = folder
        self.deadline = deadline
        self.environment = os.environ | {
            # Several processes, and two frameworks in each, share the device's memory.
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            # Caches that outlive a process: what compiled side by side is found again when it is timed. jax would
            # keep only what took it long or is large.
            "JAX_COMPILATION_CACHE_DIR": str(folder / "jax"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            "TORCHINDUCTOR_CACHE_DIR": str(folder / "torch"),
            "TORCHINDUCTOR_FX_GRAPH_CACHE": "1",
        }

    def start(self, shape: Shape, path: Path, skip: Sequence[str], rounds: int) -> subprocess.Popen[bytes]:
        """A process for one shape; what it prints goes to a file beside `path`."""
        task = GpuTask(shape, path, frozenset(skip), rounds, self.deadline)
        with path.with_suffix(".log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "experiments.benchmarks.gpu", "--worker", task.text()],
                env=self.environment,
                stdout=log,
                stderr=log,
            )

    def compile(self, every: Sequence[Shape]) -> None:
        """Fills the caches. What goes wrong here is seen again when it is timed."""
        # At most half of the time: what is not compiled by then is compiled when its turn comes.
        limit = time.time() + (self.deadline - time.time()) / 2
        waiting = list(every)
        running: list[subprocess.Popen[bytes]] = []
        while waiting or running:
            while waiting and len(running) < AT_ONCE:
                shape = waiting.pop(0)
                path = self.folder / f"compile-{shape.head_size}-{shape.length}.jsonl"
                running.append(self.start(shape, path, (), rounds=0))
            # A fifth of a second is nothing beside compiling.
            time.sleep(0.2)
            if time.time() > limit:
                for process in running:
                    process.kill()
                waiting = []
            running = [process for process in running if process.poll() is None]

    def measure(self, shape: Shape) -> list[GpuRow]:
        """Every row of a shape. A row during which the process ended is given up, and the others begin anew."""
        done: dict[str, GpuRow] = {}
        for attempt in range(ATTEMPTS):
            path = self.folder / f"rows-{shape.head_size}-{shape.length}-{attempt}.jsonl"
            code = self._ended(self.start(shape, path, list(done), ROUNDS))
            begun, rows = read(path)
            done |= rows
            if begun == ENDED or time.time() > self.deadline:
                break
            why = f"{_how_it_ended(code)} while {begun.split('|')[0]} ran"
            for row in missing(shape, done):
                # While all rows are timed in turns, nobody knows whose fault it was: those without a time are given up.
                if begun in (row.key, TIMING):
                    done[row.key] = replace(row, why=why)
        unreached = [replace(row, why="it was not reached") for row in missing(shape, done)]
        return [*done.values(), *unreached]

    def _ended(self, process: subprocess.Popen[bytes]) -> int:
        """The exit code of a process, which is killed where it does not end by itself."""
        # A worker begins no row past the deadline, and the one it is at may take that much longer.
        patience = self.deadline + 30 - time.time()
        try:
            return process.wait(max(5.0, patience))
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"the process ended with code {code}"
    return f"the process was ended by signal {-code}"


def missing(shape: Shape, done: dict[str, GpuRow]) -> list[GpuRow]:
    """Empty rows for what is not known yet of a shape."""
    every = [GpuRow(name, kind, shape.head_size, shape.length, backward) for name, kind, backward in names()]
    return [row for row in every if row.key not in done]


def read(path: Path) -> tuple[str, dict[str, GpuRow]]:
    """What a worker had begun and not ended, "" where it came to its end, and the rows it wrote."""
    # A worker that ended before its first word had as good as begun all of its rows.
    begun = TIMING
    rows: dict[str, GpuRow] = {}
    if not path.exists():
        return begun, rows
    for line in path.read_text().splitlines():
        said: dict[str, Any] = json.loads(line)
        begun = said.get("begin", begun)
        if "row" in said:
            row = GpuRow(**said["row"])
            rows[row.key] = row
    return begun, rows
