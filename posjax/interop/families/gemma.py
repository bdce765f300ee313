"""Gemma 1, 2 and 3 (text): scales that begin at 0, a large embedding, and from 2 on norms on both sides and windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from posjax.encodings.base import Encoding
from posjax.interop.config import Config
from posjax.interop.families import llama, names, values
from posjax.interop.family import ModelFamily, Rules
from posjax.models.architecture import Architecture, Embedding, Layer, Output
from posjax.models.parts import CAUSAL, FeedForward, Norm, Scores

GELU = "gelu_pytorch_tanh"


def _norm(config: Config) -> Norm:
    return values.rms(config, offset=1.0)


def _feed_forward(config: Config) -> FeedForward:
    if config.family == "gemma":
        # Releases read either of two keys, one of them "gelu" as the tanh that it then always was: all have to agree.
        tanh = [name for name, ours in values.ACTIVATIONS.items() if ours == "gelu_tanh"]
        config.only("hidden_act", "gelu", *tanh)
        config.only("hidden_activation", *tanh)
    # It stands there for older code, and the later classes do not read it.
    config.ignore("hidden_act")
    function = values.activation(config, "hidden_activation", default=GELU)
    return FeedForward(config.whole("intermediate_size"), function)


def _embedding(config: Config) -> Embedding:
    # The table is that of the logits too, whose rows are small.
    return Embedding(multiplier=values.width(config) ** 0.5)


def _gemma(config: Config) -> Architecture:
    biases = values.biased(config, "attention_bias")
    attention = values.attention(config, values.rotary(config), biases=biases)
    layers = values.alike(config, Layer((attention, _feed_forward(config)), _norm(config)))
    return values.decoder(config, layers, _norm(config), values.tied(config, True), _embedding(config))


def _gemma2(config: Config) -> Architecture:
    scores = Scores(_scale(config), cap=_cap(config, "attn_logit_softcapping", 50.0))
    encoding = values.rotary(config)
    alternating = values.every(values.layer_count(config), 2, values.FULL, values.SLIDING)
    output = values.tied(config, True, cap=_cap(config, "final_logit_softcapping", 30.0))
    encodings: dict[str, Encoding] = {values.FULL: encoding, values.SLIDING: encoding}
    return _described(config, encodings, alternating, scores, output)


def _gemma3(config: Config) -> Architecture:
    if config.get("attn_logit_softcapping") is not None:
        raise config.refusal(("attn_logit_softcapping",), "null, since the code of gemma3_text does not read it")
    scores = Scores(_scale(config), _norm(config))
    # Near layers turn fast and far ones slowly, each by a base of its own.
    encodings = {kind: values.rotary(config, kind) for kind in (values.FULL, values.SLIDING)}
    step = values.pattern(config, 6)
    mostly = values.every(values.layer_count(config), step, values.FULL, values.SLIDING)
    output = values.tied(config, True, cap=_cap(config, "final_logit_softcapping", None))
    return _described(config, encodings, mostly, scores, output)


def _described(
    config: Config, encodings: Mapping[str, Encoding], implied: Sequence[str], scores: Scores, output: Output
) -> Architecture:
    config.only("use_bidirectional_attention", False)
    # What a cache is made of.
    config.ignore("cache_implementation")
    masks = {values.FULL: CAUSAL, values.SLIDING: values.sliding(config)}
    biases = values.biased(config, "attention_bias")
    layers = []
    for kind in values.layer_types(config, implied, *masks):
        attention = values.attention(config, encodings[kind], masks[kind], biases, scores)
        layers.append(Layer((attention, _feed_forward(config)), _norm(config), "both"))
    return values.decoder(config, layers, _norm(config), output, _embedding(config))


def _scale(config: Config) -> float:
    return config.positive("query_pre_attn_scalar", default=256) ** -0.5


def _cap(config: Config, key: str, default: float | None) -> float | None:
    """A soft cap, where null stands for none and silence for the class's own."""
    if key not in config.values:
        return default
    if config.get(key) is None:
        return None
    return config.positive(key)


def _sandwiched(config: Config) -> Rules:
    """Llama's weights with norms on both sides of each sublayer."""
    norms = (
        names.norm("attention_norm", "input_layernorm")
        | names.norm("attention_norm_after", "post_attention_layernorm")
        | names.norm("feed_forward_norm", "pre_feedforward_layernorm")
        | names.norm("feed_forward_norm_after", "post_feedforward_layernorm")
    )
    return llama.around(llama.sublayers() | norms)


GEMMA = ModelFamily(("gemma",), _gemma, llama.weights, twins=llama.TWINS)
GEMMA2 = ModelFamily(("gemma2",), _gemma2, _sandwiched, twins=llama.TWINS)
GEMMA3 = ModelFamily(("gemma3_text",), _gemma3, _sandwiched, twins=llama.TWINS)
