"""A published configuration opened: which of its keys are about rotary embedding, and what they say of one layer."""

from __future__ import annotations

import numbers
import sys
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from posjax.encodings.published_families import (
    BACKWARDS,
    BASES,
    FILLED,
    IMPLIED,
    INTERLEAVED,
    KNOWN,
    LAYERS,
    LOOSE,
    NAMED,
    NAMELESS,
    NESTS,
    ONLY,
    OWN,
    READ,
    SAYING,
    SCALED,
    SPELLED,
    STILL,
    UNREAD,
    WORDS,
    Family,
    Layout,
)
from posjax.errors import InputError


class Configuration(Protocol):
    """A model's configuration as an object."""

    def to_dict(self) -> dict[str, Any]:
        """All that its file would hold."""
        ...


def opened(config: Any) -> dict[str, Any]:
    """The configuration of the text model, flat but for its rope parameters: objects, sections and bare ones opened.

    Errors: `InputError` for what is no configuration, or a section that contradicts what stands beside it.
    """
    config = _entries(config)
    model = config
    if _bare(config):
        model = {"rope_parameters": config}
    # A model of text and images has its text model inside; what both say must agree.
    if (text := model.get("text_config")) is not None:
        section = _entries(text)
        said = {key: value for key, value in model.items() if value is not None}
        _agreeing(section, said, "text_config")
        model = {"model_type": model.get("model_type"), **section}
    if isinstance(section := model.get("attn_config"), Mapping):
        model.update(_agreeing(model, section, "attn_config"))
    name = str(model.get("model_type"))
    model = {key: value for key, value in model.items() if key not in UNREAD.get(name, ())}
    # Before what the file has: a key that it gives, also as null, holds.
    return {**IMPLIED.get(name, {}), **model}


def _entries(config: Any) -> dict[str, Any]:
    """A configuration or a section of one as a dict, in which all that is read is what a JSON file can hold.

    Errors: `InputError` for what is no configuration, a key that is no text, or a value that no file holds.
    """
    # A class has a to_dict too, and is no configuration.
    is_object = not isinstance(config, Mapping | type)
    if is_object and callable(getattr(config, "to_dict", None)):
        config = config.to_dict()
    if not isinstance(config, Mapping):
        raise InputError(
            f"from_rope_parameters got a {type(config).__name__}: needed is a configuration, as a "
            "dict or an object with to_dict(); read the checkpoint's config.json"
        )
    for key in config:
        if not isinstance(key, str):
            raise InputError(f"the configuration has the key {key!r}: needed are texts")
    return {key: _plain(key, value, key in READ or _about(key)) for key, value in config.items()}


def _plain(name: str, value: Any, read: bool) -> Any:
    """A value with numbers of Python's own; what is not `read` may hold other objects too, which stay as they are."""
    if isinstance(value, Mapping):
        return {key: _plain(key, one, read) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(name, one, read) for one in value]
    if isinstance(value, np.generic):
        # A configuration in memory may hold numbers of numpy, which compute in their own narrow type.
        value = value.item()
    plain = value is None or isinstance(value, (bool, str))
    if not plain and isinstance(value, numbers.Real):
        size: Any = abs(value)
        plain = size <= sys.float_info.max  # False for NaN.
    if read and not (plain and isinstance(name, str)):
        raise InputError(
            f"the configuration has {name}={value!r}: needed is what a JSON file can hold, with finite numbers"
        )
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
    # A text model that is silent where its surroundings speak contradicts them too.
    for key, value in about.items():
        held = inside.get(key)
        if held != value and (held is not None or name == "text_config"):
            raise InputError(
                f"the configuration has {key}={value!r} on one side of {name} and {held!r} on the other: "
                "they contradict, remove one"
            )
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
    if name in STILL:
        raise InputError(f"the configuration has model_type={name!r}, which does not rotate: take {STILL[name]}")
    if name in BACKWARDS:
        raise InputError(
            f"the configuration has model_type={name!r}, whose code turns by minus the angle: swap the halves of each "
            "head's rows of queries and keys, and take the Rope that its keys name without a model_type"
        )
    # An old spelling that is empty is silence too, and a new one is a word.
    spoken = isinstance(model.get(NESTS[0]), Mapping) or bool(model.get(NESTS[1]))
    if name in SCALED and not spoken:
        raise InputError(
            f"the configuration of a {name} is silent about its rope parameters, and its class then takes "
            "some that are not plain: write them into rope_parameters"
        )
    if name == "baichuan" and model.get("hidden_size") != 4096:
        raise InputError(
            f"the configuration has model_type='baichuan' and hidden_size={model.get('hidden_size')!r}: of this type "
            "the 7B alone rotates, with 4096; take Alibi for the 13B"
        )
    # Every key that may be about positions is understood or refused: a rotation that is half read is a wrong one.
    for key, value in model.items():
        if key in LOOSE and value is not None:
            raise InputError(
                f"the configuration has {key}={value!r} beside its rope parameters and not in them: put "
                "it into rope_parameters, with a rope_type"
            )
        of_its_own = key in OWN.get(str(name), ()) and isinstance(value, bool)
        if key in ONLY and value not in ONLY[key][0] and not of_its_own:
            raise InputError(
                f"the configuration has {key}={value!r}, which is no plain rotary embedding: {ONLY[key][1]}"
            )
        if _about(key) and key not in KNOWN:
            raise InputError(
                f"the configuration has {key}={value!r}, an unknown key about positions: if it changes "
                "nothing, remove it; else build the encoding by hand"
            )


