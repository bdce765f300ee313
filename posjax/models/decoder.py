"""The configuration of a decoder-only transformer, a value that knows no module."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

from posjax import attention
from posjax.encodings.base import Dims, Encoding
from posjax.encodings.rope import Rope
from posjax.encodings.traits import layers, of_layer
from posjax.errors import InputError
from posjax.fields import check_fields

ROPE = Rope()
LARGEST_HEAD = 2**16
"""What an encoding computes for one head is computed at once, on the host."""


@dataclass(frozen=True)
class Decoder:
    """The configuration of a decoder: pre-norm RMSNorm, SwiGLU, grouped-query attention, positions explicit.

    `key_value_heads` and `head_size` default to `heads` and `model_size / heads`; `feed_forward` to 8/3 of the model
    size, rounded up to a multiple of 8. `dtype` is that of the computation; parameters are float32. `embedding_scale`
    is the standard deviation of the initial token embedding. `remat` recomputes each block in the backward pass,
    so that a layer more costs the memory of its input.

    Errors: `InputError` for sizes that do not divide.

    >>> Decoder(layers=1, model_size=16, heads=2).size(vocabulary=11)
    3680
    """

    encoding: Encoding = ROPE
    layers: int = 2
    model_size: int = 64
    heads: int = 4
    kv_heads: int | None = None
    head_size: int | None = None
    feed_forward: int | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    embedding_scale: float = 0.02
    tied: bool = False
    remat: bool = False
    epsilon: float = 1e-6
    backend: str = "auto"

    def __post_init__(self) -> None:
        check_fields(self, positive=("layers", "model_size", "heads", "head_size", "feed_forward"))
        if not self.epsilon > 0 or self.embedding_scale < 0:
            raise InputError(
                f"Decoder got epsilon={self.epsilon} and embedding_scale={self.embedding_scale}: needed "
                "are a small positive number, such as 1e-6, and 0 or more"
            )
        if self.head_size is None and self.model_size % self.heads:
            raise InputError(
                f"Decoder got model_size={self.model_size} and heads={self.heads}: needed is a model size "
                "that the heads divide, or an explicit head_size"
            )
        if self.key_value_heads < 1 or self.heads % self.key_value_heads:
            divisors = [n for n in range(1, self.heads + 1) if self.heads % n == 0]
            fit = ", ".join(map(str, divisors))
            raise InputError(
                f"Decoder got heads={self.heads} and kv_heads={self.kv_heads}: needed is a number of "
                f"key-value heads that divides the query heads, one of {fit}"
            )
        if self.size_of_head > LARGEST_HEAD:
            raise InputError(
                f"Decoder got model_size={self.model_size}, heads={self.heads} and head_size="
                f"{self.head_size}, heads of {self.size_of_head}: needed is {LARGEST_HEAD} or less"
            )
        taking_turns = layers(self.encoding)
        if taking_turns > self.layers:
            raise InputError(
                f"Decoder got layers={self.layers} and {self.encoding!r}: needed is a layer for each of its "
                f"{taking_turns} encodings, of which the last would never be used"
            )
        attention.known(self.backend)
        self.encoding.constants(dims(self))  # Says now what it would say after minutes: an odd rotary size, say.

    @property
    def key_value_heads(self) -> int:
        if self.kv_heads is None:
            return self.heads
        return self.kv_heads

    @property
    def size_of_head(self) -> int:
        if self.head_size is None:
            return self.model_size // self.heads
        return self.head_size

    @property
    def size_of_feed_forward(self) -> int:
        if self.feed_forward is not None:
            return self.feed_forward
        # 8/3 of the width gives three matrices the parameters of the usual two of 4, and multiples of 8 suit hardware.
        eights = -(-self.model_size * 8 // 3 // 8)
        return eights * 8

    @property
    def residual_scale(self) -> float:
        """What keeps the stream's variance at 1 at the start, with two additions in each layer."""
        return (2 * self.layers) ** -0.5

    def size(self, vocabulary: int) -> int:
        """The number of parameters, but for norms and what the encoding learns: from the sizes, however large."""
        # Queries and the output have all heads, keys and values those that groups of queries share.
        heads = 2 * (self.heads + self.key_value_heads)
        channels = heads * self.size_of_head
        # SwiGLU has three maps: gate, up and down.
        feed_forward = 3 * self.size_of_feed_forward
        layer = self.model_size * (channels + feed_forward)
        tables = 2
        # Tied, the head is the embedding's own table.
        if self.tied:
            tables = 1
        table = vocabulary * self.model_size
        return self.layers * layer + tables * table

    def explain(self, length: int) -> attention.Choice:
        """The backend of a full pass over that many tokens, and why; of the first layer where layers differ."""
        dtype = jnp.dtype(self.dtype)
        size = self.size_of_head
        # Shapes are all that the choice looks at: nothing of a long pass is allocated.
        q = jax.ShapeDtypeStruct((1, length, self.heads, size), dtype)
        k = jax.ShapeDtypeStruct((1, length, self.key_value_heads, size), dtype)
        constants = self.encoding.constants(dims(self))
        first, _ = of_layer(self.encoding, 0, constants)
        return attention.explain(q, k, encoding=first, backend=self.backend)


def dims(config: Decoder) -> Dims:
    """The sizes that an encoding takes from this model."""
    return Dims(heads=config.heads, head_size=config.size_of_head, model_size=config.model_size)
