"""Published checkpoints: their rotary parameters as values, and back."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any

from posjax.encodings import published_keys as keys
from posjax.encodings.published_families import FRACTIONS, HEAD_SIZES, LENGTH, LONGEST, REFUSED
from posjax.encodings.rope import Rope
from posjax.encodings.schedules import (
    NTK,
    DynamicNTK,
    Interpolation,
    Llama3,
    LongRope,
    Plain,
    Proportional,
    Schedule,
    Yarn,
)
from posjax.errors import InputError

_Kind = tuple[Callable[..., Schedule], dict[str, str], dict[str, str]]

# For each type: its schedule, the keys that it needs, and those that it may have, by the names of our fields.
_KINDS: dict[str, _Kind] = {
    "default": (Plain, {}, {}),
    "linear": (Interpolation, {"factor": "factor"}, {}),
    "dynamic": (DynamicNTK, {"factor": "factor", LENGTH: "original_length"}, {}),
    "yarn": (
        Yarn,
        {"factor": "factor", LENGTH: "original_length"},
        {name: name for name in ("beta_fast", "beta_slow", "truncate", "attention_factor", "mscale", "mscale_all_dim")},
    ),
    "llama3": (
        Llama3,
        {"factor": "factor", LENGTH: "original_length"},
        {name: name for name in ("low_freq_factor", "high_freq_factor")},
    ),
    "longrope": (
        LongRope,
        {"factor": "factor", LENGTH: "original_length", "short_factor": "short_factor", "long_factor": "long_factor"},
        {"attention_factor": "attention_factor"},
    ),
    # The share is of the pairs that turn, over the exponents of the whole head: the schedule's, not the Rope's.
    "proportional": (Proportional, {"partial_rotary_factor": "fraction"}, {"factor": "factor"}),
}
_BY_ALPHA: _Kind = (NTK, {"alpha": "factor"}, {})
"""What type "dynamic" is with an alpha: the base grows by it once, at every length."""
_ALIASES = {"su": "longrope"}
_IDLE = {"dynamic": ("beta_fast", "beta_slow", "mscale", "mscale_all_dim")}
"""Keys that checkpoints carry beside a type and that change nothing; "finetuned" beside every type."""

_INNER = {
    "type",
    "rope_type",
    "rope_theta",
    "finetuned",
    "alpha",
    "factor",
    "short_mscale",
    "long_mscale",
    LONGEST,
    *REFUSED,
    *(key for _, needs, may in _KINDS.values() for key in (*needs, *may)),
}


def from_rope_parameters(config: Mapping[str, Any] | keys.Configuration, layer_type: str | None = None) -> Rope:
    """The `Rope` of a published checkpoint's configuration, which is understood or refused.

    Reads a configuration as a dict, or an object with `to_dict()`: `rope_theta` beside `rope_scaling` with `type` or
    `rope_type`; all of it inside `rope_parameters`, once or by layer type; those rope parameters alone, as
    `to_rope_parameters` writes them; and inside `text_config` or `attn_config`. Bases and shares of the head are read
    under their older names too: `rotary_emb_base`, `rotary_pct`, `rotary_emb_fraction`, `rotary_dim`, `rope_ratio`.

    `layer_type`: where layers turn differently, which of them: the name under which parameters are nested; else
    "full_attention" or "sliding_attention" beside `rope_local_base_freq`, `local_rope_theta` or `swa_rope_theta`, and
    "main" or "compress" beside `compress_rope_theta`. Layers without a rotation, such as those of `no_rope_layers`,
    are the caller's to leave out.

    Convention: the layout is what `rope_interleave` or `original_rope` says, else that of the model type's released
    code, else, without a model type, "split" (GPT-J's and ChatGLM's spellings: "interleaved"). A base or share left
    out is the model type's where that is known; without a model type, 10,000 and the whole head. A "dynamic"
    schedule's trained length is `max_position_embeddings`, as in the released code; other types read
    `original_max_position_embeddings`, and `max_position_embeddings` where there is none. A factor of YaRN or LongRoPE
    left out is the quotient of the two. Softmax scales by `mscale_all_dim` (DeepSeek) are no part of a `Rope`.

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
    inner, bases, layered = keys.of_layer(model, layer_type)
    if not inner and not keys.says(model):
        raise InputError(
            f"the configuration (model_type={model.get('model_type')!r}) names nothing rotary: take the "
            "encoding that the model has; if it rotates give rope_theta, or the section that names it"
        )
    # Each of these takes its own keys out of `inner`: what is left at the end is the schedule's, or unknown.
    base = _base(model, inner, bases, layered)
    fraction = _fraction(model, inner, layered)
    kind = _kind(inner)
    given = {key: value for key, value in inner.items() if value is not None}
    _lengths(kind, given, model, layered)
    _settle(kind, given)
    if kind == "proportional":
        # The share is the schedule's there, and all channels count for its exponents.
        given["partial_rotary_factor"] = fraction
        fraction = 1.0
    schedule = _schedule(kind, given)
    layout = keys.layout(model)
    return Rope(base=base, schedule=schedule, layout=layout, fraction=fraction)


