"""The rotation alone, against a scaling of the same array in place: what touches every number once and no more.

    python -m experiments.benchmarks.rope

Writes rope.json and rope.md into a folder, docs/benchmarks unless told otherwise, and prints the table.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from experiments import cli
from experiments.benchmarks.common import tables
from experiments.benchmarks.common.timing import Call, interleave, once
from posjax.encodings import Dims, Rope
from posjax.errors import InputError
from posjax.positions import contiguous

PROGRAM = "experiments.benchmarks.rope"
REACH = 3.0
"""The most that the rotation in bfloat16 may take of the scaling's CPU time."""
SCALE, COPY, OURS = "scale in place", "scale to a new array", "posjax"


@dataclass(frozen=True)
class Options:
    """Time the rotation of queries against a scaling of the same array."""

    lengths: tuple[int, ...] = (512, 2048, 8192)
    heads: int = 8
    head_size: int = 128
    batch: int = 1
    rounds: int = 15
    out: Path = Path("docs/benchmarks")
    """The folder of the results."""


@dataclass(frozen=True)
class Row:
    """One way to rotate `[B, S, N, H]`: CPU and wall seconds, and CPU time relative to the scaling."""

    name: str
    dtype: str
    length: int
    cpu: float | None = None
    wall: float | None = None
    ratio: float | None = None
    error: float | None = None
    why: str = ""


@dataclass(frozen=True)
class Waves:
    """Cosines and sines of one length, made beforehand, as each way wants them: halves `[S, H/2]` in float32."""

    params: dict[str, Any]
    cos: np.ndarray
    sin: np.ndarray


def waves(length: int, head_size: int) -> Waves:
    """The angles of positions 0 .. S - 1."""
    params = Rope().prepare({}, contiguous(length), Dims(head_size=head_size))
    cos, sin = (np.asarray(params[name]).reshape(length, -1) for name in ("cos", "sin"))
    return Waves(dict(params), cos, sin)


def ways(made: Waves, length: int) -> dict[str, Callable[[jax.Array], jax.Array]]:
    """The ways in JAX, and the scaling."""
    half_cos, half_sin = (jnp.asarray(x)[None, :, None] for x in (made.cos, made.sin))
    full_cos, full_sin = (jnp.concatenate([x, x], -1) for x in (half_cos, half_sin))

    def concatenated(x: jax.Array) -> jax.Array:
        a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
        return jnp.concatenate([a * half_cos - b * half_sin, a * half_sin + b * half_cos], -1).astype(x.dtype)

    def rotate_half(x: jax.Array) -> jax.Array:
        a, b = jnp.split(x, 2, axis=-1)
        return x * full_cos.astype(x.dtype) + jnp.concatenate([-b, a], -1) * full_sin.astype(x.dtype)

    # A number that is not known to the compiler, and keeps the array's size however often it is applied.
    minus = jnp.asarray(-1.0)

    def scale(x: jax.Array) -> jax.Array:
        return x * jax.lax.optimization_barrier(minus).astype(x.dtype)

    return {
        SCALE: scale,
        COPY: scale,
        OURS: lambda x: Rope().rotate(made.params, x, contiguous(length), "query"),
        "posjax, with its angles": lambda x: Rope().rotate({}, x, contiguous(length), "query"),
        "halves concatenated": concatenated,
        "rotate_half": rotate_half,
    }


class Turning:
    """A function applied to its own result again and again, so that its buffer may be used again."""

    def __init__(self, function: Callable[[Any], Any], x: Any):
        self.function, self.x = function, x

    def run(self) -> Any:
        self.x = self.function(self.x)
        return self.x


def torch_way(made: Waves, x: np.ndarray, dtype: str) -> tuple[Callable[[Any], Any], Any]:
    """The rotation by halves in PyTorch, which makes a new array, and its input."""
    torch: Any = importlib.import_module("torch")
    torch.set_num_threads(tables.cores())
    kind = getattr(torch, dtype)
    cos, sin = (torch.tensor(np.concatenate([w, w], -1)[:, None]).to(kind) for w in (made.cos, made.sin))

    def turn(x: Any) -> Any:
        a, b = x.chunk(2, -1)
        return x * cos + torch.cat((-b, a), -1) * sin

    return turn, torch.tensor(x).to(kind)


