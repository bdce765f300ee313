"""How exact the encodings are, far out: angles, rotated products and biases against arithmetic of 60 digits.

python -m experiments.benchmarks.numerics                       prints the table
python -m experiments.benchmarks.numerics --out docs/numerics.md  and writes the page
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import posjax
from experiments import cli
from posjax.encodings import Dims, Encoding, Head
from posjax.errors import InputError
from posjax.invariants import scores

POSITIONS = (2**10, 2**17, 2**20, 2**24, 2**31 - 1)
DIGITS = 60
mp: Any = importlib.import_module("mpmath").mp if importlib.util.find_spec("mpmath") else None
SIZE = 128
BASES = (10_000.0, 500_000.0)
DISTANCES = (0, 1, 2, 3, 17, 127, 128, 1000)


@dataclass(frozen=True)
class Row:
    """One measured quantity: what is promised of its worst error, and the worst found at each position."""

    quantity: str
    dtype: str
    promised: float | None
    worst: tuple[float, ...]


@dataclass(frozen=True)
class Options:
    """Measure how exact the encodings are at far positions."""

    out: Path | None = None
    """A Markdown file to write the page to."""


def near(position: int) -> np.ndarray:
    """The last positions up to one, which are where rounding shows."""
    return np.arange(position - 7, position + 1, dtype=np.int32)


def exact(positions: np.ndarray, base: float) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin of `m base^(-2i/r)`, `[T, r/2]`, by arithmetic of 60 digits."""
    with mp.workdps(DIGITS):
        theta = [mp.mpf(base) ** (mp.mpf(-2 * i) / SIZE) for i in range(SIZE // 2)]
        both = [[(mp.cos(int(m) * t), mp.sin(int(m) * t)) for t in theta] for m in positions]
        table = np.array([[[float(c), float(s)] for c, s in line] for line in both])
    return table[..., 0], table[..., 1]


def angles(position: int) -> float:
    """The worst error of a cosine or sine of posjax."""
    return max(_angle_error(position, base, _ours) for base in BASES)


def usual_angles(position: int) -> float:
    """The same for the usual way: float32(position) times float32(frequency)."""
    return max(_angle_error(position, base, _usual) for base in BASES)


def _angle_error(position: int, base: float, way: Callable[[np.ndarray, float], tuple[Any, Any]]) -> float:
    at = near(position)
    pairs = zip(way(at, base), exact(at, base), strict=True)
    return max(float(np.abs(np.asarray(got, np.float64) - want).max()) for got, want in pairs)


def _ours(at: np.ndarray, base: float) -> tuple[Any, Any]:
    held = posjax.Rope(base).prepare({}, jnp.asarray(at), Dims(head_size=SIZE))
    return held["cos"], held["sin"]


def _usual(at: np.ndarray, base: float) -> tuple[Any, Any]:
    theta = jnp.float32(base) ** (-jnp.arange(0, SIZE, 2, dtype=jnp.float32) / SIZE)
    angle = jnp.asarray(at, jnp.float32)[:, None] * theta[None]
    return jnp.cos(angle), jnp.sin(angle)


def products(position: int, dtype: str) -> float:
    """The worst error of a rotated product, relative to the lengths of its two vectors."""
    rng = np.random.default_rng(0)
    q, k = (jnp.asarray(rng.normal(size=(1, 8, 1, SIZE)), dtype) for _ in range(2))
    back = np.maximum(near(position) - np.array([0, 1, 2, 7, 100, 1000, 5, 3], np.int32), 0)
    worst = 0.0
    for base in BASES:
        (m, n), rope = (near(position), back), posjax.Rope(base)
        turned = [
            np.asarray(rope.rotate({}, x, jnp.asarray(at), "query")[0, :, 0], np.float64) for x, at in ((q, m), (k, n))
        ]
        true = [_turn(np.asarray(x[0, :, 0], np.float64), *exact(at, base)) for x, at in ((q, m), (k, n))]
        lengths = np.linalg.norm(true[0], axis=-1)[:, None] * np.linalg.norm(true[1], axis=-1)[None]
        worst = max(worst, float(np.max(np.abs(turned[0] @ turned[1].T - true[0] @ true[1].T) / lengths)))
    return worst


def _turn(x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    a, b = np.split(x, 2, axis=-1)
    return np.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)


def _alibi(_: dict, d: int, m: int, n: int, heads: int) -> Any:
    whole = 2 ** (heads.bit_length() - 1)
    slope = (
        mp.mpf(2) ** (mp.mpf(-8 * (n + 1)) / whole)
        if n < whole
        else (mp.mpf(2) ** (mp.mpf(-4 * (2 * (n - whole) + 1)) / whole))
    )
    return -slope * d


def _kerple(params: dict, d: int, m: int, n: int, heads: int) -> Any:
    r1, r2 = (mp.exp(mp.mpf(float(params[name][n]))) for name in ("r1", "r2"))
    return -r1 * mp.log(1 + r2 * d)


def _power(params: dict, d: int, m: int, n: int, heads: int) -> Any:
    r1, r2 = mp.exp(mp.mpf(float(params["r1"][n]))), 2 / (1 + mp.exp(-mp.mpf(float(params["r2"][n]))))
    return -r1 * mp.mpf(d) ** r2 if d else mp.mpf(0)


def _fire(params: dict, d: int, m: int, n: int, heads: int) -> Any:
    def at(name: str, *index: int) -> Any:
        return mp.mpf(float(params[name][index]))

    c, threshold = mp.exp(at("c", 0)), mp.exp(at("threshold", 0))
    share = mp.log(c * d + 1) / mp.log(c * max(mp.mpf(m), threshold) + 1)
    units = range(params["out"].shape[1])
    hidden = (max(at("in_scale", 0, u) * share + at("in_shift", 0, u), 0) * at("out", n, u) for u in units)
    return at("shift", n) + sum(hidden)


def _t5(params: dict, d: int, m: int, n: int, heads: int) -> Any:
    # A bucket's number is the floor of a logarithm: at 60 digits, nudged up so that an exact border counts as reached.
    far = 16 + int(mp.floor(mp.log(mp.mpf(max(d, 1)) / 16, 8) * 16 + mp.mpf(10) ** -40))
    return mp.mpf(float(params["table"][n][d if d < 16 else min(far, 31)]))


BIASES: tuple[tuple[Encoding, Callable[..., Any], float], ...] = (
    (posjax.Alibi(), _alibi, 1e-6),
    (posjax.T5Bias(), _t5, 0.0),
    (posjax.Kerple(), _kerple, 1e-6),
    (posjax.Kerple("power"), _power, 5e-6),
    (posjax.Fire(hidden=8), _fire, 5e-6),
)


def bias(encoding: Encoding, formula: Callable[..., Any], position: int, heads: int = 12) -> float:
    """The worst error of a bias, relative to its size where that is above 1."""
    dims = Dims(heads=heads, head_size=SIZE)
    params = {k: np.asarray(v) for k, v in encoding.init(jax.random.key(0), dims).items()}
    distances = [d for d in (*DISTANCES, position // 3, position) if d <= position]
    k_at = jnp.asarray([position - d for d in distances], jnp.int32)
    worst = 0.0
    for n in range(heads):
        got = encoding.bias(params, jnp.asarray([position], jnp.int32), k_at, Head(n, heads))[0]
        with mp.workdps(DIGITS):
            for value, d in zip(got, distances, strict=True):
                want = formula(params, d, position, n, heads)
                worst = max(worst, float(abs(mp.mpf(float(value)) - want) / max(1, abs(want))))
    return worst


def shift(position: int) -> float:
    """How much RoPE's scores change when all positions move there, relative to the scores' scale."""
    encoding, dims, S = posjax.Rope(), Dims(heads=4, head_size=64), 64
    q, k = jax.random.normal(jax.random.key(0), (2, 1, S, 4, 64))
    params, at = encoding.join(None, encoding.constants(dims)), jnp.arange(S)
    moved = jax.jit(lambda offset: scores(encoding, params, q, k, at + offset, at + offset))
    here, there = np.asarray(moved(jnp.int32(0))), np.asarray(moved(jnp.int32(min(position, 2**31 - 1 - S))))
    return float(np.abs(here - there).max() / np.abs(here).max())


def measure() -> Iterator[Row]:
    """Every row of the table."""

    def row(quantity: str, dtype: str, promised: float | None, each: Callable[[int], float]) -> Row:
        return Row(quantity, dtype, promised, tuple(each(p) for p in POSITIONS))

    yield row("cosines and sines", "float32", 5e-7, angles)
    yield row("the same, float32 position times frequency", "float32", None, usual_angles)
    yield row("rotated products", "float32", 2e-7, lambda p: products(p, "float32"))
    yield row("rotated products", "bfloat16", 2e-3, lambda p: products(p, "bfloat16"))
    yield row("scores of `Rope()`, all positions moved there", "float32", 1e-5, shift)
    for encoding, formula, promised in BIASES:
        yield row(f"bias of `{encoding!r}`", "any", promised, lambda p, e=encoding, f=formula: bias(e, f, p))


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a table."""
    lines = [
        "| worst error | dtype | promised | " + " | ".join(_position(p) for p in POSITIONS) + " |",
        "| --- " * (3 + len(POSITIONS)) + "|",
    ]
    for row in rows:
        promised = "nothing" if row.promised is None else f"{row.promised:.0e}" if row.promised else "exact"
        numbers = " | ".join(f"{w:.1e}" if w else "0" for w in row.worst)
        lines.append(f"| {row.quantity} | {row.dtype} | {promised} | {numbers} |")
    return "\n".join(lines)


def _position(p: int) -> str:
    power = p.bit_length() - 1 if p & (p - 1) == 0 else p.bit_length()
    return f"2^{power}" if p == 2**power else f"2^{power} - 1"


PAGE = """# Numerics

What posjax promises about its numbers, and what was measured. Positions are int32, and every bound holds at each of
them.

- **Angles.** A frequency is a 64-bit fixed-point count of turns, and a position times it wraps modulo one turn: range
  reduction is exact, and only the fraction of a turn that remains is rounded to float32. The dtype of a model does
  not matter: cosines and sines are always computed in float32.
- **Rotations** are computed in float32 and rounded once to the dtype of the queries and keys. Their error is given
  relative to the lengths of the two vectors; in bfloat16 it is that of rounding both once.
- **Distances** are subtracted as integers, and become float32 after. A float32 holds integers to 2^24; past that a
  distance is right to one part in 2^24.
- **Biases** are float32 in every model. Their error is absolute below 1 and relative above.
- **Softmax** is float32, and so are all sums over keys.
- **Shift.** A relative encoding gives the same scores wherever a sequence begins: to 1e-5 of the scores' scale in
  float32, at every offset up to 2^31 - 1 - S.
- A negative position gives NaN where something is embedded or rotated, and so does a position past the end of a
  table.

The reference is arithmetic of 60 digits, from the published formulas. Head size 128, bases 10,000 and 500,000; twelve
heads for the biases, at distances 0, 1, 2, 3, 17, 127, 128, 1000, a third of the position, and the whole of it.

{table}

The second row is how rotary angles are usually computed; it is here for comparison.

Measured by `python -m experiments.benchmarks.numerics --out docs/numerics.md` on {device}, jax {jax}.
"""


def command(arguments: Sequence[str]) -> None:
    if {"-h", "--help"} & set(arguments):
        tyro.cli(Options, prog="python -m experiments.benchmarks.numerics", args=["--help"])
    options, unknown = cli.parse(Options, "experiments.benchmarks.numerics", arguments)
    if unknown:
        raise InputError(f"unknown option {unknown[0]}: the only one is --out FILE")
    if mp is None:
        raise InputError("arithmetic of 60 digits needs mpmath: python -m pip install -e '.[test]'")
    table = markdown(list(measure()))
    print(table)
    if options.out is not None:
        device = jax.devices()[0].device_kind
        options.out.write_text(PAGE.format(table=table, device=device, jax=jax.__version__))
