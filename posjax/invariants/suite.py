"""All laws that apply to an encoding, measured and shown as a table."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from posjax.encodings.base import Dims, Encoding, Params
from posjax.encodings.traits import embeds
from posjax.invariants.attending import causal, decode, gradients, packing
from posjax.invariants.finding import Finding, expect
from posjax.invariants.following import told_by_constants
from posjax.invariants.hooks import OFFSETS, distinct, moved_by, shift, tile


def check(encoding: Encoding, dims: Dims, dtype: DTypeLike = jnp.float32, show: bool = True) -> tuple[Finding, ...]:
    """Measures every law that applies, prints a table with the worst errors, and returns the findings.

    >>> import posjax
    >>> all(finding.holds for finding in check(posjax.NoPE(), Dims(2, 8, 16), show=False))
    True
    """
    expect(encoding, dims)
    key = jax.random.key(0)
    params = encoding.init(key, dims)
    constants = encoding.constants(dims)
    joined = encoding.join(params, constants)
    # `decode` and what follows it take the parameters alone, as a caller of `attend` has them.
    findings = [
        tile(encoding, joined, dims),
        decode(encoding, params, dims, dtype=dtype),
        packing(encoding, params, dims, dtype=dtype),
        causal(encoding, params, dims, dtype=dtype),
        gradients(encoding, dims),
    ]
    if encoding.relative:
        moved = _shift(encoding, joined, dims, dtype)
        findings.append(moved)
    if encoding.length_dependent:
        findings.append(told_by_constants(encoding, dims))
    if _tells_positions_apart(encoding):
        # Where floats first fail to: past bfloat16's integers, past float32's, and at the end of int32.
        some = (0, 1, 257, 2**24, 2**24 + 1, 2**31 - 1)
        apart = distinct(encoding, joined, dims, some)
        findings.append(apart)
    if show:
        print(table(encoding, findings, dtype))
    return tuple(findings)


def _shift(encoding: Encoding, params: Params, dims: Dims, dtype: DTypeLike) -> Finding:
    """The shift law at the offsets that leave 16 positions within the encoding's own length."""
    # An encoding with an end is held up to that end alone.
    end = encoding.max_length or 2**31
    last = end - 17
    offsets = [offset for offset in OFFSETS if offset <= last]
    moved = moved_by(encoding, params, dims, offsets, 16, 0, dtype)
    tolerance = 0.02
    if jnp.dtype(dtype) == jnp.float32:
        tolerance = 1e-5
    return shift(moved, offsets, tolerance)


def _tells_positions_apart(encoding: Encoding) -> bool:
    """Whether it embeds or rotates, and claims to do so differently at every int32 position."""
    # A bias tells positions apart that rotations alone do not: of such a mixture the law says nothing.
    if not encoding.injective or encoding.max_length is not None or encoding.bias_kind != "none":
        return False
    rotates = type(encoding).rotate is not Encoding.rotate
    return rotates or embeds(encoding)


def table(encoding: Encoding, findings: Sequence[Finding], dtype: DTypeLike = jnp.float32) -> str:
    """The findings as text of 80 columns."""
    name = jnp.dtype(dtype).name
    lines = [textwrap.fill(f"{encoding!r} in {name}", 80, subsequent_indent="  ")]
    for found in findings:
        verdict = "BROKEN"
        if found.holds:
            verdict = "holds "
        error = f"{found.worst:9.1e} of {found.allowed:7.0e}"
        line = f"  {verdict}  {found.law:<9} {error}   {found.where}"
        # What is in columns keeps its spaces: of a line that fits, nothing is folded.
        lines += textwrap.wrap(line, 80, subsequent_indent=" " * 12, drop_whitespace=False) or [line]
    return "\n".join(lines)
