"""An architecture as a value: stacks of layers, of sublayers, of parts. It knows no module.

A family of models differs in values at places, so each place has a small frozen value. How it is computed, in which
dtype or with which backend, is no part of it: see `Compute`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from posjax.encodings.base import Dims, Encoding
from posjax.encodings.traits import moves_tokens
from posjax.errors import InputError
from posjax.fields import Above, AtLeast, brief, check_fields
from posjax.models.parts import NORM, Activation, Attending, Attention, LinearAttention, Norm, Sublayer, dims

StackName = Literal["decoder", "encoder"]


@dataclass(frozen=True)
class Layer:
    """Sublayers that add to the stream, one after the other or all at once.

        before: x + f(norm(x))      after: x + norm(f(x))      both: x + norm(f(norm(x)))      sum: norm(x + f(x))

    `parallel`: all sublayers read the same stream, each through its own norm, or through one with `shared_norm`.
    `multiplier`: of what each adds.

    Errors: `InputError` for no sublayers, a norm's place without a norm, and a shared norm of sublayers in turn.
    Source: Xiong et al. 2020, arXiv:2002.04745 (before, sum); Liu et al. 2021, arXiv:2111.09883 (after); Wang and
    Komatsuzaki 2021 (parallel).
    """

    sublayers: tuple[Sublayer, ...]
    norm: Norm | None = NORM
    norm_at: Literal["before", "after", "both", "sum"] = "before"
    parallel: bool = False
    shared_norm: bool = False
    multiplier: float = 1.0

    __repr__ = brief

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.sublayers:
            raise InputError("Layer got no sublayers: needed is one or more, such as (Attention(8), FeedForward(256))")
        if self.shared_norm and not (self.parallel and self.norm_at == "before"):
            raise InputError(
                f"Layer got shared_norm=True with parallel={self.parallel} and norm_at={self.norm_at!r}: one norm "
                "serves sublayers that read the stream together, so set parallel=True and norm_at='before'"
            )
        if self.parallel and self.norm_at == "sum":
            raise InputError(
                "Layer got parallel=True and norm_at='sum': a norm of the sum is of one sublayer's, so take 'before', "
                "'after' or 'both'"
            )

    @property
    def norms(self) -> int:
        """How many norms it has."""
        if self.norm is None:
            return 0
        if self.shared_norm:
            return 1
        each = 1
        # One before a sublayer, and one after it.
        if self.norm_at == "both":
            each = 2
        return each * len(self.sublayers)

    def parameters(self, width: int) -> int:
        """The number of its parameters, but for what encodings learn."""
        count = sum(sublayer.parameters(width) for sublayer in self.sublayers)
        if self.norm is not None:
            count += self.norms * self.norm.parameters(width)
        return count


@dataclass(frozen=True)
class Stack:
    """`layers` of them: layer i is `pattern[i % len(pattern)]`.

    `norm_first=False` leaves out the first sublayer's norm before, where the embedding has one. Encodings that are
    equal share what they learn, unless `share_encodings` is false: then each layer learns its own.

    Errors: `InputError` for an empty pattern, or one that is longer than the layers.
    """

    layers: Annotated[int, AtLeast(1)]
    pattern: tuple[Layer, ...]
    final_norm: Norm | None = NORM
    norm_first: bool = True
    share_encodings: bool = True

    __repr__ = brief

    def __post_init__(self) -> None:
        check_fields(self)
        if not 1 <= len(self.pattern) <= self.layers:
            raise InputError(
                f"Stack got layers={self.layers} and a pattern of {len(self.pattern)}: needed is a pattern of 1 to "
                f"{self.layers} layers, since what is past the last layer is never used"
            )
        first = self.pattern[0]
        if not self.norm_first and (first.norm is None or first.norm_at != "before" or first.shared_norm):
            raise InputError(
                f"Stack got norm_first=False and a first layer with norm_at={first.norm_at!r}: there is no norm of its "
                "first sublayer's own before it to leave out"
            )

    def layer(self, index: int) -> Layer:
        return self.pattern[index % len(self.pattern)]

    def attentions(self) -> Iterator[Attending]:
        """The sublayers that look at other tokens, of one turn of the pattern."""
        for layer in self.pattern:
            for sublayer in layer.sublayers:
                if isinstance(sublayer, Attention | LinearAttention):
                    yield sublayer

    def encodings(self, width: int) -> tuple[tuple[Encoding, Dims], ...]:
        """Each encoding with the sizes it serves, in order of its first layer; equal ones once."""
        found: dict[tuple[Encoding, Dims], None] = {}
        # A dict for its order: parameters are drawn and named by it.
        for attention in self.attentions():
            found[attention.encoding, dims(attention, width)] = None
        return tuple(found)

    def parameters(self, width: int) -> int:
        """The number of its parameters, but for what encodings learn."""
        turns, rest = divmod(self.layers, len(self.pattern))
        of_layers = [layer.parameters(width) for layer in self.pattern]
        count = turns * sum(of_layers) + sum(of_layers[:rest])
        if self.final_norm is not None:
            count += self.final_norm.parameters(width)
        # Counted with its layer above, and left out of the model.
        first = self.pattern[0].norm
        if not self.norm_first and first is not None:
            count -= first.parameters(width)
        return count


@dataclass(frozen=True)
class Embedding:
    """`norm(multiplier * table[token] + types[type])`, before what encodings add; the norm comes after that.

    `deviation`: of the initial table. `types`: how many kinds of token there are, 0 for a model that knows none.
    """

    deviation: Annotated[float, AtLeast(0)] = 0.02
    multiplier: float = 1.0
    norm: Norm | None = None
    types: Annotated[int, AtLeast(0)] = 0

    __repr__ = brief

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class Hidden:
    """A map of the stream before the output's table: `norm(activation(x W))`, as masked-token models have one."""

    activation: Activation = "gelu"
    norm: Norm | None = NORM
    bias: bool = True

    __repr__ = brief

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class Output:
    """`cap tanh(multiplier x W / cap)`: a logit for each token, or for each of `classes`.

    `tied`: W is the embedding's table. `classes` are of the whole row, from the stream of its first or last token or
    the mean of all, as `pool` says; `None` gives each token a logit for each of the vocabulary.

    Errors: `InputError` for tied classes.
    """

    tied: bool = False
    bias: bool = False
    multiplier: float = 1.0
    cap: Annotated[float | None, Above(0)] = None
    hidden: Hidden | None = None
    classes: Annotated[int | None, AtLeast(1)] = None
    pool: Literal["first", "last", "mean"] = "first"

    __repr__ = brief

    def __post_init__(self) -> None:
        check_fields(self)
        if self.tied and self.classes is not None:
            raise InputError(
                f"Output got tied=True and classes={self.classes}: the embedding has a row for each token and none for "
                "a class, so set tied=False"
            )

    def parameters(self, width: int, vocabulary: int) -> int:
        """The number of its parameters beside the embedding's."""
        answers = self.classes or vocabulary
        count = 0
        # Tied, the table is the embedding's and counted there.
        if not self.tied:
            count += width * answers
        if self.bias:
            count += answers
        if self.hidden is not None:
            count += width * width + int(self.hidden.bias) * width
            if self.hidden.norm is not None:
                count += self.hidden.norm.parameters(width)
        return count


