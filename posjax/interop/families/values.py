"""What configurations say, as values of an architecture: the parts that families share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from posjax.attention import Mask, Window
from posjax.encodings.base import Encoding
from posjax.encodings.published import from_rope_parameters
from posjax.encodings.published_families import READ
from posjax.encodings.rope import Rope
from posjax.encodings.schedules import LongRope, Yarn
from posjax.errors import InputError
from posjax.interop.config import Config
from posjax.models.architecture import EMBEDDING, Architecture, Embedding, Layer, Output, Stack
from posjax.models.parts import CAUSAL, NORM, SCORES, Activation, Attention, FeedForward, Norm, Projection, Scores

QKV: tuple[Projection, ...] = ("query", "key", "value")
ALL: tuple[Projection, ...] = (*QKV, "out")
FULL, SLIDING = "full_attention", "sliding_attention"
CHUNKED = "chunked_attention"

ACTIVATIONS: MappingProxyType[str, Activation] = MappingProxyType(
    {
        "silu": "silu",
        "swish": "silu",
        "gelu": "gelu",
        "gelu_new": "gelu_tanh",
        "gelu_fast": "gelu_tanh",
        "gelu_pytorch_tanh": "gelu_tanh",
        "relu": "relu",
        "relu2": "relu_squared",
    }
)
"""The names that transformers has for them."""

MOST_LAYERS = 2**14
"""Far above every model's: each layer is looked at, and a number past it is a mistake."""
BY_FAMILY = ("no_rope_layers", "no_rope_layer_interval", "alibi", "alibi_bias_max", "use_logn_attn")
"""Keys about rotation that say which layers turn: each family reads them, or they are refused."""

SILENT: dict[str, dict[str, Any]] = {
    "gemma": {"num_key_value_heads": 16, "head_dim": 256},
    "gemma2": {"num_key_value_heads": 4, "head_dim": 256},
    "gemma3_text": {"num_key_value_heads": 4, "head_dim": 256},
    "qwen3": {"num_key_value_heads": 32, "head_dim": 128},
    "mistral": {"num_key_value_heads": 8},
    "ministral3": {"num_key_value_heads": 8, "head_dim": 128, "rms_norm_eps": 1e-5},
    "qwen2": {"num_key_value_heads": 32},
    "exaone4": {"num_key_value_heads": 32},
    "stablelm": {"num_key_value_heads": 32},
    "starcoder2": {"num_key_value_heads": 2},
    "smollm3": {"num_key_value_heads": 4},
    "llama4_text": {"num_key_value_heads": 8, "head_dim": 128},
}
"""What the class of a family has where the configuration does not have the key, unlike most others."""

SAID = ("gemma", "gemma2", "gemma3_text", "qwen3")
"""Families whose class divides no width by its heads: a head size that is null is a mistake there."""


def rotary(config: Config, layer_type: str | None = None) -> Encoding:
    """The rotation that layers of a type have. Errors: `InputError` for keys about it that are not understood."""
    encoding = from_rope_parameters(config.values, layer_type)
    # All else that it reads it has understood, or refused.
    read = READ.difference(BY_FAMILY)
    config.ignore(*read)
    return encoding


def unfactored(encoding: Encoding) -> Encoding:
    """The rotation whose schedule leaves lengths as they are."""
    if not isinstance(encoding, Rope) or not isinstance(encoding.schedule, Yarn | LongRope):
        return encoding
    schedule = replace(encoding.schedule, attention_factor=1.0)
    if isinstance(schedule, LongRope):
        schedule = replace(schedule, long_attention_factor=None)
    return replace(encoding, schedule=schedule)


def activation(config: Config, *names: str, default: str | None = None) -> Activation:
    """The function between the maps of a feed-forward."""
    return ACTIVATIONS[config.text(*names, default=default, among=ACTIVATIONS)]


