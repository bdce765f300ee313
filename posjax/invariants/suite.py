"""All laws that apply to an encoding, measured and shown as a table."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from posjax.encodings.base import Dims, Encoding
from posjax.encodings.traits import embeds
from posjax.invariants.attending import causal, decode, gradients, packing
from posjax.invariants.finding import Finding, expect
from posjax.invariants.hooks import OFFSETS, distinct, moved_by, shift, tile


def check(encoding: Encoding, dims: Dims, dtype: DTypeLike = jnp.float32, show: bool = True) -> tuple[Finding, ...]:
    """Measures every law that applies, prints a table with the worst errors, and returns the findings.

    >>> import posjax
    >>> all(finding.holds for finding in check(posjax.NoPE(), Dims(2, 8, 16), show=False))
    True
    """
    expect(encoding, dims)
    params = encoding.init(jax.random.key(0), dims)
    joined = encoding.join(params, encoding.constants(dims))
    findings = [
        tile(encoding, joined, dims),
        decode(encoding, params, dims, dtype=dtype),
        packing(encoding, params, dims, dtype=dtype),
        causal(encoding, params, dims, dtype=dtype),
        gradients(encoding, dims),
    ]
    if encoding.relative:
        last = (encoding.max_length or 2**31) - 17
        offsets = [offset for offset in OFFSETS if offset <= last]
        moved = moved_by(encoding, joined, dims, offsets, 16, 0, dtype)
        findings.append(shift(moved, offsets, 1e-5 if jnp.dtype(dtype) == jnp.float32 else 0.02))
    if encoding.injective and encoding.max_length is None:
        turned = type(encoding).rotate is not Encoding.rotate or embeds(encoding)
        some = (0, 1, 257, 2**24, 2**24 + 1, 2**31 - 1)
        findings += [distinct(encoding, joined, dims, some)] if turned and encoding.bias_kind == "none" else []
    if show:
        print(table(encoding, findings, dtype))
    return tuple(findings)


def table(encoding: Encoding, findings: Sequence[Finding], dtype: DTypeLike = jnp.float32) -> str:
    """The findings as text of 80 columns."""
    lines = [f"{encoding!r} in {jnp.dtype(dtype).name}"]
    lines += [
        f"  {'holds ' if f.holds else 'BROKEN'}  {f.law:<9} {f.worst:9.1e} of {f.allowed:7.0e}   {f.where}"
        for f in findings
    ]
    return "\n".join(lines)
