"""MPT: ALiBi, no biases anywhere."""

from __future__ import annotations

from posjax.encodings.alibi import Alibi
from posjax.interop.config import Config
from posjax.interop.families import names, values
from posjax.interop.family import ModelFamily, Rules
from posjax.models.architecture import Architecture, Layer
from posjax.models.parts import CAUSAL, FeedForward, Scores


def _scores(config: Config) -> tuple[Scores, int]:
    """What is said of attention, and of how many heads share a key and a value."""
    inner = config.nested("attn_config")
    inner.only("alibi", True)
    inner.flag("alibi")
    inner.only("alibi_bias_max", 8)
    inner.only("qk_ln", False)
    inner.only("prefix_lm", False)
    inner.only("attn_type", "multihead_attention")
    # How it is computed; and a configuration class of its own, with keys of all classes.
    inner.ignore("attn_impl", "attn_uses_sequence_id", "is_encoder_decoder")
    scale = None
    if inner.get("softmax_scale") is not None:
        scale = inner.positive("softmax_scale")
    return Scores(scale), config.whole("n_heads")


def _architecture(config: Config) -> Architecture:
    config.only("no_bias", True)
    config.only("norm_type", "low_precision_layernorm", "layernorm")
    config.only("logit_scale", None)
    config.only("embedding_fraction", 1.0)
    # Of no use beside ALiBi; the longest text; tables of first weights; the code that it was published with.
    config.ignore("learned_pos_emb", "max_seq_len", "init_config", "init_device", "verbose", "fc_type")
    width = values.width(config)
    norm = values.layer_norm(config, bias=False)
    scores, heads = _scores(config)
    attention = values.attention(config, Alibi(), CAUSAL, scores=scores)
    assert attention.heads == heads
    # The code is four times as wide whatever the key says.
    config.only("expansion_ratio", 4)
    layers = values.alike(config, Layer((attention, FeedForward(4 * width, "gelu", gated=False)), norm))
    return values.decoder(config, layers, norm, values.tied(config, True))


def _weights(config: Config) -> Rules:
    heads = config.whole("n_heads")
    layer = (
        names.joined("attn.Wqkv", heads, heads, "(part H)")
        | names.output("attn", "out_proj")
        | names.plain("ffn", "up_proj down_proj")
        | names.norm("attention_norm", "norm_1")
        | names.norm("feed_forward_norm", "norm_2")
    )
    return (
        names.embedding("transformer.wte")
        | names.layers("decoder", "transformer.blocks", layer)
        | names.norm("norms.decoder", "transformer.norm_f")
    )


FAMILY = ModelFamily(("mpt",), _architecture, _weights, twins=(("lm_head.weight", "transformer.wte.weight"),))