def _schedule(kind: str, given: dict[str, Any]) -> Schedule:
    schedule, needs, may = _KINDS[kind]
    if kind == "dynamic" and "alpha" in given:
        schedule, needs, may = _BY_ALPHA
    known = {*needs, *may}
    unknown = sorted(set(given) - known)
    if unknown:
        raise InputError(
            f"rope parameters of type {kind!r} have the unknown key {unknown[0]!r}: known are "
            f"{', '.join([*needs, *may]) or 'none'}"
        )
    missing = [key for key in needs if key not in given]
    if missing:
        raise InputError(f"rope parameters of type {kind!r} lack {missing[0]!r}: give it beside the type")
    fields = {}
    for key, ours in {**needs, **may}.items():
        if key in given:
            fields[ours] = _value(given[key])
    return schedule(**fields)


def _value(given: Any) -> Any:
    if not isinstance(given, (list, tuple)):
        return given
    # What is no number stays as it is, and the schedule names it.
    each = []
    for one in given:
        each.append(float(one) if isinstance(one, numbers.Real) else one)
    return tuple(each)


def _kind(inner: dict[str, Any]) -> str:
    for key, remedy in REFUSED.items():
        if inner.get(key) is not None:
            raise InputError(f"rope parameters have {key}={inner[key]!r}, which no Rope can say: {remedy}")
    for key in inner.keys() - _INNER:
        # A null is passed over below, but not where nobody knows what it would be a null of.
        if inner[key] is None:
            raise InputError(f"rope parameters have the unknown key {key!r}: remove it")
    old = inner.pop("type", None)
    new = inner.pop("rope_type", None)
    for kind in (old, new):
        if kind is not None and not isinstance(kind, str):
            raise InputError(f"rope parameters have the type {kind!r}: needed is one of {', '.join(_KINDS)}")
    if old is not None and new is not None and _ALIASES.get(old, old) != _ALIASES.get(new, new):
        raise InputError(f"rope parameters have type={old!r} and rope_type={new!r}: they contradict, remove one")
    # Files from the change of spellings carry both.
    kind = "default"
    if new is not None:
        kind = new
    elif old is not None:
        kind = old
    kind = _ALIASES.get(kind, kind)
    if kind not in _KINDS:
        raise InputError(f"rope parameters have the unknown type {kind!r}: known are {', '.join(_KINDS)}")
    return kind


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
    if fraction is not None:
        return fraction
    known = keys.family(model)
    if known is None:
        return 1.0
    if known.fraction is None:
        raise InputError(
            f"model_type={model.get('model_type')!r} turns only a part of the head, and the configuration "
            "says not which: add partial_rotary_factor or rotary_dim"
        )
    return known.fraction


