"""What published configurations say about rotary embedding: their families, their keys, and which of them mean what."""

from __future__ import annotations

import numbers
import sys
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from posjax.errors import InputError

Layout = Literal["split", "interleaved"]

WORDS = ("rope", "rotary", "theta", "alibi", "position")
"""A key with one of these in its name is understood or refused."""
LENGTH, LONGEST = "original_max_position_embeddings", "max_position_embeddings"
NESTS = ("rope_parameters", "rope_scaling")
BASES = ("rope_theta", "rotary_emb_base", "global_rope_theta")
FRACTIONS = ("partial_rotary_factor", "rotary_pct", "rotary_percent", "rope_pct", "rotary_emb_fraction")
INTERLEAVED = ("rope_interleave", "rope_interleaved", "rotary_emb_interleaved", "original_rope")
HEAD_SIZES = ("head_dim", "kv_channels", ("n_embd", "n_head"), ("hidden_size", "num_attention_heads"))
"""Where the head size stands, in the order of precedence: under a name, or as a quotient of two."""


class Configuration(Protocol):
    """A model's configuration as an object."""

    def to_dict(self) -> dict[str, Any]:
        """All that its file would hold."""
        ...


class Family(NamedTuple):
    """What a model type's released code does where its configuration is silent; None: it must not be silent."""

    layout: Layout
    base: float | None = None
    fraction: float | None = 1.0


class Layers(NamedTuple):
    """The layer type whose base a key gives, the other type, and which of them `rope_scaling` is for, where known."""

    own: str
    other: str
    scaled: str | None = None


def _families(layout: Layout, names: str, base: float | None = None, fraction: float | None = 1.0) -> dict[str, Family]:
    return {name: Family(layout, base, fraction) for name in names.split()}


_NAMED = {
    **_families("split", "llama mistral qwen2 qwen3 gemma gemma2 phi3 falcon", 1e4),
    **_families("split", "nemotron-nas mixtral ministral ministral3 qwen qwen2_moe qwen3_moe deepseek minicpm internlm "
                         "internlm2 internlm3 baichuan olmo olmo2 olmo3 olmoe granite granitemoe starcoder2 seed_oss "
                         "arcee phimoe hunyuan_v1_dense hunyuan_v1_moe exaone4 dbrx mpt gemma4_text modernbert mimo"),
    **_families("split", "phi stablelm persimmon nemotron glm4_moe qwen3_next qwen3_5_text minimax_m3 mimo_v2_flash "
                         "stablelm_epoch nomic_bert", fraction=None),
    **_families("split", "gemma3_text gemma3n_text", 1e6),
    **_families("split", "gpt_neox phi-msft", 1e4, None),
    **_families("split", "minimax_m2", 5e6, None),
    "gpt_oss": Family("split", 150_000.0), "smollm3": Family("split", 2e6), "apertus": Family("split", 12e6),
    **_families("interleaved", "cohere cohere2 ernie4_5 ernie4_5_moe deepseek_v2 deepseek_v3 kimi_k2 helium "
                               "glm_moe_dsa glm4_moe_lite"),
    **_families("interleaved", "glm glm4", fraction=None),
    **_families("interleaved", "gptj codegen", 1e4, None),
    "roformer": Family("interleaved", 1e4), "chatglm": Family("interleaved", 1e4, 0.5),
    "llama4_text": Family("interleaved", 5e5),
}
_NAMELESS = Family("split", 1e4)
_SPELLED = ((("rotary_dim", "n_embd"), "gptj"), (("rope_ratio",), "chatglm"), (("original_rope",), "chatglm"))
"""Without a model type, these keys together tell the family."""
_STILL = {"nemotron_h": "NoPE", "kimi_linear": "NoPE", "jamba": "NoPE", "bloom": "Alibi", "t5": "T5Bias",
          "mt5": "T5Bias", "gpt2": "Learned", "opt": "Learned", "bert": "Learned"}
"""Model types that do not rotate, whatever keys they carry, and the encoding that they have instead."""

