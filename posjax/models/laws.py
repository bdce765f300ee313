"""Laws that a whole model keeps, whatever it has learned: where one is broken, its code is wrong.

    shift    all positions moved by one offset: the same logits, where every encoding is relative
    pack     two documents in one row, positions reset and kept apart by the mask, are the two apart
    decode   tokens that come after one another, over a cache, are those of one pass
    length   an encoding that depends on the context's length has, in the model, the constants of that length

Logits are compared by tokens, each against the size of all: `error`. Under a mesh a law holds as on one device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import chex
import jax
import jax.numpy as jnp
import numpy as np

from posjax.attention import Full, Mask, Segments
from posjax.invariants import Finding
from posjax.invariants.following import other_length
from posjax.models.folding import unfold
from posjax.models.law_scope import encodings_in
from posjax.models.memory import Memory
from posjax.models.preparing import Constants, constants_of
from posjax.models.transformer import Transformer
from posjax.positions import contiguous

OFFSET = 2**24 + 1
"""By how much positions are moved: past the whole numbers of float32, whose angles mean nothing there."""

Compared = tuple[jax.Array, jax.Array]


@dataclass(frozen=True)
class LawSample:
    """What a model is held to its laws on: `tokens [B, T]`, and what else of a batch it reads.

    `positions` and `segments [B, T]` are those of packed rows, `source [B, S]` and `real [B, S]` an encoder's.
    """

    tokens: jax.Array
    positions: jax.Array | None = None
    segments: jax.Array | None = None
    source: jax.Array | None = None
    real: jax.Array | None = None

    @property
    def plain(self) -> LawSample:
        """Each row as one document, whatever it was packed of."""
        return LawSample(self.tokens, source=self.source, real=self.real)

    @property
    def counted(self) -> jax.Array | None:
        """Which tokens are no padding."""
        if self.positions is None:
            return None
        return self.positions >= 0


jax.tree_util.register_dataclass(
    LawSample, data_fields=["tokens", "positions", "segments", "source", "real"], meta_fields=[]
)


def forward(
    model: Transformer,
    sample: LawSample,
    offset: int = 0,
    length: int | None = None,
    constants: Constants | None = None,
) -> jax.Array:
    """The logits of a sample, all positions moved by an offset. Errors: chex's where their shape is another."""
    tokens = sample.tokens
    B, T = tokens.shape
    at = _moved(sample.positions, T, offset)
    if at is not None and length is None:
        # Known here alone: what is traced tells no length.
        length = T
    mask: Mask = Full()
    if sample.segments is not None:
        mask = Segments(sample.segments)
    memory = _memory(model, sample, offset, length, constants)
    # Without a key: what is dropped, or moved at random, would differ from pass to pass.
    logits = model(tokens, at, mask=mask, memory=memory, constants=constants, length=length)
    classes = model.architecture.output.classes
    if classes is not None:
        chex.assert_shape(logits, (B, classes))
        # A row is compared as one token.
        return logits[:, None]
    chex.assert_shape(logits, (B, T, model.vocabulary))
    return logits


def _moved(positions: jax.Array | None, count: int, offset: int) -> jax.Array | None:
    if not offset:
        return positions
    if positions is None:
        positions = contiguous(count)
    # Padding stays what it is.
    return jnp.where(positions < 0, positions, positions + offset)


def _memory(
    model: Transformer,
    sample: LawSample,
    offset: int = 0,
    length: int | None = None,
    constants: Constants | None = None,
) -> Memory | None:
    if sample.source is None:
        return None
    S = sample.source.shape[1]
    at = _moved(None, S, offset)
    # Rows of a batch are padded to one length, which is that of their context unless another is asked for.
    if at is not None or length is None:
        length = S
    return model.encode(sample.source, at, real=sample.real, length=length, constants=constants)


def shifted(model: Transformer, sample: LawSample, want: jax.Array) -> Compared:
    """The shift law's two sides; `want` are the logits of the sample as it is."""
    most = model.architecture.max_length
    offset = OFFSET
    # An encoding with an end is held up to that end alone.
    if most is not None:
        offset = min(OFFSET, most - sample.tokens.shape[1])
    return forward(model, sample, offset), want


