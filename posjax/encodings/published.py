"""Published checkpoints: their rotary parameters as values, and back."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from typing import Any

from posjax.encodings import published_keys as keys
from posjax.encodings.base import Encoding, NoPE
from posjax.encodings.chain import chain
from posjax.encodings.log_n import LogN
from posjax.encodings.published_families import (
    BASES,
    FRACTIONS,
    HEAD_SIZES,
    IMPLIED,
    INTERLEAVED,
    LAYERS,
    LENGTH,
    LONGEST,
    TEMPERED,
    Layout,
)
from posjax.encodings.published_reads import (
    outside_name,
    parted,
    require_by_layer,
    require_length_inside,
    require_read,
    unread as not_read,
)
from posjax.encodings.published_schedules import KINDS, kind_of, schedule_of
from posjax.encodings.rope import Rope
from posjax.encodings.schedules import DynamicNTK
from posjax.encodings.step_temperature import StepTemperature
from posjax.errors import InputError


def from_rope_parameters(
    config: Mapping[str, Any] | keys.Configuration, layer_type: str | None = None, layout: Layout | None = None
) -> Encoding:
    """The encoding that a published checkpoint's configuration names, which is understood or refused: mostly a `Rope`.

    Reads a configuration as a dict, or an object with `to_dict()`: `rope_theta` beside `rope_scaling` with `type` or
    `rope_type`; all of it inside `rope_parameters`, once or by layer type; those rope parameters alone, as
    `to_rope_parameters` writes them; and inside `text_config` or `attn_config`. Bases and shares of the head are read
    under their older names too: `rotary_emb_base`, `rotary_pct`, `rotary_emb_fraction`, `rotary_dim`, `rope_ratio`.
    Of a known model type those count that its released code reads; another one that would change anything is refused.

    `layer_type`: where layers turn differently, which of them: the name under which parameters are nested; else
    "full_attention" or "sliding_attention" beside `rope_local_base_freq`, `local_rope_theta` or `swa_rope_theta`, and
    "main" or "compress" beside `compress_rope_theta`. It is `NoPE()` where `rope_parameters` has null for that type,
    unless the class of the model type fills that in, which is refused;
    other layers without a rotation, such as those of `no_rope_layers`, are the caller's to leave out. `layout`: which
    channels pair, needed where the model type is unknown and the configuration does not say it.

    Convention: the layout is what `rope_interleave` or `original_rope` says, else that of the model type's released
    code, else, without a model type, "split" (GPT-J's and ChatGLM's spellings: "interleaved"). A base or share left
    out is the model type's where that is known; without a model type, 10,000 and the whole head. With
    `qk_rope_head_dim` (latent attention) the head is the part that turns. A "dynamic" schedule's trained length is
    `max_position_embeddings`, as in the released code; other types read `original_max_position_embeddings`, and
    `max_position_embeddings` where there is none. A factor of YaRN or LongRoPE left out is the quotient of both, said.
    Positions are those of text: `mrope_section` then changes nothing. Queries that grow with their position are
    chained: `StepTemperature` for `llama_4_scaling_beta`, `LogN` for Qwen's `use_logn_attn`. Scores are not read:
    DeepSeek's softmax scale by `mscale_all_dim` is `Yarn.score_factor`, and dual chunk attention is `near_far`'s.

    Errors: `InputError` that names what is unknown, missing or contradicts: a type, a layer type, a model type, or a
    key; any key with "rope", "rotary", "theta", "alibi" or "position" in it is one of the known or refused, and so is
    a configuration that names nothing rotary.
    Source: the released configurations and code of the models named, as transformers 5.24 reads them.

    >>> from_rope_parameters({"rope_theta": 1e6, "rope_scaling": {"type": "linear", "factor": 2.0}})
    Rope(base=1000000.0, schedule=Interpolation(factor=2.0), layout='split', fraction=1.0)
    >>> from_rope_parameters({"model_type": "gptj", "rotary_dim": 64, "n_embd": 4096, "n_head": 16})
    Rope(base=10000.0, schedule=Plain(), layout='interleaved', fraction=0.25)
    """
    if layer_type is not None and not isinstance(layer_type, str):
        raise InputError(f"from_rope_parameters got layer_type={layer_type!r}: needed is a name, or None")
    model = keys.opened(config)
    keys.check(model)
    model, unread = parted(model)
    inner, bases, layered = keys.of_layer(model, layer_type)
    if inner is None:
        return NoPE()
    inner = dict(inner)
    if not inner and not keys.says(model):
        raise InputError(
            f"the configuration (model_type={model.get('model_type')!r}) names nothing rotary: take the "
            "encoding that the model has; if it rotates give rope_theta, or the section that names it"
        )
    # Each of these takes its own keys out of `inner`: what is left at the end is the schedule's, or unknown.
    require_by_layer(model, inner, layered)
    kind = kind_of(inner)
    require_read(model.get("model_type"), kind, inner)
    base = _base(model, inner, bases, layered)
    fraction = _fraction(model, inner, layered)
    given = {key: value for key, value in inner.items() if value is not None}
    if kind == "yarn" and inner.get("truncate", True) is None:
        # Of all keys the one whose null is another thing than silence: the released code takes it for false.
        given["truncate"] = False
    require_length_inside(kind, given, model, layered)
    _lengths(kind, given, model, layered)
    # Its compressed layers do not multiply by YaRN's factor, unless a section of their own says one.
    if model.get("model_type") == "deepseek_v4" and layer_type == "compress" and kind == "yarn" and not layered:
        given.setdefault("attention_factor", 1.0)
    temperature = _temperature(kind, given, model)
    if kind == "proportional":
        # The share is the schedule's there, and all channels count for its exponents.
        given["partial_rotary_factor"] = fraction
        fraction = 1.0
    schedule = schedule_of(kind, given)
    if model.get("use_dynamic_ntk"):
        if kind != "default":
            raise InputError(f"the configuration has use_dynamic_ntk=True and type {kind!r}: remove one")
        schedule = DynamicNTK(2.0, _trained(model), doubling=True)
    rope = Rope(base=base, schedule=schedule, layout=keys.layout(model, layout), fraction=fraction)
    _require_said(unread, model, rope)
    return chain(rope, temperature)


def _require_said(unread: dict[str, Any], model: dict[str, Any], rope: Rope) -> None:
    """Errors: `InputError` for a key that is not read and says something else than what is."""
    bases = [rope.base, *(model.get(key) for key in (*BASES, *LAYERS))]
    for key, value in unread.items():
        same = False
        if key in FRACTIONS and not isinstance(value, bool):
            same = value == rope.fraction
        elif key in INTERLEAVED and isinstance(value, bool):
            same = value == (rope.layout == "interleaved")
        elif key == "position_embedding_type":
            same = rope.layout == "interleaved"
        elif key == "rotary_dim":
            same = value == int(_head_size({**model, key: value}) * rope.fraction)
        elif key in (*BASES, *LAYERS):
            same = value in bases
        if not same:
            raise not_read(key, value, model.get("model_type"))


def _temperature(kind: str, given: dict[str, Any], model: dict[str, Any]) -> Encoding:
    """What scales queries by their position, whose keys are taken out of `given`."""
    if model.get("use_logn_attn"):
        return LogN(_trained(model))
    beta = given.pop("llama_4_scaling_beta", None)
    if not beta:
        return NoPE()
    if model.get("model_type") not in TEMPERED:
        raise InputError(
            f"rope parameters have llama_4_scaling_beta={beta!r}, which the code of model_type="
            f"{model['model_type']!r} does not read: remove it, or chain StepTemperature to what is read"
        )
    window = given.get(LENGTH)
    if window is None:
        raise InputError(f"rope parameters have llama_4_scaling_beta={beta!r} and lack {LENGTH!r}: give it beside")
    # Of the other types it is the temperature's alone.
    if LENGTH not in KINDS[kind][1]:
        given.pop(LENGTH)
    return StepTemperature(beta, window)


def _trained(model: dict[str, Any]) -> int:
    """The trained length of Qwen, the first of its name."""
    if model.get("seq_length") is None:
        raise InputError(
            "the configuration has use_dynamic_ntk or use_logn_attn, and no trained length: add seq_length"
        )
    return model["seq_length"]


def _base(model: dict[str, Any], inner: dict[str, Any], outside: dict[str, Any], layered: bool) -> float:
    base = _agreed("rope_theta", inner, outside, layered)
    known = keys.family(model)
    if base is None and known is not None:
        base = known.base
    if base is None:
        raise InputError(
            f"the configuration names no base, and that of model_type={model.get('model_type')!r} is "
            "unknown: add rope_theta"
        )
    ratio = model.get("rope_ratio")
    if ratio is None:
        return base
    if keys.model_type(model) != "chatglm":
        raise InputError(
            f"the configuration has rope_ratio={ratio!r} and model_type={model.get('model_type')!r}: only "
            "for 'chatglm' is it known, as a factor of the base; give rope_theta instead"
        )
    if ratio != 1 and "chatglm2" in str(model.get("_name_or_path")).lower():
        raise InputError(
            f"the configuration has rope_ratio={ratio!r} and is a ChatGLM 2: its code divides positions "
            "by it, while later ones multiply the base; remove it and take "
            f"Rope(schedule=Interpolation({ratio!r}), layout='interleaved', fraction=0.5)"
        )
    return base * _number("rope_ratio", ratio)


def _fraction(model: dict[str, Any], inner: dict[str, Any], layered: bool) -> float:
    """The share of the head that turns, under any of its names."""
    outside = {key: model[key] for key in FRACTIONS if model.get(key) is not None}
    # What a layer type says of itself holds, whatever a count of channels says for all of them.
    own = layered and inner.get("partial_rotary_factor") is not None
    fraction = _agreed("partial_rotary_factor", inner, outside, layered)
    if not own and model.get("rotary_dim") is not None:
        return _share_of_channels(model, model["rotary_dim"], fraction)
    if fraction is not None and model.get("qk_rope_head_dim") is not None:
        return _share_of_latent(model, fraction)
    if fraction is not None:
        return fraction
    known = keys.family(model)
    if known is None:
        return 1.0
    name = model.get("model_type")
    if known.fraction is None:
        raise InputError(
            f"model_type={name!r} turns only a part of the head, and the configuration says not which: add "
            f"{outside_name(name, 'partial_rotary_factor')}"
        )
    return known.fraction


def _share_of_channels(model: dict[str, Any], turning: Any, fraction: float | None) -> float:
    """The share of the head that so many channels are, held against the share that is said beside."""
    size = _head_size(model)
    if int(_number("rotary_dim", turning)) != turning:
        raise InputError(f"the configuration has rotary_dim={turning}: needed is a whole number of channels")
    if not 0 < turning <= size:
        raise InputError(
            f"the configuration has rotary_dim={turning}: needed are 1 to {size} channels, those of a head"
        )
    if fraction is not None and int(size * fraction) != turning:
        raise InputError(
            f"the configuration has rotary_dim={turning} for a head of {size} and a share of "
            f"{fraction}: they contradict, remove one"
        )
    if fraction is not None:
        return fraction
    share = _number("rotary_dim", turning) / size
    # Rope rounds down, so a quotient that is a hair too small would turn a pair less.
    if int(size * share) != turning:
        share = math.nextafter(share, 1.0)
    return share


def _share_of_latent(model: dict[str, Any], fraction: float) -> float:
    """1: a latent attention's queries and keys have a part that turns whole, whatever share of all that part is."""
    turning = _number("qk_rope_head_dim", model["qk_rope_head_dim"])
    sizes = [turning]
    for key in ("head_dim", "qk_head_dim"):
        if model.get(key) is not None:
            sizes.append(_number(key, model[key]))
    if model.get("qk_nope_head_dim") is not None:
        sizes.append(turning + _number("qk_nope_head_dim", model["qk_nope_head_dim"]))
    if not any(int(size * fraction) == turning for size in sizes):
        raise InputError(
            f"the configuration has qk_rope_head_dim={model['qk_rope_head_dim']} and a share of {fraction}, which "
            "is that of no head size in it: they contradict, remove one"
        )
    return 1.0