def model_type(model: Mapping[str, Any]) -> str | None:
    """The model type, by its name or else by keys that only one has."""
    spelled = (name for keys, name in SPELLED if all(key in model for key in keys))
    return model.get("model_type") or next(spelled, None)


def family(model: Mapping[str, Any]) -> Family | None:
    """What the released code does where the configuration is silent; None for an unknown model type."""
    name = model_type(model)
    if name is None:
        return NAMELESS
    return NAMED.get(name)


def says(model: Mapping[str, Any]) -> bool:
    """Whether anything outside the rope parameters names a rotation: a key, or a model type with a known base."""
    if any(model.get(key) is not None for key in SAYING):
        return True
    # By its name alone: keys that spell a family would have been found above.
    if model.get("model_type") is None:
        return False
    named = family(model)
    return bool(named and named.base)


def layout(model: Mapping[str, Any], given: Layout | None = None) -> Layout:
    """How channels pair: by the configuration's own word, else by its model type, else as `given`, else "split".

    Errors: `InputError` for an unknown model type without a word about it, or words that contradict.
    """
    if given not in (None, "split", "interleaved"):
        raise InputError(f"from_rope_parameters got layout={given!r}: needed is 'split', 'interleaved' or None")
    said = {key: model[key] for key in INTERLEAVED if model.get(key) is not None}
    if model.get("position_embedding_type") == "rope_gptj":
        said["position_embedding_type"] = True
    for key, value in said.items():
        if not isinstance(value, bool):
            raise InputError(f"the configuration has {key}={value!r}: needed is True or False")
    if len(set(said.values())) > 1:
        raise InputError(f"the configuration says both layouts, by {' and '.join(said)}: remove one")
    known = family(model)
    found = given
    if said:
        # All of them agree: any one will do.
        found = "interleaved" if next(iter(said.values())) else "split"
    elif known is not None and not (known is NAMELESS and given):
        found = known.layout
    if found is None:
        raise InputError(
            f"model_type={model['model_type']!r} is unknown, and so is which channels pair: give layout, 'split' for "
            "(i, i + r/2) or 'interleaved' for (2i, 2i + 1), and add partial_rotary_factor where only a part of the "
            "head turns"
        )
    if given not in (None, found):
        raise InputError(
            f"from_rope_parameters got layout={given!r}, and the configuration or its model type says {found!r}: leave "
            "it out; for converted weights, replace the layout of what is read"
        )
    return found