def measure(options: Options, length: int, dtype: str) -> list[Row]:
    """Every way at one length and dtype, in turns."""
    shape = (options.batch, length, options.heads, options.head_size)
    x = np.random.default_rng(0).standard_normal(shape, np.float32)
    made, turning, errors = waves(length, options.head_size), {}, {}
    wanted = _exact(made, np.asarray(jnp.asarray(x, dtype), np.float32))
    for name, function in ways(made, length).items():
        # Given away, a buffer helps only what can work in place: a rotation would copy its result into it.
        given = (0,) if name == SCALE else ()
        compiled = jax.jit(function, donate_argnums=given).lower(jnp.asarray(x, dtype)).compile()
        turning[name] = (Turning(compiled, jnp.asarray(x, dtype)), jax.block_until_ready)
        errors[name] = np.abs(np.asarray(compiled(jnp.asarray(x, dtype)), np.float32) - wanted).max()
    rows = []
    if importlib.util.find_spec("torch") is not None:
        turn, start = torch_way(made, x, dtype)
        turning["torch, rotate_half"] = (Turning(turn, start), lambda _: None)
        errors["torch, rotate_half"] = np.abs(turn(start).float().numpy() - wanted).max()
    else:
        rows.append(Row("torch, rotate_half", dtype, length, why="torch is not installed"))
    calls = {name: Call(one.run, wait) for name, (one, wait) in turning.items()}
    first = {name: once(call)[1][1] for name, call in calls.items()}
    times = {name: t.medians for name, t in interleave(calls, options.rounds, first).items()}
    return [
        Row(
            name,
            dtype,
            length,
            cpu,
            wall,
            cpu / times[SCALE][0],
            None if name in (SCALE, COPY) else float(errors[name]),
        )
        for name, (cpu, wall) in times.items()
    ] + rows


def _exact(made: Waves, x: np.ndarray) -> np.ndarray:
    a, b = np.split(x.astype(np.float64), 2, axis=-1)
    cos, sin = made.cos[:, None], made.sin[:, None]
    return np.concatenate([a * cos - b * sin, a * sin + b * cos], -1)


def goal(rows: Sequence[Row]) -> str:
    """Whether the rotation in bfloat16 is as fast as it should be, in one sentence."""
    worst = max((r for r in rows if r.name == OURS and r.dtype == "bfloat16"), key=lambda r: r.ratio or 0.0)
    ratio = worst.ratio or 0.0
    return (
        f"In bfloat16 the rotation takes {ratio:.2f} of the CPU time of a scaling in place, at worst, at "
        f"{tables.length(worst.length)}; to reach: {REACH:.0f} ({'met' if ratio <= REACH else 'NOT met'})."
    )


def table(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """The rows as the head and the body of a table."""
    head = ["rotation", "dtype", "S", "CPU", "wall", "of the scale", "error"]
    return head, [
        [
            r.name,
            r.dtype,
            tables.length(r.length),
            tables.seconds(r.cpu),
            tables.seconds(r.wall),
            tables.digits(r.ratio),
            r.why or ("" if r.error is None else f"{r.error:.0e}"),
        ]
        for r in rows
    ]


PAGE = """# The rotation alone

{goal}

An array of {batch} x S x {heads} heads x {head_size} channels, each way applied to its own result; all in one process,
in turns, medians of {rounds} rounds. The scaling writes into its argument's buffer, all others into a new array: past
some 32 MiB the system's own work for a new array is more than the rotation, as "scale to a new array" shows at such
lengths. Angles are made beforehand but for "with its angles", as a model makes them once for all layers. Errors are
the largest against float64.

{table}

Measured by `{command}` on {machine}.
"""


def command(arguments: Sequence[str]) -> None:
    if {"-h", "--help"} & set(arguments):
        tyro.cli(Options, prog=f"python -m {PROGRAM}", args=["--help"])
    options, unknown = cli.parse(Options, PROGRAM, arguments)
    if unknown:
        raise InputError(f"unknown option {unknown[0]}; see python -m {PROGRAM} --help")
    if not options.lengths or min(options.lengths) < 1 or options.rounds < 1:
        raise InputError("needed are one length or more, and one round or more")
    rows = [row for dtype in ("bfloat16", "float32") for n in options.lengths for row in measure(options, n, dtype)]
    said, machine = f"python -m {PROGRAM} " + " ".join(arguments), tables.machine()
    page = PAGE.format(
        goal=goal(rows),
        table=tables.markdown(*table(rows)),
        command=said.strip(),
        machine=tables.told(machine),
        batch=options.batch,
        heads=options.heads,
        head_size=options.head_size,
        rounds=options.rounds,
    )
    content = {
        "command": said.strip(),
        "machine": machine,
        "goal": goal(rows),
        "rows": [dataclasses.asdict(r) for r in rows],
    }
    tables.write(options.out, "rope", content, page)
    print(tables.columns(*table(rows)), goal(rows), sep="\n\n")
