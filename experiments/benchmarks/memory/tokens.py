"""How much memory a prepared text takes: while it is prepared, opened, read for batches, and in a whole run.

    python -m experiments.benchmarks.memory.tokens          1 and 2,000 MB, some ten minutes and 6 GB of disk

Each is a process of its own, whose peak of resident memory is read. Writes a page into docs/benchmarks, and the numbers
into experiments/results/benchmarks.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments import cli
from experiments.benchmarks.common import pages
from experiments.benchmarks.common.machine import described, machine
from experiments.benchmarks.common.tables import TextTable
from experiments.benchmarks.memory.text import MB, spawned_peak, write_text
from posjax.data import Batches, StoredText, training_rows
from posjax.errors import InputError

PROGRAM = "experiments.benchmarks.memory.tokens"
REACH = 64
"""How many MB more a text of any size may take than the smallest one, at each point."""
LENGTH, ROWS = 1024, 16
"""Of the batches that are read."""
PEAKS = ("prepared", "opened", "read", "run")
CONFIG = """from posjax import Rope
from posjax.data import StoredText
from posjax.evaluation import Extrapolation
from posjax.models import decoder
from posjax.runs import Experiment, Run
from posjax.training import Train

MODEL = decoder(Rope(), layers=2, width=64, heads=4)
EVALUATION = Extrapolation(multiples=(1, 2, 4), windows=16)


def experiment():
    run = Run("rope", "RoPE", MODEL, StoredText({path!r}), Train(steps=4), EVALUATION)
    return Experiment("Memory", "How much?", (run,))
"""


@dataclass(frozen=True)
class TokensMemoryOptions:
    """Measure the peak of memory by the size of a prepared text."""

    megabytes: tuple[int, ...] = (1, 2000)
    """Sizes of the text in units of 1e6 bytes; the first is what the others are compared with."""
    batches: int = 200
    """How many batches are read."""
    reads: Path | None = None
    """Do nothing but open and read this prepared folder, and print what that took."""
    out: Path | None = None
    """A folder for the numbers, instead of the repository's own."""


def resident_peak() -> int:
    """Bytes of resident memory at the peak of this process, without what its parent had."""
    # Not getrusage, which on Linux counts what the parent had when it began this process.
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            _, kib, _ = line.split()
            return 1024 * int(kib)
    raise InputError("this system does not tell a process's peak of memory: measure on Linux")


def read(folder: Path, batches: int) -> None:
    """Prints the seconds to the first batch, and the peaks at that point and after all batches."""
    began = time.perf_counter()
    rows = training_rows(StoredText(str(folder)).load(), LENGTH, seed=0)
    cut = Batches(rows, ROWS)
    cut.batch(0)
    seconds = time.perf_counter() - began
    opened = resident_peak()
    # As many as make a leak of a page a row visible.
    for step in range(1, batches):
        cut.batch(step)
    print(seconds, opened, resident_peak())


def measured(folder: Path, size: int, batches: int) -> dict[str, float]:
    """All points of one size, in bytes, and the seconds to the first batch."""
    write_text(folder / "text", size)
    made = folder / "made"
    row: dict[str, float] = {"bytes": size}
    command = ["experiments.prepare", str(folder / "text"), "--to", str(made)]
    row["prepared"] = spawned_peak(command)
    arguments = ["--reads", str(made), "--batches", str(batches)]
    # A process of its own for each point: memory that was taken once is seldom given back.
    child = subprocess.run([sys.executable, "-m", PROGRAM, *arguments], capture_output=True, text=True, check=True)
    seconds, opened, after = child.stdout.split()
    row |= {"first_batch_s": float(seconds), "opened": int(opened), "read": int(after)}
    config = folder / "memory.py"
    config.write_text(CONFIG.format(path=str(made)))
    row["run"] = spawned_peak(["experiments.run", str(config), "--work", str(folder / "work")])
    return row


def _say(row: dict[str, float]) -> None:
    each = [f"{point} {row[point] / MB:,.0f} MB" for point in PEAKS]
    peaks = ", ".join(each)
    print(f"{row['bytes']:,} bytes of text: {peaks}; first batch {row['first_batch_s']:.2f} s")


def command(arguments: Sequence[str]) -> None:
    options = cli.options(TokensMemoryOptions, PROGRAM, arguments)
    if options.reads is not None:
        read(options.reads, options.batches)
        return
    to = pages.folders(options.out)
    rows = []
    for megabytes in options.megabytes:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measured(Path(folder), megabytes * MB, options.batches))
        _say(rows[-1])
    # Against a text that is next to nothing: the interpreter and JAX take most.
    more = [row[point] - rows[0][point] for row in rows[1:] for point in PEAKS]
    met = max(more, default=0) <= REACH * MB
    print(f"to reach: {REACH} MB more than the smallest; {met=}")
    content = {
        "command": pages.command_line(PROGRAM, arguments),
        "machine": machine(),
        "batches": options.batches,
        "length": LENGTH,
        "batch": ROWS,
        "reach_mb": REACH,
        "met": met,
        "rows": rows,
    }
    pages.write(to, "tokens_memory", content, page(content))


def page(content: Mapping[str, Any]) -> str:
    """The page of what was measured."""
    body = []
    for row in content["rows"]:
        peaks = [f"{row[point] / MB:,.0f} MB" for point in PEAKS]
        body.append([f"{row['bytes'] / MB:,.0f} MB", *peaks, f"{row['first_batch_s']:.2f} s"])
    read = f"{content['batches']} batches of {content['batch']} x {content['length']}"
    head = ["text", "prepared", "opened, first batch", read, "trained and evaluated", "time to the first batch"]
    return PAGE.format(
        table=TextTable(head, body).markdown(), command=content["command"], machine=described(content["machine"])
    )


PAGE = """# Memory of a prepared text

The peaks of resident memory, JAX and all, each of a process of its own: while a text is prepared, once it is opened and
a first batch is read, after more batches, and of a whole run.

{table}

Measured by `{command}` on {machine}.
"""


if __name__ == "__main__":
    cli.program(command)
