"""How attention's memory grows with the length, read from compiled programs that are not run; and one long run.

    python -m experiments.benchmarks.memory          temporary arrays at 4k, 16k and 64k, about a minute
    python -m experiments.benchmarks.memory --run    and 65,536 tokens through four layers, some 4 minutes more

Writes a page and its figure into docs/benchmarks, and the numbers into experiments/results/benchmarks.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments import cli
from experiments.benchmarks.common.cases import ENCODINGS, check_names
from experiments.benchmarks.common.pages import Folders, command_line, folders
from experiments.benchmarks.common.peers import OURS
from experiments.benchmarks.memory.long_run import Long, run
from experiments.benchmarks.memory.page import Read, size, write
from experiments.benchmarks.memory.rows import MemoryRow, measure
from posjax.errors import InputError

PROGRAM = "experiments.benchmarks.memory"


@dataclass(frozen=True)
class MemoryOptions:
    """Read the growth of attention's memory from compiled programs."""

    lengths: tuple[int, ...] = (4096, 16384, 65536)
    """At least two; the exponent is between the last two."""
    encodings: tuple[str, ...] = tuple(ENCODINGS)
    """Names of encodings."""
    heads: int = 4
    head_size: int = 64
    run: bool = False
    """Run a model over one long row too."""
    long: Long = dataclasses.field(default_factory=Long)
    """The model of that run."""
    out: Path | None = None
    """One folder for all that is written, instead of the repository's own."""

    def check(self) -> None:
        """Errors: `InputError`."""
        check_names(self.encodings)
        in_order = sorted(set(self.lengths))
        rising = list(self.lengths) == in_order
        if len(self.lengths) < 2 or min(self.lengths) < 2 or not rising:
            given = " ".join(map(str, self.lengths))
            raise InputError(f"--lengths {given}: needed are two or more, rising")


def command(arguments: Sequence[str]) -> None:
    options = cli.options(MemoryOptions, PROGRAM, arguments)
    options.check()
    to = folders(options.out)
    # First, so that its peak is its own.
    if options.run:
        long_run = run(options.long)
    else:
        long_run = _earlier(to)
    rows: list[MemoryRow] = []
    for encoding in options.encodings:
        measured = measure(encoding, options.lengths, options.heads, options.head_size)
        found = list(measured)
        # Said on the way: each takes seconds to compile.
        _say(encoding, found)
        rows += found
    said = command_line(PROGRAM, arguments)
    read = Read(said, options.heads, options.head_size, long_run)
    print(write(to, rows, read))


def _say(encoding: str, found: Sequence[MemoryRow]) -> None:
    """One line on the way: what ours needs with gradients."""
    ours = next(row for row in found if row.peer == OURS and row.backward)
    each = map(size, ours.bytes)
    sizes = ", ".join(each)
    print(f"{encoding}: {sizes}", file=sys.stderr, flush=True)


def _earlier(to: Folders) -> dict[str, Any] | None:
    """The long run of an earlier command, which a command without one keeps on the page."""
    path = to.numbers / "memory.json"
    if not path.is_file():
        return None
    numbers = json.loads(path.read_text())
    return numbers.get("long_run")
