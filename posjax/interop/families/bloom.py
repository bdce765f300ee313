"""BLOOM: ALiBi, a norm after the embedding, biases everywhere."""

from __future__ import annotations

from posjax.encodings.alibi import Alibi
from posjax.interop.config import Config
from posjax.interop.families import names, values
from posjax.interop.family import ModelFamily, Rules
from posjax.models.architecture import Architecture, Embedding, Layer
from posjax.models.parts import FeedForward


def _architecture(config: Config) -> Architecture:
    # The stream would then be the normed one.
    config.only("apply_residual_connection_post_layernorm", False)
    # How products were once computed, in slices or fused, and for how long it was trained.
    config.ignore("pretraining_tp", "slow_but_exact", "seq_length", "skip_bias_add", "skip_bias_add_qkv")
    config.ignore("attention_softmax_in_fp32", "masked_softmax_fusion", "bias_dropout_fusion", "offset_alibi")
    width = values.width(config)
    norm = values.layer_norm(config)
    attention = values.attention(config, Alibi(), biases=values.ALL)
    # Its gelu is written out by a tanh, and no key says so.
    inner = FeedForward(4 * width, "gelu_tanh", gated=False, bias=True)
    layers = values.alike(config, Layer((attention, inner), norm))
    return Architecture(
        width,
        values.stack(layers, norm),
        embedding=Embedding(norm=norm),
        output=values.tied(config, True),
    )


def _weights(config: Config) -> Rules:
    heads = config.whole("num_attention_heads", "n_head")
    layer = (
        names.joined("self_attention.query_key_value", heads, heads, "(K part H)")
        | names.output("self_attention", "dense")
        | names.plain("mlp", "dense_h_to_4h dense_4h_to_h")
        | names.norm("attention_norm", "input_layernorm")
        | names.norm("feed_forward_norm", "post_attention_layernorm")
    )
    return (
        names.embedding("transformer.word_embeddings")
        | names.norm("embedding_norm", "transformer.word_embeddings_layernorm")
        | names.layers("decoder", "transformer.h", layer)
        | names.norm("norms.decoder", "transformer.ln_f")
        | names.head("lm_head")
    )


FAMILY = ModelFamily(
    ("bloom",),
    _architecture,
    _weights,
    spellings=((("transformer.", ""),),),
    twins=(("lm_head.weight", "transformer.word_embeddings.weight"),),
)
