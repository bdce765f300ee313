"""How much memory a text takes: one run, trained a few steps and evaluated, on texts of several sizes.

    python -m experiments.benchmarks.memory.text          1, 50 and 500 MB, some minutes

Each size runs in a process of its own, whose peak of resident memory is read when it ends. Writes the numbers into
experiments/results/benchmarks.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments import cli
from experiments.benchmarks.common.machine import machine
from experiments.benchmarks.common.pages import command_line, folders
from posjax.errors import InputError
from posjax.files import write_json

PROGRAM = "experiments.benchmarks.memory.text"
MB = 10**6
REACH = 3.0
"""How many bytes of memory each byte of a text may take, beside what the smallest text takes."""
CONFIG = """from posjax import Rope
from posjax.data import Text
from posjax.evaluation import Extrapolation
from posjax.models import decoder
from posjax.runs import Experiment, Run
from posjax.training import Train

MODEL = decoder(Rope(), layers=2, width=64, heads=4)
EVALUATION = Extrapolation(multiples=(1, 2, 4, 8, 16), windows=64)


def experiment():
    run = Run("rope", "RoPE", MODEL, Text(paths=({path!r},)), Train(steps={steps}), EVALUATION)
    return Experiment("Memory", "How much?", (run,))
"""


@dataclass(frozen=True)
class TextMemoryOptions:
    """Measure the peak of memory by the size of the text."""

    megabytes: tuple[int, ...] = (1, 50, 500)
    """Sizes of the text in units of 1e6 bytes; the first is what the others are compared with."""
    steps: int = 4
    """How many steps are trained."""
    out: Path | None = None
    """A folder for the numbers, instead of the repository's own."""


def write_text(folder: Path, size: int) -> None:
    """Files of 1e6 bytes each: words of random letters, which compress as text does and repeat nowhere."""
    folder.mkdir(parents=True)
    for number in range(size // MB):
        letters = np.random.default_rng(number).integers(97, 123, MB, dtype=np.uint8)
        # A space or the end of a line here and there.
        letters[::7] = 32
        letters[::70] = 10
        (folder / f"{number:04}.txt").write_bytes(letters.tobytes())


def peak(folder: Path, steps: int) -> int:
    """Bytes of resident memory at the peak of one command. Errors: `InputError` where it failed."""
    config = folder / "memory.py"
    config.write_text(CONFIG.format(path=str(folder / "text"), steps=steps))
    return spawned_peak(["experiments.run", str(config), "--work", str(folder / "work")])


def spawned_peak(module: Sequence[str]) -> int:
    """Bytes of resident memory at the peak of `python -m` this. Errors: `InputError` where it failed."""
    command = [sys.executable, "-m", *module]
    # By hand and not by subprocess, which does not tell what the process took.
    child = os.posix_spawn(sys.executable, command, os.environ)
    _, status, used = os.wait4(child, 0)
    if status:
        raise InputError(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}: its own line says why")
    # KiB on Linux, bytes on macOS.
    unit = 1024
    if sys.platform == "darwin":
        unit = 1
    return used.ru_maxrss * unit


def command(arguments: Sequence[str]) -> None:
    options = cli.options(TextMemoryOptions, PROGRAM, arguments)
    to = folders(options.out)
    rows = []
    for megabytes in options.megabytes:
        with tempfile.TemporaryDirectory() as folder:
            write_text(Path(folder, "text"), megabytes * MB)
            rows.append({"bytes": megabytes * MB, "peak_bytes": peak(Path(folder), options.steps)})
    smallest = rows[0]
    for row in rows[1:]:
        more = row["peak_bytes"] - smallest["peak_bytes"]
        row["per_byte"] = more / (row["bytes"] - smallest["bytes"])
        print(f"{row['bytes']:,} bytes of text: {row['peak_bytes'] / MB:,.0f} MB, {row['per_byte']:.2f} a byte")
    met = all(row["per_byte"] <= REACH for row in rows[1:])
    print(f"to reach: {REACH:.0f} bytes a byte of text, beside {smallest['peak_bytes'] / MB:,.0f} MB; {met=}")
    content = {
        "command": command_line(PROGRAM, arguments),
        "machine": machine(),
        "reach": REACH,
        "met": met,
        "rows": rows,
    }
    write_json(to.numbers / "text_memory.json", content)


if __name__ == "__main__":
    cli.program(command)
