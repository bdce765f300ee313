"""How much memory reading a published model takes, beside the weights themselves.

    python -m experiments.benchmarks.memory.reading      256 MiB of bfloat16 in four files, under a minute

Writes a page into docs/benchmarks, and the numbers into experiments/results/benchmarks. Linux alone tells how much of a
process's memory is its own.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments import cli
from experiments.benchmarks.common import pages, tables
from experiments.benchmarks.common.goals import Goal
from experiments.benchmarks.common.machine import described, machine
from experiments.benchmarks.common.tables import TextTable
from experiments.benchmarks.memory import reader
from posjax.errors import InputError
from posjax.interop.writing import Outgoing, write_folder

PROGRAM = "experiments.benchmarks.memory.reading"
MIB = 2**20
REACH = 1.15
"""The peak of ours to reach, in sizes of the weights."""
PAUSE = 0.001
"""Seconds between two looks at the process's memory."""


@dataclass(frozen=True)
class ReadingOptions:
    """Read a model from files, and watch the memory of the process that does."""

    mib: int = 256
    """Of weights in all, a multiple of 4: a table of embeddings, a head, and layers."""
    shards: int = 4
    devices: tuple[int, ...] = (1, 4)
    """Simulated devices that share the weights."""
    out: Path | None = None
    """One folder for all that is written, instead of the repository's own."""

    def check(self) -> None:
        """Errors: `InputError`."""
        if self.mib < 4 or self.mib % 4 or self.shards < 1 or min(self.devices, default=0) < 1:
            raise InputError(f"{self}: needed are a multiple of 4 MiB, and a shard and a device at least")
        if not Path("/proc/self/status").is_file():
            raise InputError("this system does not tell how much of a process's memory is its own: measure on Linux")


@dataclass(frozen=True)
class ReadingRow:
    """The peak of anonymous memory while a model was read, and how long that took."""

    way: str
    devices: int
    peak: int
    weights: int
    seconds: float

    @property
    def ratio(self) -> float:
        """The peak in sizes of the weights."""
        return self.peak / self.weights


def command(arguments: Sequence[str]) -> None:
    options = cli.options(ReadingOptions, PROGRAM, arguments)
    options.check()
    to = pages.folders(options.out)
    rows = []
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "model"
        weights = make(folder, options)
        for devices in options.devices:
            for way in reader.WAYS:
                rows.append(watch(folder, way, devices, weights))
    said = pages.command_line(PROGRAM, arguments)
    on = machine()
    content = {"command": said, "machine": on, "goal": goal(rows), "shards": options.shards}
    content["rows"] = [asdict(row) | {"ratio": row.ratio} for row in rows]
    pages.write(to, "reading", content, page(rows, options.shards, said, on))
    print(f"{table(rows).columns()}\n\n{goal(rows)}")


def make(folder: Path, options: ReadingOptions) -> int:
    """A model of random bits in that many files; its size in bytes."""
    tensors = {}
    # An eighth each for embeddings and head, which are the largest tensors of a model, and the rest for its layers.
    for name, rows in _sizes(options.mib).items():
        tensors[name] = Outgoing((rows, 2048), np.dtype(jnp.bfloat16), lambda rows=rows: _bits(rows))
    weights = sum(tensor.bytes for tensor in tensors.values())
    write_folder(folder, {"model_type": "none"}, tensors, limit=weights // options.shards)
    return weights


def _sizes(mib: int) -> dict[str, int]:
    """The rows of each tensor, of 4 KiB each."""
    total = mib * 256
    outer = total // 8
    layer = total // 32
    return {"embed": outer} | {f"layer.{i}": layer for i in range(24)} | {"head": outer}


def _bits(rows: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2**14, (rows, 2048), np.uint16).view(jnp.bfloat16)


def watch(folder: Path, way: str, devices: int, weights: int) -> ReadingRow:
    """Reads in a process of its own, looking at its memory from outside all the while."""
    started = [sys.executable, "-m", reader.__name__, str(folder), way, str(devices)]
    with subprocess.Popen(started, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        _expect(process, b"ready\n")
        before = _anonymous(process.pid)
        since = time.perf_counter()
        _go_on(process)
        peak = before
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(_expect, process, b"done\n")
            while not done.done():
                peak = max(peak, _anonymous(process.pid))
                time.sleep(PAUSE)
            done.result()
        seconds = time.perf_counter() - since
        # All of it is held now.
        peak = max(peak, _anonymous(process.pid))
        _go_on(process)
    return ReadingRow(way, devices, peak - before, weights, seconds)


def _expect(process: subprocess.Popen[bytes], line: bytes) -> None:
    assert process.stdout is not None
    said = process.stdout.readline()
    if said != line:
        raise InputError(f"the process that reads said {said!r} instead of {line!r}: its own message stands above")


def _go_on(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.write(b"\n")
    process.stdin.flush()


def _anonymous(process: int) -> int:
    """Bytes of memory that belong to a process alone: what it maps from files may be dropped at any time."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "RssAnon":
            return int(value.split()[0]) * 1024
    return 0


def table(rows: Sequence[ReadingRow]) -> TextTable:
    """The peaks, a row each."""
    body = []
    for row in rows:
        size = f"{tables.digits(row.peak / MIB)} MiB"
        body.append([f"{row.way}, onto {row.devices}", size, f"{row.ratio:.3f}", tables.seconds(row.seconds)])
    return TextTable(["the way, and onto how many devices", "peak", "of the weights", "time"], body)


def goal(rows: Sequence[ReadingRow]) -> str:
    """Whether ours takes as little as it should, in one sentence."""
    ours = [(row.ratio, f"onto {row.devices}") for row in rows if row.way == reader.STREAMED]
    judged = Goal("sizes of the weights", REACH).judged(ours)
    return (
        f"Reading takes at most {judged.worst:.3f} times the size of the weights, those included; to reach: {REACH} "
        f"({judged.verdict})."
    )


PAGE = """# The memory of reading a published model

{goal}

{size} of bfloat16 in {shards} files of safetensors, every tensor turned round and divided among simulated devices
of one process, whose anonymous memory is looked at from outside every millisecond. "{streamed}" is
`posjax.interop`: a device's part of a tensor is read in pieces when it is made, here the largest tensors last.
"{whole}" loads all tensors before the first is made.

{table}

Measured by `{command}` on {machine}.
"""


def page(rows: Sequence[ReadingRow], shards: int, command: str, on: dict[str, Any]) -> str:
    """The page of rows that were measured on a machine."""
    return PAGE.format(
        goal=goal(rows),
        size=f"{tables.digits(rows[0].weights / MIB)} MiB",
        shards=shards,
        streamed=reader.STREAMED,
        whole=reader.WHOLE,
        table=table(rows).markdown(),
        command=command,
        machine=described(on),
    )


if __name__ == "__main__":
    cli.program(command)
