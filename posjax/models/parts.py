"""What a layer is made of, as values: norms, attention, feed-forward. They know no module, and hash and compare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from posjax.attention import Causal, Favor, First, Full, Mask
from posjax.attention.linear_attention import check_rotates
from posjax.attention.masks import Both, Either, rules
from posjax.attention.prepared import check_causal
from posjax.encodings.base import Dims, Encoding, NoPE
from posjax.encodings.traits import embeds, moves_tokens, scores_content
from posjax.errors import InputError
from posjax.fields import Above, AtLeast, brief, check_fields
from posjax.models.rotating import rotating

LARGEST_HEAD = 2**16
"""What an encoding computes for one head is computed at once, on the host."""

CAUSAL = Causal()
NO_POSITIONS = NoPE()

Activation = Literal["silu", "gelu", "gelu_tanh", "relu", "relu_squared"]
Source = Literal["stream", "memory"]
Projection = Literal["query", "key", "value", "out"]


@dataclass(frozen=True)
class Norm:
    """`(offset + scale) x / sqrt(mean(x^2) + epsilon) + bias`, of `x - mean(x)` where the kind is "layer".

    `scaled`: whether there is a learned scale; `offset` is added to it, so that Gemma's scale begins at 0. Statistics
    are float32.

    Source: Ba et al. 2016, arXiv:1607.06450 (layer); Zhang and Sennrich 2019, arXiv:1910.07467 (rms).
    """

    kind: Literal["rms", "layer"] = "rms"
    epsilon: Annotated[float, Above(0, ", such as 1e-6")] = 1e-6
    bias: bool = False
    offset: float = 0.0
    scaled: bool = True

    __repr__ = brief

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.scaled and (self.bias or self.offset):
            raise InputError(
                f"Norm got scaled=False with bias={self.bias} and offset={self.offset}: both go with a scale, so "
                "leave them out, or set scaled=True"
            )

    def parameters(self, width: int) -> int:
        """The number of its parameters, over that many channels."""
        return width * (int(self.scaled) + int(self.bias))


NORM = Norm()


@dataclass(frozen=True)
class Scores:
    """What happens to queries, keys and their scores, beside the encoding.

        score = cap tanh(scale q k / cap), in a softmax whose denominator has exp(sink) too

    `scale`: of the products, 1/sqrt(H) by default. `norm`: of queries and keys before the rotation, over each head with
    one scale for all ("head"), over each head with a scale of its own ("each"), or over all heads together ("all").
    `cap`: a soft bound of the scores. `sink`: one learned logit for each head that takes weight and gives nothing.
    `gate`: a sigmoid of the stream that multiplies the output, one number for a "head" or each "channel" of it.

    Source: Henry et al. 2020, arXiv:2010.04245 (norms); Gemma Team 2024, arXiv:2408.00118 (cap); OpenAI 2025,
    arXiv:2508.10925 (sink); Qiu et al. 2025, arXiv:2505.06708 (gate).
    """

    scale: Annotated[float | None, Above(0)] = None
    norm: Norm | None = None
    norm_over: Literal["head", "each", "all"] = "head"
    cap: Annotated[float | None, Above(0)] = None
    sink: bool = False
    gate: Literal["none", "head", "channel"] = "none"

    __repr__ = brief

    def __post_init__(self) -> None:
        check_fields(self)


SCORES = Scores()


@dataclass(frozen=True)
class Attention:
    """A sublayer of softmax attention with an encoding and a mask of its own.

    `key_value_heads` and `head_size` default to `heads` and to the width divided by the heads. Keys and values come
    from the stream that is worked on, or from the "memory" that an encoder made, of which all queries see the same:
    give `mask=Full()`. `biases` names the projections that have one.

    Errors: `InputError` for heads that do not divide, an encoding that is no value, and one that looks back alone under
    a mask that looks ahead, or one over a memory that compares places of tokens.
    """

    heads: Annotated[int, AtLeast(1)]
    key_value_heads: Annotated[int | None, AtLeast(1)] = None
    head_size: Annotated[int | None, AtLeast(1)] = None
    encoding: Encoding = NO_POSITIONS
    mask: Mask = CAUSAL
    keys_from: Source = "stream"
    biases: tuple[Projection, ...] = ()
    scores: Scores = SCORES

    __repr__ = brief

    def __post_init__(self) -> None:
        check_fields(self)
        check_heads(self)
        check_causal(self.encoding, self.mask)
        scaled = self.scores.scale is not None or self.scores.cap is not None
        if scaled and scores_content(self.encoding):
            raise InputError(
                f"Attention got scores with a scale or a cap and {self.encoding!r}, which puts a score of its own in "
                "the product's place: leave them out, or take an encoding that rotates or adds a bias"
            )
        # They would be compared and hashed by every lookup of the architecture, and arrays do neither.
        try:
            hash(self.mask)
        except TypeError:
            raise InputError(
                f"Attention got mask={self.mask!r}, which holds arrays: an architecture's mask is a rule such as "
                "Causal() & Window(128); arrays of a batch are given to the model's call"
            ) from None
        if self.keys_from == "memory" and not _by_keys(self.mask):
            raise InputError(
                f"Attention got keys_from='memory' and mask={self.mask!r}, which compares places of tokens: those "
                "of two sequences tell nothing of each other, so needed is Full() or First(n)"
            )
        if self.keys_from == "memory" and (embeds(self.encoding) or moves_tokens(self.encoding)):
            raise InputError(
                f"Attention got keys_from='memory' and {self.encoding!r}, which changes the stream: needed is one that "
                "rotates or adds a bias"
            )

    def parameters(self, width: int) -> int:
        """The number of its parameters beside a stream of that width, but for what the encoding learns."""
        return _projections(self, width) + _scores_size(self.scores, width, sizes(self, width))


@dataclass(frozen=True)
class LinearAttention:
    """A sublayer of linear attention: a state of fixed size in place of a cache, and an encoding that may rotate.

    `features`: the map of queries and keys, "elu" for `elu(x) + 1`, or positive random ones, `Favor(...)`. Under
    `Segments` each run of equal ids is a document: an id that comes back after another one is a new one.

    Source: Su et al. 2021, arXiv:2104.09864, equation 19 (rotated); Choromanski et al. 2020, arXiv:2009.14794
    (random features).

    Errors: `InputError` for heads that do not divide, an encoding that does more than to rotate and embed, and a mask
    that is not `Causal()` or `Full()`.
    """

    heads: Annotated[int, AtLeast(1)]
    key_value_heads: Annotated[int | None, AtLeast(1)] = None
    head_size: Annotated[int | None, AtLeast(1)] = None
    encoding: Encoding = NO_POSITIONS
    mask: Mask = CAUSAL
    biases: tuple[Projection, ...] = ()
    features: Literal["elu"] | Favor = "elu"

    __repr__ = brief

    def __post_init__(self) -> None:
        check_fields(self)
        check_heads(self)
        if self.encoding.bias_kind != "none" or scores_content(self.encoding):
            raise InputError(
                f"LinearAttention got encoding={self.encoding!r}: it has no scores to add a bias to; needed is an "
                "encoding that rotates or embeds, such as Rope()"
            )
        within, _ = rotating(self.encoding)
        check_rotates(within)
        if any(type(rule) is not Causal for rule in rules(self.mask)):
            raise InputError(
                f"LinearAttention got mask={self.mask!r}: needed is Causal() or Full(), which sums can follow"
            )

    def parameters(self, width: int) -> int:
        """The number of its parameters beside a stream of that width."""
        return _projections(self, width)


@dataclass(frozen=True)
class FeedForward:
    """`activation(x W_up) W_down`, or gated `(activation(x W_gate) * x W_up) W_down`.

    Source: Shazeer 2020, arXiv:2002.05202 (gated); So et al. 2021, arXiv:2109.08668 (relu squared).
    """

    size: Annotated[int, AtLeast(1)]
    activation: Activation = "silu"
    gated: bool = True
    bias: bool = False

    __repr__ = brief

    def __post_init__(self) -> None:
        check_fields(self)

    def parameters(self, width: int) -> int:
        """The number of its parameters beside a stream of that width."""
        into = 1
        if self.gated:
            into = 2
        weights = (into + 1) * width * self.size
        if not self.bias:
            return weights
        return weights + into * self.size + width


Attending = Attention | LinearAttention
Sublayer = Attention | LinearAttention | FeedForward


def _by_keys(mask: Mask) -> bool:
    """Whether a mask lets all queries see the same keys."""
    if isinstance(mask, Both | Either):
        return _by_keys(mask.first) and _by_keys(mask.second)
    return type(mask) in (Full, First)


def check_heads(attention: Attending) -> None:
    """Errors: `InputError` for heads that do not divide, a bias that is named twice, and too large a head."""
    # Each key-value head serves a group of as many query heads.
    shared = key_value_heads(attention)
    if attention.heads % shared:
        divisors = [n for n in range(1, attention.heads + 1) if attention.heads % n == 0]
        fit = ", ".join(map(str, divisors))
        raise InputError(
            f"{type(attention).__name__} got heads={attention.heads} and key_value_heads={shared}: needed is a number "
            f"of key-value heads that divides the query heads, one of {fit}"
        )
    if len(set(attention.biases)) < len(attention.biases):
        raise InputError(
            f"{type(attention).__name__} got biases={attention.biases}: needed is each projection that has one, once"
        )
    if (attention.head_size or 1) > LARGEST_HEAD:
        raise InputError(
            f"{type(attention).__name__} got head_size={attention.head_size}: needed is {LARGEST_HEAD} or less"
        )


def key_value_heads(attention: Attending) -> int:
    """K, which is N unless groups of queries share."""
    return attention.key_value_heads or attention.heads


def head_size(attention: Attending, width: int) -> int:
    """H: as given, or the width over the heads. Errors: `InputError` where they do not divide it."""
    if attention.head_size is not None:
        return attention.head_size
    if width % attention.heads:
        raise InputError(
            f"the architecture has width={width} and {type(attention).__name__} heads={attention.heads}: needed is a "
            "width that the heads divide, or an explicit head_size"
        )
    size = width // attention.heads
    if size > LARGEST_HEAD:
        raise InputError(
            f"the architecture has width={width} and {type(attention).__name__} heads={attention.heads}, of {size} "
            f"channels each: needed is {LARGEST_HEAD} or less"
        )
    return size


def dims(attention: Attending, width: int) -> Dims:
    """The sizes that an encoding takes from a sublayer."""
    return Dims(heads=attention.heads, head_size=head_size(attention, width), model_size=width)


def sizes(attention: Attending, width: int) -> tuple[int, int, int]:
    """N, K and H."""
    return attention.heads, key_value_heads(attention), head_size(attention, width)


def _projections(attention: Attending, width: int) -> int:
    N, K, H = sizes(attention, width)
    of_projection = {"query": N * H, "key": K * H, "value": K * H, "out": width}
    # Queries and the output have all heads, keys and values those that groups of queries share.
    weights = 2 * (N + K) * H * width
    biases = sum(of_projection[name] for name in attention.biases)
    return weights + biases


def _scores_size(scores: Scores, width: int, of_heads: tuple[int, int, int]) -> int:
    N, K, H = of_heads
    count = 0
    if scores.norm is not None:
        # One scale of a head's size for all heads; or a number for each of their channels.
        channels = 2 * H
        if scores.norm_over != "head":
            channels = (N + K) * H
        count += scores.norm.parameters(channels)
    # A logit, a number or a channel of a gate: of each query head.
    if scores.sink:
        count += N
    if scores.gate == "head":
        count += width * N
    if scores.gate == "channel":
        count += width * N * H
    return count
