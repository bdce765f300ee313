"""Phi 1 to 2 and GPT-J: sublayers read one normed stream, a part of the head turns, the output has a bias."""

from __future__ import annotations

from posjax.interop.config import Config
from posjax.interop.families import names, values
from posjax.interop.family import ModelFamily, Rules
from posjax.models.architecture import Architecture, Layer
from posjax.models.parts import Attention, FeedForward


def _phi(config: Config) -> Architecture:
    config.only("qk_layernorm", False)
    attention = values.attention(config, values.rotary(config), biases=values.ALL)
    size = config.whole("intermediate_size")
    return _around(config, attention, size, "hidden_act")


def _gptj(config: Config) -> Architecture:
    # The longest text, ways to compute, and heads of other tasks.
    config.ignore("n_positions", "n_ctx", "rotary", "scale_attn_weights", "gradient_checkpointing")
    config.ignore("summary_activation", "summary_first_dropout", "summary_type")
    config.ignore("summary_proj_to_labels", "summary_use_proj")
    attention = values.attention(config, values.rotary(config))
    size = config.whole("n_inner", default=4 * values.width(config))
    return _around(config, attention, size, "activation_function")


def _around(config: Config, attention: Attention, size: int, key: str) -> Architecture:
    function = values.activation(config, key, default="gelu_new")
    norm = values.layer_norm(config)
    inner = FeedForward(size, function, gated=False, bias=True)
    # Both read the stream through one norm.
    layer = Layer((attention, inner), norm, parallel=True, shared_norm=True)
    output = values.tied(config, False, bias=True)
    return values.decoder(config, values.alike(config, layer), norm, output)


def _phi_weights(config: Config) -> Rules:
    layer = (
        names.projections("self_attn", "q_proj k_proj v_proj dense")
        | names.plain("mlp", "fc1 fc2")
        | names.norm("attention_norm", "input_layernorm")
    )
    return (
        names.embedding("model.embed_tokens")
        | names.layers("decoder", "model.layers", layer)
        | names.norm("norms.decoder", "model.final_layernorm")
        | names.head("lm_head")
    )


def _gptj_weights(config: Config) -> Rules:
    layer = (
        names.projections("attn", "q_proj k_proj v_proj out_proj")
        | names.plain("mlp", "fc_in fc_out")
        | names.norm("attention_norm", "ln_1")
    )
    return (
        names.embedding("transformer.wte")
        | names.layers("decoder", "transformer.h", layer)
        | names.norm("norms.decoder", "transformer.ln_f")
        | names.head("lm_head")
    )


PHI = ModelFamily(("phi",), _phi, _phi_weights, ignored=("*.rotary_emb.inv_freq",))
# Masks that older files hold.
GPTJ = ModelFamily(("gptj",), _gptj, _gptj_weights, ignored=("*.attn.bias", "*.attn.masked_bias"))
