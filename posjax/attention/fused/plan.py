"""The static facts of a call: sizes, tiles, and on what it runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from posjax.attention.biases import TileBias
from posjax.attention.fused.rules import Rule
from posjax.attention.scoring import Scoring


@dataclass(frozen=True)
class KernelPlan:
    """How to run: `driver` "triton" on GPUs, "mosaic" on TPUs.

    `interpret` runs a driver's kernels as ordinary JAX, for checking; `block` replaces the table of block sizes.
    """

    driver: Literal["triton", "mosaic"]
    interpret: bool = False
    block: int | None = None


class TileShape(NamedTuple):
    """The tile of one kernel: queries, keys, and on GPUs the warps and the stages of its pipeline."""

    rows: int
    columns: int
    warps: int = 4
    stages: int = 2


@dataclass(frozen=True)
class Sizes:
    """The axes of a call, T, S and H rounded up to what blocks and devices need, and the factor of its products."""

    B: int
    T: int
    S: int
    N: int
    K: int
    H: int
    scale: float
    queries: int = 0
    keys: int = 0
    channels: int = 0

    @property
    def G(self) -> int:
        """Query heads that share a key-value head."""
        return self.N // self.K

    def padded(self, rows: int, columns: int, channels: int) -> Sizes:
        """The same call, T and S rounded up to whole blocks, and that many channels."""
        return replace(self, queries=round_up(self.T, rows), keys=round_up(self.S, columns), channels=channels)


def round_up(length: int, block: int) -> int:
    """The smallest multiple of a block that is no less than the length."""
    return -(-length // block) * block


class KernelCall(NamedTuple):
    """What is attended: `q [B, T, N, H]`, `k` and `v [B, S, K, H]`, the bias, the mask, and the factor of products."""

    q: jax.Array
    k: jax.Array
    v: jax.Array
    bias: TileBias
    rule: Rule
    scoring: Scoring

    @property
    def sizes(self) -> Sizes:
        """The axes, not rounded up yet."""
        # Before rounding: the last blocks are cut back to these, and masks compare with them.
        B, T, N, H = self.q.shape
        _, S, K, _ = self.k.shape
        # Of the head size as given: the channels that a device adds are zeros.
        return Sizes(B, T, S, N, K, H, self.scoring.factor(H))


class Returned(NamedTuple):
    """What comes back: `d_out [B, T, N, H]`, and for each row its log-sum-exp to base 2 and delta, `[B, N, T]`.

    `delta` is what the softmax takes off the gradient of each of a row's logits.
    """

    d_out: jax.Array
    lse: jax.Array
    delta: jax.Array


def pad(x: jax.Array, length: int, channels: int) -> jax.Array:
    """`[B, T, N, H]` with zeros up to that length and head size; itself where nothing is missing."""
    longer = length - x.shape[1]
    wider = channels - x.shape[3]
    # A pad by nothing would still be an operation in the program, for XLA to find and remove.
    if not longer and not wider:
        return x
    return jnp.pad(x, ((0, 0), (0, longer), (0, 0), (0, wider)))


def pad_rows(x: jax.Array, length: int, value: Any) -> jax.Array:
    """`[..., T]` with one value up to that length."""
    longer = length - x.shape[-1]
    if not longer:
        return x
    before_the_last = [(0, 0)] * (x.ndim - 1)
    return jnp.pad(x, [*before_the_last, (0, longer)], constant_values=value)


def pad_edge(x: jax.Array, length: int) -> jax.Array:
    """`[b, T]` with its last column repeated up to that length: what is padding stays within what is real."""
    longer = length - x.shape[1]
    if not longer:
        return x
    return jnp.pad(x, ((0, 0), (0, longer)), mode="edge")
