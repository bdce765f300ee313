"""GPT-2: a learned table of positions, and weights stored [in, out]."""

from __future__ import annotations

from posjax.encodings.learned import Learned
from posjax.interop.config import Config
from posjax.interop.families import names, values
from posjax.interop.family import ModelFamily, Rules
from posjax.interop.rules import Part, Weight
from posjax.models.architecture import Architecture, Layer
from posjax.models.parts import FeedForward


def _architecture(config: Config) -> Architecture:
    config.only("scale_attn_weights", True)
    config.only("scale_attn_by_inverse_layer_idx", False)
    config.only("add_cross_attention", False)
    config.only("is_decoder", False, True)
    # How it is computed, the longest text, and heads of other tasks.
    config.ignore("reorder_and_upcast_attn", "n_ctx", "summary_activation", "summary_first_dropout", "summary_type")
    config.ignore("summary_proj_to_labels", "summary_use_proj")
    width = values.width(config)
    norm = values.layer_norm(config)
    table = Learned(config.whole("n_positions", "max_position_embeddings"))
    attention = values.attention(config, table, biases=values.ALL)
    size = config.whole("n_inner", default=4 * width)
    function = values.activation(config, "activation_function", default="gelu_new")
    layers = values.alike(config, Layer((attention, FeedForward(size, function, gated=False, bias=True)), norm))
    return values.decoder(config, layers, norm, values.tied(config, True))


def _weights(config: Config) -> Rules:
    layer = names.norm("attention_norm", "ln_1") | names.norm("feed_forward_norm", "ln_2")
    # All queries, then all keys, then all values.
    for at, name in enumerate(("query", "key", "value")):
        part = Part(at, 1, 3)
        layer[f"attention.{name}.kernel"] = Weight("attn.c_attn.weight", "D (part N H) -> D (part N) H", part)
        layer[f"attention.{name}.bias"] = Weight("attn.c_attn.bias", "(part N H) -> (part N) H", part)
    layer["attention.out.kernel"] = Weight("attn.c_proj.weight", "(N H) D -> N H D")
    layer["attention.out.bias"] = Weight("attn.c_proj.bias", "D -> D")
    for ours, theirs in (("up", "mlp.c_fc"), ("down", "mlp.c_proj")):
        layer[f"feed_forward.{ours}.kernel"] = Weight(f"{theirs}.weight", "D F -> D F")
        layer[f"feed_forward.{ours}.bias"] = Weight(f"{theirs}.bias", "F -> F")
    return (
        names.embedding("transformer.wte")
        | names.learned("decoder", "transformer.wpe")
        | names.layers("decoder", "transformer.h", layer)
        | names.norm("norms.decoder", "transformer.ln_f")
        | names.head("lm_head")
    )


FAMILY = ModelFamily(
    ("gpt2",),
    _architecture,
    _weights,
    spellings=((("transformer.", ""),),),
    # Masks that older files hold.
    ignored=("transformer.h.*.attn.bias", "transformer.h.*.attn.masked_bias"),
    twins=(("lm_head.weight", "transformer.wte.weight"),),
)
