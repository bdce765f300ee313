"""Dropout of attention weights that no cut of the work changes: a pair is dropped by where it is, and by nothing else.

The bits of a pair are a hash of the key, the row of the batch, the head, and the indices of query and key. So every
backend, block size and mesh drops the same pairs, and no T x S array of bits is kept for the backward pass.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jax import core, lax

from posjax.arguments import one_key
from posjax.attention.meshes import is_split, varies_over
from posjax.axes import Shaped
from posjax.errors import InputError
from posjax.mesh import AXES, BATCH, HEADS
from posjax.positions import Index


@dataclass(frozen=True)
class Dropout:
    """Attention weights are set to 0 with probability `rate`, and the others divided by `1 - rate`.

    The key decides which. A training step needs a key of its own, and so does each layer: see `jax.random.fold_in`.

    Errors: `InputError` for a rate outside `[0, 1)`, or one that is traced.

    Source: Srivastava et al. 2014, JMLR 15; of attention weights: Vaswani et al. 2017, arXiv:1706.03762, section 5.4.

    >>> import jax, posjax
    >>> x = jax.random.normal(jax.random.key(0), (1, 5, 2, 4))
    >>> posjax.attend(x, x, x, dropout=Dropout(0.1, jax.random.key(1))).shape
    (1, 5, 2, 4)
    """

    rate: float
    key: jax.Array

    def __post_init__(self) -> None:
        rate = self.rate
        if isinstance(rate, core.Tracer):
            raise InputError("Dropout got a traced rate: needed is a number that is known before the function runs")
        is_number = isinstance(rate, int | float | np.number) and not isinstance(rate, bool)
        if not is_number or not 0 <= float(rate) < 1:
            raise InputError(f"Dropout got rate={rate!r}: needed is a number from 0 to below 1")
        object.__setattr__(self, "rate", float(rate))


@dataclass(frozen=True)
class Dropping:
    """What drops the pairs of a call, or of a part of it.

    `words` uint32 `[2]`, of the key; `first_row` and `first_head`: where the part begins among all rows and heads.
    """

    rate: float
    words: jax.Array
    first_row: Index
    first_head: Index

    def part(self, row: Index, head: Index) -> Dropping:
        """The same for the part from a row and a head on."""
        return replace(self, first_row=self.first_row + row, first_head=self.first_head + head)

    def factors(self, rows: int, heads: int, q_index: jax.Array, k_index: jax.Array) -> jax.Array:
        """What multiplies the weights of pairs, 0 or `1 / (1 - rate)`: float32 `[rows, heads, t, s]`.

        `q_index [t]` and `k_index [s]` are indices in the whole sequence.
        """
        row = _numbers(rows, self.first_row)[:, None, None, None]
        head = _numbers(heads, self.first_head)[None, :, None, None]
        query = q_index.astype(jnp.uint32)[None, None, :, None]
        key = k_index.astype(jnp.uint32)[None, None, None, :]
        # What all pairs of a query share is mixed once for it, and each pair twice.
        of_row = _mixed(self.words[0] + row * _STEP)
        of_head = _mixed(of_row ^ (head * _STEP))
        of_query = _mixed(of_head ^ (query * _STEP))
        bits = _mixed(_mixed(of_query ^ (key * _STEP)) + self.words[1])
        # A rate that rounds to 1 would be no number of 32 bits.
        below = min(round(self.rate * 2**32), 2**32 - 1)
        kept = bits >= np.uint32(below)
        return jnp.where(kept, jnp.float32(1 / (1 - self.rate)), jnp.float32(0))


jax.tree_util.register_dataclass(Dropout, data_fields=["key"], meta_fields=["rate"])
jax.tree_util.register_dataclass(Dropping, data_fields=["words", "first_row", "first_head"], meta_fields=["rate"])

_STEP = np.uint32(0x9E3779B1)
"""An odd number near 2^32 divided by the golden ratio: neighbours come to lie far apart."""


def _mixed(x: jax.Array) -> jax.Array:
    """A permutation of 32 bits in which each bit depends on all: the finaliser of MurmurHash3 (Appleby 2011)."""
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return x ^ (x >> np.uint32(16))


def _numbers(count: int, first: Index) -> jax.Array:
    start = jnp.asarray(first).astype(jnp.uint32)
    return jnp.arange(count, dtype=jnp.uint32) + start


def given_dropout(dropout: Dropout | None, q: Shaped) -> Dropping | None:
    """The dropping of a call; `None` where nothing is dropped. `q [B, T, N, H]`, of this device inside a shard_map.

    Errors: `InputError` for what is no `Dropout`, or a key that is none.
    """
    if dropout is None:
        return None
    if not isinstance(dropout, Dropout):
        raise InputError(f"dropout is {dropout!r}: needed is Dropout(rate, key), or None")
    one_key(dropout.key, "Dropout got key")
    if dropout.rate == 0:
        return None
    # What splits queries by another name would drop alike on every device, unless the key differs there.
    unnamed = varies_over(q) - varies_over(dropout.key) - set(AXES)
    if unnamed:
        name = min(unnamed)
        raise InputError(
            f"Dropout got queries that differ over {name!r} of a shard_map, and counts rows and heads along "
            f"{', '.join(AXES)} alone: name the axis so, or fold jax.lax.axis_index({name!r}) into the key"
        )
    words = jax.random.bits(dropout.key, (2,), jnp.uint32)
    first_row = _place(BATCH, q) * q.shape[0]
    first_head = _place((HEADS,), q) * q.shape[2]
    return Dropping(dropout.rate, words, first_row, first_head)


def _place(axes: tuple[str, ...], q: Shaped) -> Index:
    """Which of the parts is on this device that a surrounding shard_map has split queries into, along some axes."""
    place: Index = 0
    for name in axes:
        # Along an axis that does not split them each device has them all.
        if is_split(q, name):
            place = place * lax.axis_size(name) + lax.axis_index(name)
    return place