LAYERS = {
    "rope_local_base_freq": Layers("sliding_attention", "full_attention", "full_attention"),
    "local_rope_theta": Layers("sliding_attention", "full_attention"),
    "swa_rope_theta": Layers("sliding_attention", "full_attention"),
    "compress_rope_theta": Layers("compress", "main", "compress"),
}
_IMPLIED: dict[str, dict[str, float | None]] = {
    "gemma3_text": {"rope_local_base_freq": 1e4},
    "gemma3n_text": {"rope_local_base_freq": 1e4},
    "modernbert": {"global_rope_theta": 160_000.0, "local_rope_theta": 1e4},
    "mimo_v2_flash": {"swa_rope_theta": 1e4},
    "olmo3": {"rope_local_base_freq": None},  # The same base everywhere, but scaling for the full layers alone.
}
"""What the released code of a model type adds where the configuration does not have the key."""
_TABLED = {"modernbert": ("position_embedding_type",)}
"""Keys that a model type's files carry, and that its released code does not read."""

ONLY: dict[str, tuple[tuple[Any, ...], str]] = {
    "alibi": ((False, None), "take Alibi"),
    "rotary": ((True, None), "an older spelling or none; take the encoding that the model has"),
    "rope": ((True, None), "take the encoding that the model has"),
    "use_mrope": ((False, None), "positions of several coordinates have AxialRope"),
    "use_logn_attn": ((False, None), "its queries are scaled too; set it to False, and chain LogN to what is read"),
    "rotary_value": ((False, None), "values turn too, which Rope does not do"),
    "rotary_emb_scale_base": ((None,), "take XPos"),
    "rotary_scaling_factor": ((None,), "remove it and take a schedule that says the same"),
    "use_dynamic_ntk": ((False, None), "it changes frequencies past the trained length; set it to False for that one"),
    "position_embedding_type": ((None, "rope", "rotary", "rope_gptj"), "take the encoding that it names"),
}
"""Keys that may have these values alone, and what to do about another."""
_LOOSE = ("factor", "beta_fast", "beta_slow", "short_factor", "long_factor", "low_freq_factor", "high_freq_factor",
          "yarn", "llama_4_scaling")
"""What schedules are made of, and what nobody reads outside the rope parameters."""
_SCALED = ("gpt_oss", "apertus", "ministral3", "gemma4_text")
"""Model types whose class fills in a schedule, or one for each layer type, where the configuration is silent."""
REFUSED = {
    "mrope_section": "for text remove it, for positions of several coordinates take "
                     "AxialRope(sections, base, frequencies='shared')",
    "mrope_interleaved": "for text remove it; sections that alternate have no encoding here",
    "llama_4_scaling_beta": "it is a temperature of the queries by position: remove it and chain the Rope with one",
}
_IDLE = (LONGEST, LENGTH, "n_positions", "qk_rope_head_dim", "no_rope_layers", "no_rope_layer_interval", "flash_rotary",
         "indexer_rope_interleave", "alibi_bias_max")
"""Keys with such names that change nothing about how a layer turns that does turn."""
_SAYING = (*BASES, *FRACTIONS, *INTERLEAVED, *LAYERS, "rotary_dim", "rope_ratio", "rotary", "rope",
           "position_embedding_type")
_KNOWN = {*NESTS, *_SAYING, *ONLY, *_IDLE}
_READ = {*_KNOWN, *_LOOSE, *REFUSED, "model_type", "text_config", "attn_config", "head_dim", "kv_channels", "n_embd",
         "n_head", "hidden_size", "num_attention_heads"}


def opened(config: Any) -> dict[str, Any]:
    """The configuration of the text model, flat but for its rope parameters: objects, sections and bare ones opened.

    Errors: `InputError` for what is no configuration, or a section that contradicts what stands beside it.
    """
    config = _entries(config)
    model = {"rope_parameters": config} if _bare(config) else config
    if (text := model.get("text_config")) is not None:
        section = _entries(text)
        _agreeing(section, {key: value for key, value in model.items() if value is not None}, "text_config")
        model = {"model_type": model.get("model_type"), **section}
    if isinstance(section := model.get("attn_config"), Mapping):
        model.update(_agreeing(model, section, "attn_config"))
    name = str(model.get("model_type"))
    model = {key: value for key, value in model.items() if key not in _TABLED.get(name, ())}
    return {**_IMPLIED.get(name, {}), **model}


