"""What a process of one shape does: prepares every row, times them in turns, and writes each as soon as it is known."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import jax
import jax.numpy as jnp

from experiments.benchmarks.common.cases import ENCODINGS, Arrays, Case, Ready, Unable, error, tolerance
from experiments.benchmarks.common.peers import Peer, ours
from experiments.benchmarks.common.timing import Timed, interleave, once
from experiments.benchmarks.gpu.rows import BUDGET, MATMUL, Entry, GpuRow, Shape, entries

CHECKED = 2048
"""The longest length at which results are compared."""
TIMING, ENDED = "timing", ""
"""What is begun when all rows are prepared, and when nothing is left."""


@dataclass(frozen=True)
class GpuTask:
    """One shape to measure, and the file for its rows; with no rounds, only the compilers' caches are filled.

    `skip`: keys of rows that are known already. `deadline`: the `time.time()` past which no row is begun.
    """

    shape: Shape
    path: Path
    skip: frozenset[str]
    rounds: int
    deadline: float

    def text(self) -> str:
        """The task on a command line."""
        # JSON has neither paths nor sets.
        task = asdict(self) | {"path": str(self.path), "skip": sorted(self.skip)}
        return json.dumps(task)

    @classmethod
    def read(cls, text: str) -> GpuTask:
        """The task of a command line."""
        task = json.loads(text)
        shape = Shape(**task["shape"])
        return cls(shape, Path(task["path"]), frozenset(task["skip"]), task["rounds"], task["deadline"])


@dataclass
class Rows:
    """What can be timed so far, each with its row and the seconds of one call.

    `wanted`: the chunked backend's results, by encoding and pass.
    """

    ready: dict[str, Ready] = field(default_factory=dict)
    rows: dict[str, GpuRow] = field(default_factory=dict)
    first: dict[str, float] = field(default_factory=dict)
    wanted: dict[tuple[str, bool], Arrays] = field(default_factory=dict)


class RowFile:
    """Lines of JSON in a file, each written out before the next thing happens."""

    def __init__(self, file: TextIO):
        self.file = file

    def begin(self, what: str) -> None:
        """Says what is tried next, so that the parent knows which row ended the process."""
        self._write({"begin": what})

    def row(self, row: GpuRow) -> None:
        """Says a row that is known."""
        self._write({"row": asdict(row)})

    def _write(self, what: dict[str, Any]) -> None:
        self.file.write(json.dumps(what) + "\n")
        self.file.flush()


def work(task: GpuTask) -> None:
    """Prepares every row of a shape and times them in turns."""
    with task.path.open("a") as file:
        lines = RowFile(file)
        # torch compiles for longer than all the others together: they are timed before it begins.
        for torch in (False, True):
            made = _prepare(task, torch, lines)
            lines.begin(TIMING)
            if task.rounds:
                _time(task, made, lines)
        lines.begin(ENDED)


def _time(task: GpuTask, made: Rows, lines: RowFile) -> None:
    calls = {key: ready.call for key, ready in made.ready.items()}
    # A slow row has had enough samples after a second.
    times = interleave(calls, task.rounds, made.first, most=1.0)
    for key, taken in times.items():
        row = made.rows[key]
        _, seconds = taken.medians
        tflops = _flops(task.shape, row) / seconds / 1e12
        lines.row(replace(row, seconds=seconds, tflops=tflops))


def _flops(shape: Shape, row: GpuRow) -> float:
    if row.name == MATMUL:
        return 2.0 * _edge(shape) ** 3
    # What an encoding adds is not counted: of two rows the one with more TFLOP/s took less time.
    return shape.case("", ENCODINGS["NoPE"], row.backward).flops


def _prepare(task: GpuTask, torch: bool, lines: RowFile) -> Rows:
    """What can be timed; the others' rows are said with their reasons.

    `torch`: only the rows that need it, or only those that do not.
    """
    made = Rows()
    for entry, backward in _every(task.shape):
        peer = entry.peer
        row = GpuRow(peer.name, entry.kind, task.shape.head_size, task.shape.length, backward)
        # It is the other turn's, or an attempt before this one knows it.
        if ("torch" in peer.needs) != torch or row.key in task.skip:
            continue
        # Before anything of it happens, as what happens may end this process.
        lines.begin(row.key)
        try:
            if time.time() > task.deadline:
                raise Unable("no time was left")
            if peer.absent is not None:
                raise Unable(f"{peer.absent} is not installed")
            _prepare_row(row, peer, task.shape.case(entry.kind, entry.encoding, backward), made)
        except Exception as reason:  # Whatever another project's compiler raises is the reason of its row.
            lines.row(replace(row, why=_short(reason)))
    return made


def _every(shape: Shape) -> Iterator[tuple[Entry, bool]]:
    """Every entry with its pass, the matmul first."""
    yield Entry(Peer(MATMUL, _matmul(shape)), "", ENCODINGS["NoPE"]), False
    for backward in (False, True):
        for entry in entries():
            if entry.has(backward):
                yield entry, backward


def _prepare_row(row: GpuRow, peer: Peer, case: Case, made: Rows) -> None:
    ready = peer.prepare(case, BUDGET)
    # A first run may compile, as torch's do, and would count among the seconds of one call.
    ready.call.finished()
    result, (_, wall) = once(ready.call)
    if peer.name != MATMUL and case.length <= CHECKED:
        row = _compared(row, case, ready.numbers(result), made)
    made.ready[row.key] = ready
    made.rows[row.key] = replace(row, why=ready.note)
    made.first[row.key] = wall


def _compared(row: GpuRow, case: Case, numbers: Arrays, made: Rows) -> GpuRow:
    """The row with its distance from the chunked backend, whose results are computed once for each encoding."""
    key = (repr(case.encoding), case.backward)
    # Computed here, as T5's bias alone has a row of this backend.
    if key not in made.wanted:
        check = ours(case, BUDGET)
        made.wanted[key] = check.numbers(check.call.finished())
    off = error(numbers, made.wanted[key])
    return replace(row, error=off, agrees=off <= tolerance(case.dtype))


def _short(reason: Exception) -> str:
    """A reason in 200 letters of one line: compilers tell theirs in pages."""
    text = " ".join(str(reason).split()) or "no message"
    # Ours is said as it is. Of another's the kind of error says more than its text does.
    if not isinstance(reason, Unable):
        text = f"{type(reason).__name__}: {text}"
    return text[:200]


def _edge(shape: Shape) -> int:
    """Rows of the matrices that are multiplied: large enough to fill the device."""
    return min(8192, shape.tokens)


def _matmul(shape: Shape) -> Callable[[Case, float], Ready]:
    """A product of two square matrices: what the device can do."""

    def prepare(case: Case, budget: float) -> Ready:
        edge = _edge(shape)
        a, b = jax.random.normal(jax.random.key(0), (2, edge, edge), jnp.dtype(shape.dtype))
        # Compiled beforehand, as every peer is.
        product = jax.jit(jnp.matmul).lower(a, b).compile()
        return Ready(Timed(partial(product, a, b), jax.block_until_ready), False, lambda result: {})

    return prepare