def packed(model: Transformer, sample: LawSample, want: jax.Array) -> Compared:
    """The pack law's two sides, of each row's halves as two documents."""
    tokens = sample.tokens
    B, T = tokens.shape
    half = T // 2
    at = jnp.tile(contiguous(half), 2)
    documents = np.repeat(np.arange(1, 3, dtype=np.int32), half)
    segments = jnp.broadcast_to(documents[None], (B, 2 * half))
    # A context is as long as its documents: that they share a row must not matter.
    together = model(tokens[:, : 2 * half], at, mask=Segments(segments), length=half)
    rows = tokens[:, : 2 * half].reshape(2 * B, half)
    return together.reshape(2 * B, half, -1), model(rows)


def decoded(model: Transformer, sample: LawSample, want: jax.Array) -> Compared:
    """The decode law's two sides: half of the tokens, then all but one, then the last one."""
    # Layers that are held as one have no cache.
    model = unfold(model)
    tokens = sample.tokens
    B, T = tokens.shape
    cache = model.cache(B, T, memory=_memory(model, sample))
    parts = []
    begun = 0
    for end in sorted({max(T // 2, 1), max(T - 1, 1), T}):
        # At the whole length throughout: streams of a shorter context would rightly be others.
        prepared = model.prepare(end - begun, cache=cache, length=T)
        stream, cache, _ = model.hidden(tokens[:, begun:end], prepared, cache)
        assert cache is not None
        parts.append(model.logits(stream, may_end=prepared.may_end))
        begun = end
    return jnp.concatenate(parts, axis=1), want


def at_length(model: Transformer, sample: LawSample, want: jax.Array) -> Compared:
    """The length law's two sides, for a context of a length that changes what depends on it."""
    other = None
    for encoding, sizes in encodings_in(model.architecture):
        if encoding.length_dependent:
            other = other or other_length(encoding, sizes, sample.tokens.shape[1])
    assert other is not None  # Held before, by `hold_encodings`.
    constants = constants_of(model.architecture, lambda encoding: encoding.at_length(other))
    return forward(model, sample, length=other), forward(model, sample, constants=constants)


LAWS: dict[str, Callable[..., Compared]] = {
    "shift": shifted,
    "pack": packed,
    "decode": decoded,
    "length": at_length,
}


def error(pair: Compared, counted: jax.Array | None = None) -> jax.Array:
    """How far each token's logits are off, `[B, T]`, against the size of all; what softmax ignores counts for nothing.

    Infinite where a logit is no number.
    """
    got = _centred(pair[0])
    want = _centred(pair[1])
    off_BT = jnp.sqrt(jnp.mean(jnp.square(got - want), axis=-1))
    sizes_BT = jnp.mean(jnp.square(want), axis=-1)
    if counted is not None and counted.shape == off_BT.shape:
        off_BT = jnp.where(counted, off_BT, 0)
        sizes_BT = jnp.where(counted, sizes_BT, 0)
    # Of all tokens: one whose own logits are all but even would make much of its rounding.
    size = jnp.sqrt(jnp.mean(sizes_BT))
    relative_BT = off_BT / jnp.maximum(size, 1e-30)
    return jnp.where(jnp.isnan(relative_BT), jnp.inf, relative_BT)


def _centred(logits: jax.Array) -> jax.Array:
    return logits - jnp.mean(logits, axis=-1, keepdims=True)


def worst(errors_BT: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The largest error, and its place."""
    return jnp.max(errors_BT), jnp.stack(jnp.unravel_index(jnp.argmax(errors_BT), errors_BT.shape))


def finding(law: str, found: tuple[jax.Array, jax.Array], allowed: float) -> Finding:
    """What `worst` found, told."""
    largest, place = found
    row, token = np.asarray(place).tolist()
    return Finding(law, float(np.asarray(largest)), allowed, f"token {token} of row {row}")