def _head_size(model: dict[str, Any]) -> int:
    for where in HEAD_SIZES:
        width, heads = where if isinstance(where, tuple) else (where, None)
        if model.get(width) and (heads is None or model.get(heads)):
            size = _number(width, model[width])
            if heads is not None:
                size = size / _number(heads, model[heads])
            size = int(size)
            if size < 1:
                raise InputError(
                    f"the configuration has {width}={model[width]}, which leaves no channel to a head: give head_dim"
                )
            return size
    raise InputError(f"the configuration has rotary_dim={model['rotary_dim']} and no head size: add head_dim")


def _agreed(name: str, inner: dict[str, Any], outside: dict[str, Any], layered: bool) -> float | None:
    """The one number that all of them say; what a layer type says of itself holds, whatever stands once for all."""
    inside = inner.pop(name, None)
    said = dict(outside)
    if layered and inside is not None:
        said = {}
    if inside is not None:
        said[f"rope_parameters.{name}"] = inside
    values = {key: _number(key, value) for key, value in said.items()}
    for key, value in values.items():
        if name == "rope_theta" and value <= 1:
            raise InputError(f"the configuration has {key}={value}: needed is a base above 1, usually 10,000 or more")
        if name != "rope_theta" and not 0 < value <= 1:
            raise InputError(
                f"the configuration has {key}={value}: needed is a share of the head, above 0 and 1 at most"
            )
    if len(set(values.values())) > 1:
        both = " and ".join(f"{key}={value}" for key, value in said.items())
        raise InputError(f"the configuration has {both}: they contradict, remove one")
    return next(iter(values.values()), None)


