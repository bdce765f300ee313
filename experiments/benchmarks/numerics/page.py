"""The page of numerics: what is promised, and the table of what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jax

from experiments.benchmarks.numerics.rows import POSITIONS, ErrorRow


def markdown(rows: Sequence[ErrorRow]) -> str:
    """The rows as a table."""
    # Columns of words and numbers alike are left-aligned, unlike those of the other benchmarks.
    positions = map(_position, POSITIONS)
    head = ["worst error", "dtype", "promised", *positions]
    lines = [_line(head), "| --- " * len(head) + "|"]
    for row in rows:
        errors = map(_error, row.worst)
        cells = [row.quantity, row.dtype, _promised(row), *errors]
        lines.append(_line(cells))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    inside = " | ".join(cells)
    return f"| {inside} |"


def _promised(row: ErrorRow) -> str:
    if row.promised is None:
        return "nothing"
    if row.promised == 0:
        return "exact"
    return f"{row.promised:.0e}"


def _error(worst: float) -> str:
    # An exact 0 is told apart from an error that is only small.
    if worst == 0:
        return "0"
    return f"{worst:.1e}"


def _position(position: int) -> str:
    """As people say it: a power of 2, or one less."""
    power = position.bit_length() - 1
    if position == 2**power:
        return f"2^{power}"
    return f"2^{power + 1} - 1"


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


def write(path: Path, table: str) -> None:
    """The page with its table."""
    device = jax.devices()[0].device_kind
    text = PAGE.format(table=table, device=device, jax=jax.__version__)
    path.write_text(text)