def attention(
    config: Config,
    encoding: Encoding,
    mask: Mask = CAUSAL,
    biases: tuple[Projection, ...] = (),
    scores: Scores = SCORES,
) -> Attention:
    """Attention with the heads of the usual three keys."""
    heads = config.whole("num_attention_heads", "n_head", "n_heads")
    # What is usual is left out, so that equal models are equal values.
    shared: int | None = config.whole("num_key_value_heads", default=_silent(config, "num_key_value_heads", heads))
    if shared == heads:
        shared = None
    if config.family in SAID and "head_dim" in config.values and config.get("head_dim") is None:
        raise InputError(
            f"{config.origin} has head_dim=null, which the code of {config.family} derives from nothing: give a whole "
            "number, or take the key out for that of the class"
        )
    size: int | None = config.whole("head_dim", default=_silent(config, "head_dim", max(width(config) // heads, 1)))
    if size == width(config) / heads:
        size = None
    return Attention(heads, shared, size, encoding, mask, biases=biases, scores=scores)


def biased(config: Config, key: str, default: bool = False) -> tuple[Projection, ...]:
    """All projections or none have a bias, as a key says."""
    if config.flag(key, default=default):
        return ALL
    return ()


def rms(config: Config, default: float = 1e-6, offset: float = 0.0) -> Norm:
    """RMSNorm; `default` is the epsilon of a configuration that is silent."""
    epsilon = config.positive("rms_norm_eps", default=_silent(config, "rms_norm_eps", default))
    return Norm("rms", epsilon, offset=offset)


def _silent(config: Config, key: str, otherwise: Any) -> Any:
    """What a family takes for a key that is not there at all; what is there as null is `otherwise`."""
    if key in config.values:
        return otherwise
    return SILENT.get(config.family, {}).get(key, otherwise)


def layer_norm(config: Config, *names: str, bias: bool = True, default: float = 1e-5) -> Norm:
    """LayerNorm, its epsilon under one of these names."""
    epsilon = config.positive(*(names or ("layer_norm_eps", "layer_norm_epsilon")), default=default)
    return Norm("layer", epsilon, bias=bias)


def layer_count(config: Config) -> int:
    """How many layers there are."""
    return config.whole("num_hidden_layers", "n_layer", "n_layers", most=MOST_LAYERS)


def width(config: Config) -> int:
    """Channels of the stream."""
    return config.whole("hidden_size", "n_embd", "n_embed", "d_model")


def nulled(config: Config, key: str) -> bool:
    """Whether a key is there as null, which says more than silence: a class may have a value of its own."""
    return key in config.values and config.get(key) is None


def sliding(config: Config) -> Mask:
    """Causal, within a window that there has to be: layers of that type see no more."""
    if nulled(config, "sliding_window"):
        raise InputError(
            f"{config.origin} has sliding_window=null, with which the code of {config.family} makes no mask for its "
            "sliding layers: give their window, or take the key out for that of the class"
        )
    return CAUSAL & Window(config.whole("sliding_window", default=4096))


def windowed(config: Config, default: int | None = None) -> Mask:
    """Causal, within the sliding window that there is; `default` is that of a configuration that is silent."""
    if "sliding_window" not in config.values and default is not None:
        return CAUSAL & Window(default)
    if config.get("sliding_window") is None:
        return CAUSAL
    return CAUSAL & Window(config.whole("sliding_window"))


def layer_types(config: Config, implied: Sequence[str], *allowed: str) -> list[str]:
    """The type of each layer; `implied` are those of a configuration that does not list them.

    Errors: `InputError` for a list of another length, or another type.
    """
    given = config.get("layer_types")
    if given is None:
        return list(implied)
    # A type that this family does not have would be a mask that nobody computes.
    known = isinstance(given, list) and all(kind in allowed for kind in given)
    if not known or len(given) != layer_count(config):
        raise config.refusal(["layer_types"], f"{layer_count(config)} types, each {' or '.join(allowed)}")
    return given


def pattern(config: Config, usual: int) -> int:
    """Of how many layers the last one sees everything, where the configuration does not list types."""
    step = config.whole("sliding_window_pattern", default=usual)
    # Files that transformers wrote have it beside the types, and its code does not read it.
    hidden = "_sliding_window_pattern"
    listed = config.get("layer_types") is not None
    if not listed and config.get(hidden, default=step) != step:
        raise config.refusal(
            (hidden,), f"sliding_window_pattern or layer_types, which the code of {config.family} reads"
        )
    config.ignore(hidden)
    return step


def every(count: int, step: int, at_step: str, otherwise: str) -> list[str]:
    """Layer types of which every `step`th differs: the last of each group.

    >>> every(5, 2, "full", "sliding")
    ['sliding', 'full', 'sliding', 'full', 'sliding']
    """
    found = [otherwise] * count
    found[step - 1 :: step] = [at_step] * (count // step)
    return found


def stack(layers: Sequence[Layer], final_norm: Norm | None, **more: Any) -> Stack:
    """Layers as the shortest pattern that they repeat."""
    count = len(layers)
    # The shorter the pattern, the less is compiled where layers are looped over.
    for length in range(1, count + 1):
        if all(layer == layers[i % length] for i, layer in enumerate(layers)):
            return Stack(count, tuple(layers[:length]), final_norm, **more)
    raise InputError("a model without layers was described: needed is one or more")


def decoder(
    config: Config,
    layers: Sequence[Layer],
    final_norm: Norm | None,
    output: Output,
    embedding: Embedding = EMBEDDING,
) -> Architecture:
    """A decoder alone."""
    return Architecture(width(config), stack(layers, final_norm), embedding=embedding, output=output)


def alike(config: Config, layer: Layer) -> list[Layer]:
    """As many of a layer as the model has."""
    return [layer] * layer_count(config)


def tied(config: Config, default: bool, **more: Any) -> Output:
    """The output, tied to the embedding or not; `default`, where the configuration is silent."""
    return Output(tied=config.flag("tie_word_embeddings", default=default), **more)


def gated(config: Config, default: str = "silu", bias: bool = False) -> FeedForward:
    """A gated feed-forward of the usual two keys."""
    size = config.whole("intermediate_size")
    return FeedForward(size, activation(config, "hidden_act", default=default), bias=bias)


def head_norm(norm: Norm = NORM) -> Scores:
    """Queries and keys normed over each head, with one scale for all heads."""
    return Scores(norm=norm)