def _number(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InputError(f"the configuration has {key}={value!r}: needed is a number")
    return float(value)


def _lengths(kind: str, given: dict[str, Any], model: dict[str, Any], layered: bool) -> None:
    """Fills in the trained length and a factor from the model's own lengths, where they are left out."""
    longest = model.get(LONGEST)
    inside = given.pop(LONGEST, None)
    if inside is not None and longest is not None and inside != longest:
        raise InputError(
            f"the configuration has {LONGEST}={longest} and, inside its rope parameters, {inside}: they "
            "contradict, remove one"
        )
    if longest is None:
        longest = inside
    if longest is not None and (_number(LONGEST, longest) < 1 or longest != int(longest)):
        raise InputError(f"the configuration has {LONGEST}={longest}: needed is a whole number of tokens, 1 or more")
    name = LENGTH
    outside = model.get(LENGTH)
    if kind == "dynamic":
        name = LONGEST
        outside = longest
    # The released code of a dynamic schedule reads the length outside whatever stands within, also by layer type.
    settled = not layered or kind == "dynamic"
    if settled and LENGTH in given and outside is not None and given[LENGTH] != outside:
        which, remedy = "", "remove one"
        implied = IMPLIED.get(str(model.get("model_type")), {})
        if outside == implied.get(name):
            which = f" (as model_type={model['model_type']!r} has where the key is missing)"
            remedy = f"give {name} beside them"
        raise InputError(
            f"the configuration has {name}={outside}{which} and, inside its rope parameters, {LENGTH}="
            f"{given[LENGTH]}: they contradict, {remedy}"
        )
    original = outside
    if original is None:
        original = longest
    said = LENGTH in given or outside is not None
    if LENGTH in KINDS[kind][1] and "alpha" not in given and original is not None:
        given.setdefault(LENGTH, original)
    # The longest over itself would be a factor of 1, which turns an extension off without a word.
    derived = kind in ("yarn", "longrope") and "factor" not in given
    if derived and not said:
        raise InputError(
            f"rope parameters of type {kind!r} have neither {LENGTH!r} nor a factor, and what the model was trained "
            f"on is not known: add {LENGTH}"
        )
    if derived and longest and given.get(LENGTH):
        trained = _number(LENGTH, given[LENGTH])
        factor = _number(LONGEST, longest) / trained
        # A LongRoPE trained beyond the longest is no extension, and the released code takes 1; YaRN is refused.
        if kind == "longrope":
            factor = max(factor, 1.0)
        given["factor"] = factor