@dataclass(frozen=True)
class DropoutRates:
    """Shares that are dropped while a key is given: of the embedded stream, of what each sublayer adds to it, of the
    feed-forward's inner activations, and of attention's weights.

    Source: Srivastava et al. 2014, JMLR 15.
    """

    embedding: float = 0.0
    residual: float = 0.0
    feed_forward: float = 0.0
    attention: float = 0.0

    __repr__ = brief

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("embedding", "residual", "feed_forward", "attention"):
            share = getattr(self, name)
            if not 0 <= share < 1:
                raise InputError(f"DropoutRates got {name}={share}: needed is a share in [0, 1)")

    @property
    def drops(self) -> bool:
        return bool(self.embedding or self.residual or self.feed_forward or self.attention)


EMBEDDING = Embedding()
OUTPUT = Output()
NO_DROPOUT = DropoutRates()


@dataclass(frozen=True)
class Architecture:
    """A transformer: a decoder, an encoder, or both, over one embedding. `width` is the stream's, D.

    Errors: `InputError` where parts do not fit together: no stack, cross attention without an encoder or in one, an
    encoder that nothing reads, heads that do not divide the width, encodings whose positions differ.

    >>> from posjax.models.parts import FeedForward
    >>> layer = Layer((Attention(heads=2), FeedForward(size=40)))
    >>> Architecture(width=16, decoder=Stack(layers=1, pattern=(layer,))).size(vocabulary=11)
    3344
    """

    width: Annotated[int, AtLeast(1)]
    decoder: Stack | None = None
    encoder: Stack | None = None
    embedding: Embedding = EMBEDDING
    output: Output = OUTPUT
    dropout: DropoutRates = NO_DROPOUT

    __repr__ = brief

    def __post_init__(self) -> None:
        check_fields(self)
        if self.decoder is None and self.encoder is None:
            raise InputError("Architecture got no stack: needed is a decoder, an encoder, or both")
        self._check_memory()
        for name, stack in self.stacks.items():
            _check_encodings(name, stack, self.width)

    def _check_memory(self) -> None:
        """Errors: `InputError` where what reads an encoder's output, and an encoder, do not go together."""
        if self.encoder is not None and _reads_memory(self.encoder):
            raise InputError(
                "the encoder has attention with keys_from='memory', which is what it makes itself: cross attention "
                "belongs to the decoder"
            )
        if self.decoder is None:
            return
        # Both ways: what nothing reads would be trained by nothing, and nobody would notice.
        if _reads_memory(self.decoder) and self.encoder is None:
            raise InputError(
                "the decoder has attention with keys_from='memory' and there is no encoder: give Architecture an "
                "encoder, or take keys_from='stream'"
            )
        if self.encoder is not None and not _reads_memory(self.decoder):
            raise InputError(
                "there is an encoder that no layer of the decoder reads: give one an Attention with keys_from='memory'"
            )

    @property
    def stacks(self) -> dict[StackName, Stack]:
        """The stacks by name, the one that is computed first before the other."""
        found: dict[StackName, Stack] = {}
        # The decoder reads what the encoder has made.
        if self.encoder is not None:
            found["encoder"] = self.encoder
        if self.decoder is not None:
            found["decoder"] = self.decoder
        return found

    @property
    def main(self) -> StackName:
        """The stack whose stream the output reads."""
        if self.decoder is not None:
            return "decoder"
        return "encoder"

    @property
    def main_stack(self) -> Stack:
        return self.stacks[self.main]

    @property
    def encoding(self) -> Encoding:
        """The encoding of the first attention of the main stack: the only one, where layers do not differ."""
        encoding, _ = self.main_stack.encodings(self.width)[0]
        return encoding

    @property
    def dims(self) -> Dims:
        """The sizes that `encoding` takes."""
        _, sizes = self.main_stack.encodings(self.width)[0]
        return sizes

    @property
    def max_length(self) -> int | None:
        """How many positions the main stack's encodings hold; `None` for any number."""
        held = [encoding.max_length for encoding, _ in self.main_stack.encodings(self.width)]
        return min([most for most in held if most is not None], default=None)

    def size(self, vocabulary: int) -> int:
        """The number of parameters, but for what encodings learn: from the sizes, however large."""
        rows = vocabulary + self.embedding.types
        count = rows * self.width + self.output.parameters(self.width, vocabulary)
        if self.embedding.norm is not None:
            count += self.embedding.norm.parameters(self.width)
        return count + sum(stack.parameters(self.width) for stack in self.stacks.values())

    def with_encodings(self, change: Callable[[Encoding], Encoding]) -> Architecture:
        """The same with every encoding put through a function: how a trained model is extended."""

        def changed(sublayer: Sublayer) -> Sublayer:
            if isinstance(sublayer, Attention | LinearAttention):
                return replace(sublayer, encoding=change(sublayer.encoding))
            return sublayer

        stacks = {}
        for name, stack in self.stacks.items():
            layers = []
            for layer in stack.pattern:
                sublayers = tuple(map(changed, layer.sublayers))
                layers.append(replace(layer, sublayers=sublayers))
            stacks[name] = replace(stack, pattern=tuple(layers))
        return replace(self, decoder=stacks.get("decoder"), encoder=stacks.get("encoder"))


def _reads_memory(stack: Stack) -> bool:
    return any(isinstance(a, Attention) and a.keys_from == "memory" for a in stack.attentions())


def _check_encodings(name: str, stack: Stack, width: int) -> None:
    """Errors: `InputError` for encodings that cannot serve one stack."""
    encodings = stack.encodings(width)
    if not encodings:
        raise InputError(f"the {name} has no attention: tokens would not see each other; give a layer an Attention")
    moving = [encoding for encoding, _ in encodings if moves_tokens(encoding)]
    if len(moving) > 1:
        raise InputError(
            f"the {name} has {moving[0]!r} and {moving[1]!r}, which both move the tokens of the stream they share: "
            "needed is one that does"
        )
    for encoding, sizes in encodings:
        encoding.constants(sizes)  # Says now what it would say after minutes: an odd rotary size, say.