def of_layer(model: Mapping[str, Any], layer_type: str | None) -> tuple[dict[str, Any] | None, dict[str, Any], bool]:
    """The rope parameters and the bases outside for one layer type, and whether the parameters are that type's own.

    None instead of parameters: layers of that type do not turn.

    Errors: `InputError` for a layer type that is needed and not given, that nothing answers to, or that does not turn.
    """
    given = {name: model[name] for name in NESTS if model.get(name) is not None and model[name] != {}}
    for name, value in given.items():
        if not isinstance(value, Mapping):
            raise InputError(f"the configuration has {name}={value!r}: needed is a dict of rope parameters, or None")
    # Files from the change of spellings carry both, and then they must agree.
    if len(given) == 2 and given[NESTS[0]] != given[NESTS[1]]:
        raise InputError("the configuration has rope_parameters and rope_scaling, and they differ: remove one")
    nest = next(iter(given), NESTS[0])
    inner = dict(given.get(nest, {}))
    bases = {}
    for key, layers in LAYERS.items():
        if layers.own == layer_type and model.get(key) is not None:
            bases[key] = model[key]
    # A base of the layer type's own holds; without one, that of all layers.
    if not bases:
        bases = {key: model[key] for key in BASES if model.get(key) is not None}
    name = model.get("model_type")
    if _by_layer(inner):
        layer = _nested(inner, layer_type, nest)
        if layer is None and name in FILLED:
            raise InputError(
                f"{nest} has null for layer_type={layer_type!r}, where the class of model_type={name!r} fills in "
                "parameters of its own: write those out that are meant"
            )
        if layer is None:
            return None, bases, True
        _require_one_base(model, bases, layer)
        if model.get("model_type") in SCALED and layer.get("rope_theta") is None:
            raise InputError(
                f"rope_parameters have no rope_theta for layer_type={layer_type!r}, and layer types of a "
                f"{model['model_type']} have bases of their own: add it there"
            )
        return layer, bases, True
    if name in FILLED and inner and model.get(NESTS[0]):
        raise InputError(
            f"rope_parameters name no layer type, and the code of model_type={name!r} reads them by layer type alone: "
            "nest them under full_attention and sliding_attention"
        )
    _require_one_base(model, bases, {})
    return _flat(model, inner, layer_type), bases, False


def _require_one_base(model: Mapping[str, Any], outside: Mapping[str, Any], layer: Mapping[str, Any]) -> None:
    """Errors: `InputError` for a base that the released code takes for some of the layers, and its own for others."""
    known = NAMED["olmo3"].base
    if model.get("model_type") == "olmo3" and layer.get("rope_theta") is None:
        for key, value in outside.items():
            if value != known:
                raise InputError(
                    f"the configuration has {key}={value!r}, which the code of model_type='olmo3' takes for its "
                    f"full layers alone, and {known} for the others: give each layer type its own in rope_parameters"
                )


def _nested(inner: dict[str, Any], layer_type: str | None, nest: str) -> dict[str, Any] | None:
    if layer_type not in inner:
        raise InputError(
            f"rope_parameters are nested by layer type and layer_type={layer_type!r} is none of them: "
            f"give one of {', '.join(inner)}"
        )
    stray = [key for key, value in inner.items() if not isinstance(value, Mapping) and value is not None]
    if stray:
        raise InputError(
            f"rope_parameters are nested by layer type and have {stray[0]!r} beside the types: move it "
            "into those that it is for"
        )
    own = inner[layer_type]
    # What scales nothing leaves a plain rotation; what has no parameters of a rotation does not turn.
    if own is None and nest == NESTS[1]:
        raise InputError(
            f"rope_scaling has null for layer_type={layer_type!r}, which may mean no scaling or no rotation: take NoPE "
            "for the latter, write the parameters out for the former"
        )
    return own


def _flat(model: Mapping[str, Any], inner: dict[str, Any], layer_type: str | None) -> dict[str, Any]:
    """The rope parameters of a configuration that says by other keys, if at all, how layer types differ."""
    kinds = {key: layers for key, layers in LAYERS.items() if key in model}
    types = sorted({name for layers in kinds.values() for name in (layers.own, layers.other)})
    apart = [key for key in kinds if model[key] is not None]
    if not apart and inner and kinds:
        # The bases are the same, and the scaling is for some layers alone.
        apart = list(NESTS[1:])
    if layer_type is None and apart:
        raise InputError(
            f"the configuration has {apart[0]}, so its layers turn differently: give layer_type, one of "
            f"{', '.join(types)}"
        )
    if layer_type is not None and layer_type not in types:
        remedy = "all layers that turn do so alike, leave it out, and take NoPE for those that do not"
        if types:
            remedy = f"give one of {', '.join(types)}"
        raise InputError(f"nothing in the configuration answers to layer_type={layer_type!r}: {remedy}")
    if not inner or not layer_type:
        return inner
    for key, layers in kinds.items():
        if layers.scaled is None:
            raise InputError(
                f"the configuration has rope parameters and {key}, and not which layers are scaled: nest "
                "the parameters by layer type"
            )
        # Rope parameters that are for the other layers say nothing of these.
        if layers.scaled != layer_type:
            inner = {}
    return inner