def _share_of_channels(model: dict[str, Any], turning: Any, fraction: float | None) -> float:
    """The share of the head that so many channels are, held against the share that is said beside."""
    size = _head_size(model)
    if int(_number("rotary_dim", turning)) != turning:
        raise InputError(f"the configuration has rotary_dim={turning}: needed is a whole number of channels")
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
    name = LENGTH
    outside = model.get(LENGTH)
    if kind == "dynamic":
        name = LONGEST
        outside = longest
    # The released code of a dynamic schedule reads the length outside whatever stands within, also by layer type.
    settled = not layered or kind == "dynamic"
    if settled and LENGTH in given and outside is not None and given[LENGTH] != outside:
        raise InputError(
            f"the configuration has {name}={outside} and, inside its rope parameters, {LENGTH}="
            f"{given[LENGTH]}: they contradict, remove one"
        )
    original = outside
    if original is None:
        original = longest
    if LENGTH in _KINDS[kind][1] and "alpha" not in given and original is not None:
        given.setdefault(LENGTH, original)
    if kind in ("yarn", "longrope") and "factor" not in given and longest and given.get(LENGTH):
        trained = _number(LENGTH, given[LENGTH])
        factor = _number(LONGEST, longest) / trained
        # A LongRoPE trained beyond the longest is no extension, and the released code takes 1; YaRN is refused.
        if kind == "longrope":
            factor = max(factor, 1.0)
        given["factor"] = factor


def _settle(kind: str, given: dict[str, Any]) -> None:
    """Takes out what changes nothing, and says in our words what has others."""
    given.pop("finetuned", None)
    for key in _IDLE.get(kind, ()):
        given.pop(key, None)
    if given.get("factor") == 1 and (kind in ("default", "proportional") or "alpha" in given):
        given.pop("factor")
    # With mscale at 1 alone both released readings of it give 0.1 ln(factor) + 1; with another they part.
    if kind == "yarn" and given.get("mscale") == 1 and not given.get("mscale_all_dim"):
        given.pop("mscale")
        given.pop("mscale_all_dim", None)
    if kind == "longrope" and {"short_mscale", "long_mscale"} & set(given):
        short = given.pop("short_mscale", None)
        long = given.pop("long_mscale", None)
        if short != long or given.setdefault("attention_factor", short) != short:
            raise InputError(
                f"rope parameters have short_mscale={short}, long_mscale={long} and attention_factor="
                f"{given.get('attention_factor')}: LongRope has one, attention_factor, so they must agree"
            )


def to_rope_parameters(rope: Rope) -> dict[str, Any]:
    """The `rope_parameters` that a checkpoint of this `Rope` carries, in the new spelling.

    Convention: `from_rope_parameters` reads them back to an equal `Rope`, alone or inside a configuration that has no
    share of the head of its own: a whole head is not written down, as in the released files.

    Errors: `InputError` for a schedule without a published name or with a length set, for the interleaved layout, or
    for a fraction beside a proportional schedule, none of which rope parameters can say.

    >>> to_rope_parameters(Rope(base=5e5))
    {'rope_type': 'default', 'rope_theta': 500000.0}
    """
    if not isinstance(rope, Rope):
        raise InputError(f"to_rope_parameters got {rope!r}: needed is a Rope, the only encoding with such parameters")
    if rope.layout != "split":
        raise InputError(
            "rope parameters cannot say layout='interleaved': convert the weights with convert_layout and use 'split'"
        )
    if getattr(rope.schedule, "length", None) is not None:
        raise InputError(
            f"rope parameters cannot say the length of {rope.schedule!r}: write the Rope as it was before at_length"
        )
    if isinstance(rope.schedule, Proportional) and rope.fraction != 1.0:
        raise InputError(f"rope parameters cannot say fraction={rope.fraction} beside {rope.schedule!r}: use 1")
    for kind, (schedule, needs, may) in _KINDS.items():
        if schedule is type(rope.schedule):
            written: dict[str, Any] = {"rope_type": kind, "rope_theta": rope.base}
            # A whole head is not written down, as in the released files.
            if rope.fraction != 1.0:
                written["partial_rotary_factor"] = rope.fraction
            for key, ours in {**needs, **may}.items():
                value = getattr(rope.schedule, ours)
                if isinstance(value, tuple):
                    value = list(value)  # JSON has no tuples.
                if value is not None:
                    written[key] = value
            return written
    raise InputError(f"{rope.schedule!r} has no published name: known are {', '.join(_KINDS)}")
