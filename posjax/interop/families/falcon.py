"""Falcon in its three forms: rotary with one key-value head, with groups and two norms, and Falcon-RW with ALiBi."""

from __future__ import annotations

from posjax.encodings.alibi import Alibi
from posjax.encodings.base import Encoding
from posjax.interop.config import Config
from posjax.interop.families import names, values
from posjax.interop.family import ModelFamily, Rules
from posjax.models.architecture import Architecture, Layer
from posjax.models.parts import Attention, FeedForward


def _heads(config: Config) -> tuple[int, int]:
    """N and K."""
    heads = config.whole("num_attention_heads", "n_head")
    config.ignore("num_kv_heads", "n_head_kv")
    if config.flag("new_decoder_architecture", default=False):
        # Which always shares, by as many heads as it says.
        config.ignore("multi_query")
        return heads, config.whole("num_kv_heads", "n_head_kv", default=heads)
    if config.flag("multi_query", default=True):
        return heads, 1
    return heads, heads


def _parallel(config: Config) -> bool:
    return config.flag("new_decoder_architecture", default=False) or config.flag("parallel_attn", default=True)


def _two_norms(config: Config) -> bool:
    """Whether sublayers that read one stream have a norm each."""
    count = config.whole("num_ln_in_parallel_attn", default=2)
    return config.flag("new_decoder_architecture", default=False) and count == 2


def _architecture(config: Config) -> Architecture:
    heads, shared = _heads(config)
    width = values.width(config)
    parallel = _parallel(config)
    config.ignore("parallel_attn", "num_ln_in_parallel_attn")
    bias = config.flag("bias", default=False)
    biases = ()
    if bias:
        biases = values.ALL
    attention = Attention(heads, shared, None, _encoding(config, width // heads), biases=biases)
    size = config.whole("ffn_hidden_size", default=4 * width)
    function = values.activation(config, "activation", default="gelu")
    norm = values.layer_norm(config)
    layer = Layer(
        (attention, FeedForward(size, function, gated=False, bias=bias)),
        norm,
        parallel=parallel,
        shared_norm=parallel and not _two_norms(config),
    )
    return values.decoder(config, values.alike(config, layer), norm, values.tied(config, True))


def _encoding(config: Config, head_size: int) -> Encoding:
    if not config.flag("alibi", default=False):
        return values.rotary(config)
    # What it carries about a rotation does nothing.
    config.ignore("rope_parameters", "rope_scaling", "rope_theta", "max_position_embeddings")
    # Its biases are divided with the scores.
    return Alibi(factor=head_size**0.5)


def _weights(config: Config) -> Rules:
    heads, shared = _heads(config)
    layer = (
        # Each group's queries, then its key and its value.
        names.joined("self_attention.query_key_value", heads, shared, "(K part H)")
        | names.output("self_attention", "dense")
        | names.plain("mlp", "dense_h_to_4h dense_4h_to_h")
    )
    if _two_norms(config):
        layer |= names.norm("attention_norm", "ln_attn") | names.norm("feed_forward_norm", "ln_mlp")
    else:
        layer |= names.norm("attention_norm", "input_layernorm")
        layer |= names.norm("feed_forward_norm", "post_attention_layernorm")
    return (
        names.embedding("transformer.word_embeddings")
        | names.layers("decoder", "transformer.h", layer)
        | names.norm("norms.decoder", "transformer.ln_f")
        | names.head("lm_head")
    )


FAMILY = ModelFamily(
    ("falcon",),
    _architecture,
    _weights,
    twins=(("lm_head.weight", "transformer.word_embeddings.weight"),),
)
