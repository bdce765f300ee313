"""The architectures that most configs vary, from a few sizes: pre-norm RMSNorm, gated SiLU, no biases.

Whatever else a model needs is a field of what comes back: `replace(decoder(...), embedding=Embedding(norm=Norm()))`.
"""

from __future__ import annotations

from posjax.attention import Full, Mask
from posjax.encodings.base import Encoding
from posjax.encodings.rope import Rope
from posjax.models.architecture import Architecture, Layer, Output, Stack
from posjax.models.parts import CAUSAL, NO_POSITIONS, Attention, FeedForward

ROPE = Rope()
FULL = Full()


def decoder(
    encoding: Encoding = ROPE,
    layers: int = 2,
    width: int = 64,
    heads: int = 4,
    key_value_heads: int | None = None,
    feed_forward: int | None = None,
    mask: Mask = CAUSAL,
    tied: bool = False,
) -> Architecture:
    """A decoder-only model, as Llama's: each token predicts the next one.

    `feed_forward` is 8/3 of the width by default, rounded up to a multiple of 8.

    Errors: `InputError` for sizes that do not divide.

    >>> decoder(layers=1, width=16, heads=2).size(vocabulary=11)
    3728
    """
    attention = Attention(heads, key_value_heads, encoding=encoding, mask=mask)
    stack = _stack(layers, width, feed_forward, attention)
    return Architecture(width, decoder=stack, output=Output(tied=tied))


def encoder(
    encoding: Encoding = ROPE,
    layers: int = 2,
    width: int = 64,
    heads: int = 4,
    feed_forward: int | None = None,
    mask: Mask = FULL,
    tied: bool = False,
    classes: int | None = None,
) -> Architecture:
    """An encoder-only model: each token sees all others and predicts itself; or each row its class, of `classes`.

    >>> encoder(layers=1, width=16, heads=2, classes=3).output.classes
    3
    """
    attention = Attention(heads, encoding=encoding, mask=mask)
    stack = _stack(layers, width, feed_forward, attention)
    return Architecture(width, encoder=stack, output=Output(tied=tied, classes=classes))


def encoder_decoder(
    encoding: Encoding = ROPE,
    decoder_encoding: Encoding = ROPE,
    cross_encoding: Encoding = NO_POSITIONS,
    layers: int = 2,
    width: int = 64,
    heads: int = 4,
    feed_forward: int | None = None,
    tied: bool = False,
) -> Architecture:
    """An encoder that reads a source, and a decoder that reads it through cross attention, each with its encoding.

    >>> from posjax import Alibi
    >>> model = encoder_decoder(Rope(), decoder_encoding=Alibi(), layers=1, width=16, heads=2)
    >>> model.decoder.pattern[0].sublayers[1].keys_from
    'memory'
    """
    reads = Attention(heads, encoding=encoding, mask=FULL)
    writes = Attention(heads, encoding=decoder_encoding)
    crosses = Attention(heads, encoding=cross_encoding, mask=FULL, keys_from="memory")
    return Architecture(
        width,
        decoder=_stack(layers, width, feed_forward, writes, crosses),
        encoder=_stack(layers, width, feed_forward, reads),
        output=Output(tied=tied),
    )


def _stack(layers: int, width: int, feed_forward: int | None, *attentions: Attention) -> Stack:
    """Layers that are all alike: attentions, and a feed-forward after them."""
    if feed_forward is None:
        # 8/3 of the width gives three matrices the parameters of the usual two of 4, and multiples of 8 suit hardware.
        eights = -(-width * 8 // 3 // 8)
        feed_forward = eights * 8
    layer = Layer((*attentions, FeedForward(feed_forward)))
    return Stack(layers, (layer,))