def _entries(config: Any) -> dict[str, Any]:
    """A configuration or a section of one as a dict, in which all that is read is what a JSON file can hold.

    Errors: `InputError` for what is no configuration, a key that is no text, or a value that no file holds.
    """
    if not isinstance(config, Mapping) and not isinstance(config, type):
        config = config.to_dict() if callable(getattr(config, "to_dict", None)) else config
    if not isinstance(config, Mapping):
        raise InputError(f"from_rope_parameters got a {type(config).__name__}: needed is a configuration, as a "
                         "dict or an object with to_dict(); read the checkpoint's config.json")
    for key in config:
        if not isinstance(key, str):
            raise InputError(f"the configuration has the key {key!r}: needed are texts")
    return {key: _plain(key, value, key in _READ or _about(key)) for key, value in config.items()}


def _plain(name: str, value: Any, read: bool) -> Any:
    """A value with numbers of Python's own; what is not `read` may hold other objects too, which stay as they are."""
    if isinstance(value, Mapping):
        return {key: _plain(key, one, read) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(name, one, read) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    plain = value is None or isinstance(value, (bool, str))
    if not plain and isinstance(value, numbers.Real):
        size: Any = abs(value)
        plain = size <= sys.float_info.max  # False for NaN.
    if read and not (plain and isinstance(name, str)):
        raise InputError(f"the configuration has {name}={value!r}: needed is what a JSON file can hold, with finite "
                         "numbers")
    return value


def _bare(config: Mapping[str, Any]) -> bool:
    """Whether these are rope parameters themselves, of one layer type or of several."""
    if any(key in config for key in (*NESTS, "text_config", "attn_config", "model_type")):
        return False
    each = [value for value in config.values() if value is not None]
    by_layer = bool(each) and all(isinstance(value, Mapping) and "rope_type" in value for value in each)
    return by_layer or "rope_type" in config or "type" in config


def _agreeing(inside: Mapping[str, Any], beside: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The entries of one that are about positions, once those that the other has too are held against it."""
    about = {key: value for key, value in beside.items() if _about(key)}
    for key, value in about.items():
        held = inside.get(key)
        if held != value and (held is not None or name == "text_config"):
            raise InputError(f"the configuration has {key}={value!r} on one side of {name} and {held!r} on the other: "
                             "they contradict, remove one")
    return about


def _about(key: Any) -> bool:
    return any(word in str(key).lower() for word in WORDS)


def _by_layer(inner: Mapping[str, Any]) -> bool:
    return any(isinstance(value, Mapping) for value in inner.values())


def check(model: Mapping[str, Any]) -> None:
    """Errors: `InputError` names a key about positions that is unknown or says something else, or a still model."""
    name = model.get("model_type")
    if name is not None and not isinstance(name, str):
        raise InputError(f"the configuration has model_type={name!r}: needed is a text, or None")
    if name in _STILL:
        raise InputError(f"the configuration has model_type={name!r}, which does not rotate: take {_STILL[name]}")
    if name in _SCALED and not any(isinstance(model.get(nest), Mapping) for nest in NESTS):
        raise InputError(f"the configuration of a {name} is silent about its rope parameters, and its class then takes "
                         "some that are not plain: write them into rope_parameters")
    for key, value in model.items():
        if key in REFUSED and value is not None:
            raise InputError(f"the configuration has {key}={value!r}, which no Rope can say: {REFUSED[key]}")
        if key in _LOOSE and value is not None:
            raise InputError(f"the configuration has {key}={value!r} beside its rope parameters and not in them: put "
                             "it into rope_parameters, with a rope_type")
        if key in ONLY and value not in ONLY[key][0]:
            raise InputError(f"the configuration has {key}={value!r}, which is no plain rotary embedding: "
                             f"{ONLY[key][1]}")
        if _about(key) and key not in _KNOWN:
            raise InputError(f"the configuration has {key}={value!r}, an unknown key about positions: if it changes "
                             "nothing, remove it; else build the encoding by hand")


def model_type(model: Mapping[str, Any]) -> str | None:
    """The model type, by its name or else by keys that only one has."""
    spelled = (name for keys, name in _SPELLED if all(key in model for key in keys))
    return model.get("model_type") or next(spelled, None)


def family(model: Mapping[str, Any]) -> Family | None:
    """What the released code does where the configuration is silent; None for an unknown model type."""
    name = model_type(model)
    return _NAMELESS if name is None else _NAMED.get(name)


def says(model: Mapping[str, Any]) -> bool:
    """Whether anything outside the rope parameters names a rotation: a key, or a model type with a known base."""
    named = None if model.get("model_type") is None else family(model)
    return any(model.get(key) is not None for key in _SAYING) or bool(named and named.base)


def layout(model: Mapping[str, Any]) -> Layout:
    """How channels pair: by the configuration's own word, else by its model type, else "split".

    Errors: `InputError` for an unknown model type without a word about it, or words that contradict.
    """
    said = {key: model[key] for key in INTERLEAVED if model.get(key) is not None}
    if model.get("position_embedding_type") == "rope_gptj":
        said["position_embedding_type"] = True
    for key, value in said.items():
        if not isinstance(value, bool):
            raise InputError(f"the configuration has {key}={value!r}: needed is True or False")
    if len(set(said.values())) > 1:
        raise InputError(f"the configuration says both layouts, by {' and '.join(said)}: remove one")
    if said:
        return "interleaved" if next(iter(said.values())) else "split"
    if (known := family(model)) is None:
        raise InputError(f"model_type={model['model_type']!r} is unknown, and so is which channels pair: add "
                         "rope_interleave, False for (i, i + r/2) or True for (2i, 2i + 1), and "
                         "partial_rotary_factor where only a part of the head turns")
    return known.layout


def of_layer(model: Mapping[str, Any], layer_type: str | None) -> tuple[dict[str, Any], dict[str, Any], bool]:
    """The rope parameters and the bases outside for one layer type, and whether the parameters are that type's own.

    Errors: `InputError` for a layer type that is needed and not given, that nothing answers to, or that does not turn.
    """
    given = {name: model[name] for name in NESTS if model.get(name) is not None and model[name] != {}}
    for name, value in given.items():
        if not isinstance(value, Mapping):
            raise InputError(f"the configuration has {name}={value!r}: needed is a dict of rope parameters, or None")
    if len(given) == 2 and given[NESTS[0]] != given[NESTS[1]]:
        raise InputError("the configuration has rope_parameters and rope_scaling, and they differ: remove one")
    inner = dict(next(iter(given.values()), {}))
    own = {key: model[key] for key, layers in LAYERS.items() if layers.own == layer_type and model.get(key) is not None}
    bases = own or {key: model[key] for key in BASES if model.get(key) is not None}
    if _by_layer(inner):
        layer = _nested(inner, layer_type)
        if model.get("model_type") in _SCALED and layer.get("rope_theta") is None:
            raise InputError(f"rope_parameters have no rope_theta for layer_type={layer_type!r}, and layer types of a "
                             f"{model['model_type']} have bases of their own: add it there")
        return layer, bases, True
    return _flat(model, inner, layer_type), bases, False


def _nested(inner: dict[str, Any], layer_type: str | None) -> dict[str, Any]:
    if layer_type not in inner:
        raise InputError(f"rope_parameters are nested by layer type and layer_type={layer_type!r} is none of them: "
                         f"give one of {', '.join(inner)}")
    stray = [key for key, value in inner.items() if not isinstance(value, Mapping) and value is not None]
    if stray:
        raise InputError(f"rope_parameters are nested by layer type and have {stray[0]!r} beside the types: move it "
                         "into those that it is for")
    if inner[layer_type] is None:
        raise InputError(f"rope_parameters have null for layer_type={layer_type!r}: in some models such layers do not "
                         "rotate, in others plainly; take NoPE for the first, write the others' parameters out")
    return dict(inner[layer_type])


def _flat(model: Mapping[str, Any], inner: dict[str, Any], layer_type: str | None) -> dict[str, Any]:
    """The rope parameters of a configuration that says by other keys, if at all, how layer types differ."""
    kinds = {key: layers for key, layers in LAYERS.items() if key in model}
    types = sorted({name for layers in kinds.values() for name in (layers.own, layers.other)})
    apart = [key for key in kinds if model[key] is not None] or list(NESTS[1:] if inner and kinds else ())
    if layer_type is None and apart:
        raise InputError(f"the configuration has {apart[0]}, so its layers turn differently: give layer_type, one of "
                         f"{', '.join(types)}")
    if layer_type is not None and layer_type not in types:
        raise InputError(f"nothing in the configuration answers to layer_type={layer_type!r}: "
                         + (f"give one of {', '.join(types)}" if types else "all layers that turn do so alike, leave "
                            "it out, and take NoPE for those that do not"))
    for key, layers in kinds.items() if inner and layer_type else ():
        if layers.scaled is None:
            raise InputError(f"the configuration has rope parameters and {key}, and not which layers are scaled: nest "
                             "the parameters by layer type")
        inner = inner if layers.scaled == layer_type else {}
    return inner
