"""T5 (v1.0 and v1.1), FLAN-T5 and mT5: an encoder and a decoder, each with one learned table of distances."""

from __future__ import annotations

from dataclasses import replace

from posjax.attention import Full, Mask
from posjax.encodings.base import Encoding
from posjax.encodings.t5 import T5Bias
from posjax.interop.config import Config
from posjax.interop.families import names, values
from posjax.interop.family import ModelFamily, Rules
from posjax.interop.rules import Weight
from posjax.models.architecture import Architecture, Layer, Output
from posjax.models.parts import CAUSAL, NO_POSITIONS, Attention, FeedForward, Norm, Scores, Source

FEED_FORWARDS = ("relu", "gelu", "gated-relu", "gated-gelu", "gated-silu")


def _architecture(config: Config) -> Architecture:
    config.only("is_encoder_decoder", True)
    config.only("is_decoder", False)
    # The longest text that it was trained on, of which the tables know nothing.
    config.ignore("n_positions")
    width = config.whole("d_model")
    norm = Norm("rms", config.positive("layer_norm_epsilon", default=1e-6))
    inner = _feed_forward(config)
    bias = _bias(config)
    seen = _attention(config, replace(bias, bidirectional=True), Full())
    heard = _attention(config, bias)
    crossing = _attention(config, NO_POSITIONS, Full(), "memory")
    count = config.whole("num_layers", most=values.MOST_LAYERS)
    writing = config.whole("num_decoder_layers", default=count, most=values.MOST_LAYERS)
    return Architecture(
        width,
        decoder=values.stack([Layer((heard, crossing, inner), norm)] * writing, norm),
        encoder=values.stack([Layer((seen, inner), norm)] * count, norm),
        output=_output(config, width),
    )


def _output(config: Config, width: int) -> Output:
    tied = config.flag("tie_word_embeddings", default=True)
    # Older configurations mean by tied that the stream is scaled too; of mT5 none is, and no key of it says so.
    scaled = False
    if config.family == "t5":
        scaled = config.flag("scale_decoder_outputs", default=tied)
    if scaled:
        return Output(tied=tied, multiplier=width**-0.5)
    return Output(tied=tied)


def _bias(config: Config) -> T5Bias:
    buckets = config.whole("relative_attention_num_buckets", default=32)
    return T5Bias(buckets, config.whole("relative_attention_max_distance", default=128))


def _attention(config: Config, encoding: Encoding, mask: Mask = CAUSAL, keys_from: Source = "stream") -> Attention:
    """Attention whose scores are not divided by anything: the division is in the weights."""
    heads, size = config.whole("num_heads"), config.whole("d_kv")
    return Attention(heads, None, size, encoding, mask, keys_from, scores=Scores(scale=1.0))


def _feed_forward(config: Config) -> FeedForward:
    silent = {"mt5": "gated-gelu"}.get(config.family, "relu")
    told = config.text("feed_forward_proj", default=silent, among=FEED_FORWARDS)
    name = told.removeprefix("gated-")
    gated = name != told
    # Its gelu, where it gates, is the approximate one.
    if told == "gated-gelu":
        name = "gelu_new"
    config.only("dense_act_fn", name)
    config.only("is_gated_act", gated)
    return FeedForward(config.whole("d_ff"), values.ACTIVATIONS[name], gated=gated)


def _weights(config: Config) -> Rules:
    rules = names.embedding("shared") | names.head("lm_head")
    gated = _feed_forward(config).gated
    seen = _sublayers(1, gated)
    heard = _sublayers(2, gated) | names.projections("layer.1.EncDecAttention", "q k v o", "cross_attention")
    heard |= names.norm("cross_attention_norm", "layer.1.layer_norm")
    # The first layer's table serves all of its stack.
    for stack, layer in (("encoder", seen), ("decoder", heard)):
        table = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        rules[f"encodings.{stack}.0.arrays.table"] = Weight(table, "B N -> N B")
        rules |= names.layers(stack, f"{stack}.block", layer)
        rules |= names.norm(f"norms.{stack}", f"{stack}.final_layer_norm")
    return rules


def _sublayers(last: int, gated: bool) -> Rules:
    """Attention and the feed-forward, which is the last of a layer's."""
    theirs = f"layer.{last}.DenseReluDense"
    inner = names.plain(theirs, "wi wo")
    if gated:
        inner = names.gated(theirs, "wi_0 wi_1 wo")
    norms = names.norm("attention_norm", "layer.0.layer_norm")
    norms |= names.norm("feed_forward_norm", f"layer.{last}.layer_norm")
    return names.projections("layer.0.SelfAttention", "q k v o") | inner | norms


FAMILY = ModelFamily(
    ("t5", "mt5"),
    _architecture,
    _weights,
    twins=(
        ("encoder.embed_tokens.weight", "shared.weight"),
        ("decoder.embed_tokens.weight", "shared.weight"),
        ("lm_head.weight", "shared.weight"),
    ),
    # Some files have a table for cross attention, which no code reads.
    ignored=("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",),
)
