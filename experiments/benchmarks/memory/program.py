"""How attention's memory grows with the length, read from compiled programs that are not run; and one long run.

    python -m experiments.benchmarks.memory          temporary arrays at 4k, 16k and 64k, about a minute
    python -m experiments.benchmarks.memory --run    and 65,536 tokens through four layers, some 4 minutes more

Writes memory.json, memory.md and memory.png into a folder, docs/benchmarks unless told otherwise.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import tyro

from experiments import cli
from experiments.benchmarks.common import figure, tables
from experiments.benchmarks.common.cases import ENCODINGS, GIB, Case
from experiments.benchmarks.common.peers import BASELINE, OURS, dense, function, whole
from experiments.benchmarks.memory.long_run import Long, run
from posjax.attention import attend
from posjax.encodings import Params
from posjax.errors import InputError

PROGRAM = "experiments.benchmarks.memory"
REACH = 1.05
"""The exponent of ours to reach: 1 is linear."""
PASSES = {False: "forward", True: "forward + backward"}


@dataclass(frozen=True)
class Options:
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
    out: Path = Path("docs/benchmarks")
    """The folder of the results."""


@dataclass(frozen=True)
class Row:
    """Bytes of temporary arrays at each length, and the exponent of their growth between the last two."""

    encoding: str
    peer: str
    backward: bool
    lengths: tuple[int, ...]
    bytes: tuple[int, ...]

    @property
    def exponent(self) -> float:
        (a, b), (x, y) = self.lengths[-2:], self.bytes[-2:]
        return math.log(max(y, 1) / max(x, 1)) / math.log(b / a)


def temporaries(case: Case, peer: str) -> int:
    """Bytes of a compiled program's temporary arrays; its arguments are shapes, and nothing is run."""

    def forward(params: Params, q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        if peer == OURS:
            return attend(q, k, v, encoding=case.encoding, params=params, backend="chunked")
        return dense(case, params, q, k, v, whole(case, params), "xla")

    shape = jax.ShapeDtypeStruct((1, case.length, case.heads, case.head_size), jnp.dtype(case.dtype))
    params = {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in case.params.items()}
    made = jax.jit(function(case, forward, case.learned)).lower(params, shape, shape, shape, shape).compile()
    memory: Any = made.memory_analysis()
    return int(memory.temp_size_in_bytes)


def measure(options: Options) -> list[Row]:
    """Ours with each encoding, and the whole bias."""
    rows = []
    for name in options.encodings:
        for peer in (OURS, BASELINE):
            for backward in (False, True):
                found = tuple(
                    temporaries(Case(name, ENCODINGS[name], S, backward, options.heads, options.head_size), peer)
                    for S in options.lengths
                )
                rows.append(Row(name, peer, backward, options.lengths, found))
        print(f"{name}: " + ", ".join(_size(b) for b in rows[-3].bytes), file=sys.stderr, flush=True)
    return rows


def _size(count: float) -> str:
    return f"{tables.digits(count / GIB)} GiB" if count >= GIB else f"{tables.digits(count / 2**20)} MiB"


def table(rows: Sequence[Row], backward: bool) -> tuple[list[str], list[list[str]]]:
    """The sizes of one pass as the head and the rows of a table."""
    chosen = [r for r in rows if r.backward == backward]
    head = [f"temporary arrays, {PASSES[backward]}", *map(tables.length, chosen[0].lengths), "exponent"]
    return head, [[f"{r.encoding}: {r.peer}", *map(_size, r.bytes), f"{r.exponent:.3f}"] for r in chosen]


def goal(rows: Sequence[Row]) -> str:
    """Whether ours grows as it should, in one sentence."""
    worst = max((r for r in rows if r.peer == OURS and r.backward), key=lambda r: r.exponent)
    a, b = (tables.length(n) for n in worst.lengths[-2:])
    return (
        f"Ours grows with the exponent {worst.exponent:.3f} or less from {a} to {b}, forward and backward; to "
        f"reach: {REACH} ({'met' if worst.exponent <= REACH else f'NOT met, {worst.encoding}'})."
    )


PAGE = """# The memory of attention

{goal}

Sizes are those of the temporary arrays of one compiled call, `temp_size_in_bytes` of XLA's memory analysis, with
{heads} heads of {head_size} in float32 on a {platform}; nothing is run. The whole bias is `jax.nn`'s attention with a
`[heads, S, S]` array.

![Temporary memory by length](memory.png)

{tables}
{long}
Read by `{command}` on {machine}.
"""


def command(arguments: Sequence[str]) -> None:
    if {"-h", "--help"} & set(arguments):
        tyro.cli(Options, prog=f"python -m {PROGRAM}", args=["--help"])
    options, unknown = cli.parse(Options, PROGRAM, arguments)
    if unknown:
        raise InputError(f"unknown option {unknown[0]}; see python -m {PROGRAM} --help")
    _check(options)
    # First, so that its peak is its own.
    ran = run(options.long) if options.run else _earlier(options.out)
    rows = measure(options)
    both = [table(rows, backward) for backward in (False, True)]
    said, machine = f"python -m {PROGRAM} " + " ".join(arguments), tables.machine()
    page = PAGE.format(
        goal=goal(rows),
        heads=options.heads,
        head_size=options.head_size,
        platform=machine["devices"][1].upper(),
        tables="\n\n".join(tables.markdown(*t) for t in both),
        long=f"\n## One long row\n\n{ran['text']}\n" if ran else "",
        command=said.strip(),
        machine=tables.told(machine),
    )
    content = {
        "command": said.strip(),
        "machine": machine,
        "goal": goal(rows),
        "long_run": ran,
        "rows": [dataclasses.asdict(r) | {"exponent": r.exponent} for r in rows],
    }
    tables.write(options.out, "memory", content, page)
    figure.by_length(_curves(rows), "MiB of temporary arrays", options.out / "memory.png")
    print("\n\n".join([*(tables.columns(*t) for t in both), goal(rows), *([ran["text"]] if ran else [])]))


def _curves(rows: Sequence[Row]) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Ours with each encoding, and the whole bias of the first, which needs the least."""
    panels: dict[str, dict[str, list[tuple[int, float]]]] = {PASSES[False]: {}, PASSES[True]: {}}
    for r in rows:
        if r.peer == OURS or r.encoding == rows[0].encoding:
            name = r.encoding if r.peer == OURS else f"{r.encoding}, {r.peer}"
            panels[PASSES[r.backward]][name] = [(n, x / 2**20) for n, x in zip(r.lengths, r.bytes, strict=True)]
    return panels


def _check(options: Options) -> None:
    for name in options.encodings:
        if name not in ENCODINGS:
            raise InputError(f"there is no encoding {name!r} here: take some of {', '.join(ENCODINGS)}")
    if len(options.lengths) < 2 or min(options.lengths) < 2 or list(options.lengths) != sorted(set(options.lengths)):
        raise InputError(f"--lengths {' '.join(map(str, options.lengths))}: needed are two or more, rising")


def _earlier(folder: Path) -> dict[str, Any] | None:
    """The long run of an earlier command, which a command without one keeps on the page."""
    path = folder / "memory.json"
    return json.loads(path.read_text()).get("long_run") if path.is_file() else None
