"""Cohere's Command R (1) and R7B (2): sublayers read one normed stream, neighbours turn, logits are scaled."""

from __future__ import annotations

from posjax.encodings.base import Encoding
from posjax.interop.config import Config
from posjax.interop.families import llama, names, values
from posjax.interop.family import ModelFamily, Rules
from posjax.models.architecture import Architecture, Layer
from posjax.models.parts import CAUSAL, NO_POSITIONS, SCORES, Attention, Norm, Scores


def _around(config: Config, attentions: list[Attention]) -> Architecture:
    norm = values.layer_norm(config, bias=False)
    gated = values.gated(config)
    # One norm, without a bias, before both.
    layers = [Layer((attention, gated), norm, parallel=True, shared_norm=True) for attention in attentions]
    # What stands there for code that does not read it.
    config.ignore("pretraining_tp", "use_embedding_sharing", "use_gated_activation", "use_parallel_block")
    config.ignore("use_parallel_embedding", "order_of_interleaved_layers")
    output = values.tied(config, True, multiplier=config.number("logit_scale", default=0.0625))
    return values.decoder(config, layers, norm, output)


def _cohere(config: Config) -> Architecture:
    biases = values.biased(config, "attention_bias")
    scores = SCORES
    if config.flag("use_qk_norm", default=False):
        epsilon = values.layer_norm(config).epsilon
        scores = Scores(norm=Norm("layer", epsilon), norm_over="each")
    attention = values.attention(config, values.rotary(config), CAUSAL, biases, scores)
    return _around(config, [attention] * values.layer_count(config))


def _cohere2(config: Config) -> Architecture:
    config.only("use_qk_norm", False)
    config.only("position_embedding_type", "rope_gptj")
    config.only("rotary_pct", 1.0)
    biases = values.biased(config, "attention_bias")
    rotary: Encoding = values.rotary(config)
    window = values.sliding(config)
    step = values.pattern(config, 4)
    mostly = values.every(values.layer_count(config), step, values.FULL, values.SLIDING)
    attentions = []
    for kind in values.layer_types(config, mostly, values.FULL, values.SLIDING):
        # What sees everything knows no positions.
        attention = values.attention(config, NO_POSITIONS, CAUSAL, biases)
        if kind == values.SLIDING:
            attention = values.attention(config, rotary, window, biases)
        attentions.append(attention)
    return _around(config, attentions)


def _weights(config: Config) -> Rules:
    rules = llama.sublayers() | names.norm("attention_norm", "input_layernorm")
    rules |= names.norm("attention.query_norm", "self_attn.q_norm", "N H -> N H")
    rules |= names.norm("attention.key_norm", "self_attn.k_norm", "N H -> N H")
    return llama.around(rules)


COHERE = ModelFamily(("cohere",), _cohere, _weights, ignored=llama.ROTATIONS, twins=llama.TWINS)
COHERE2 = ModelFamily(("cohere2",), _cohere2, _weights, ignored=llama.ROTATIONS, twins=llama.TWINS)
