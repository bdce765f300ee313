"""Rotary encodings as the rope parameters of a checkpoint's configuration, in either spelling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from posjax.encodings import published_keys as keys
from posjax.encodings.base import Encoding, NoPE
from posjax.encodings.chain import Chain
from posjax.encodings.published_families import FILLED, LAYERS, TEMPERED
from posjax.encodings.published_reads import keeps_by_layer, outside_name, reads, require_read
from posjax.encodings.published_schedules import BY_ALPHA, KINDS
from posjax.encodings.rope import Rope
from posjax.encodings.schedules import NTK, LongRope, Plain, Proportional, Schedule, Yarn
from posjax.encodings.step_temperature import StepTemperature
from posjax.errors import InputError

Spelling = Literal["rope_parameters", "rope_scaling"]
_OUTSIDE = ("rope_theta", "partial_rotary_factor")
"""What the old spelling has beside `rope_scaling` and not in it."""


def to_rope_parameters(
    encoding: Encoding | Mapping[str, Encoding],
    spelling: Spelling = "rope_parameters",
    model_type: str | None = None,
) -> dict[str, Any]:
    """The rope parameters that a checkpoint with this `Rope` carries, or with these by the name of their layer type.

    `spelling`: "rope_parameters" gives what stands under that name, which is all; "rope_scaling" gives the older keys
    of the configuration itself, `rope_theta` and `rope_scaling` with both `type` and `rope_type`. A `NoPE()` among
    layer types becomes null, a `StepTemperature` after a `Rope` `llama_4_scaling_beta`. `model_type`: whose files they
    are for, if its code turns neighbouring channels or a part of the head.

    Convention: `from_rope_parameters` reads them back to equal values, alone or inside a configuration of that model
    type that has no share of the head of its own: a whole head is not written down, as in the released files. The old
    spelling has the model type's names for base and share. It says layer types as Gemma 3 does: a plain
    "sliding_attention" of another base beside "full_attention".

    Errors: `InputError` for what rope parameters cannot say: a schedule without a published name or with a length set,
    a layout that is not the model type's, a fraction beside a proportional schedule, another encoding; and for what
    the code of the model type would not read in them.

    >>> to_rope_parameters(Rope(base=5e5))
    {'rope_type': 'default', 'rope_theta': 500000.0}
    >>> to_rope_parameters(Rope(base=5e5), "rope_scaling")
    {'rope_theta': 500000.0, 'rope_scaling': None}
    """
    if spelling not in ("rope_parameters", "rope_scaling"):
        raise InputError(f"to_rope_parameters got spelling={spelling!r}: needed is 'rope_parameters' or 'rope_scaling'")
    if keeps_by_layer(model_type, isinstance(encoding, Mapping)):
        _require_read_by_layer(encoding, model_type)
    by_type = isinstance(encoding, Mapping) and NoPE() not in encoding.values()
    if model_type in FILLED and spelling == "rope_parameters" and not by_type:
        raise InputError(
            f"the code of model_type={model_type!r} reads rope parameters by layer type alone, and fills in what is "
            "null: give a Rope for each layer type"
        )
    if not isinstance(encoding, Mapping):
        written = _parameters(encoding, model_type)
        if spelling == "rope_scaling":
            return _old(written, model_type)
        return written
    if spelling == "rope_scaling":
        return _old_by_layer(encoding, model_type)
    by_layer: dict[str, Any] = {}
    for name, one in encoding.items():
        by_layer[name] = None
        if one != NoPE():
            by_layer[name] = _parameters(one, model_type)
    return by_layer


def _parameters(encoding: Encoding, model_type: str | None) -> dict[str, Any]:
    rope = encoding
    temperature = None
    if isinstance(encoding, Chain) and len(encoding.parts) == 2:
        rope, temperature = encoding.parts
    if not isinstance(rope, Rope) or not isinstance(temperature, StepTemperature | None):
        raise InputError(
            f"to_rope_parameters got {encoding!r}: needed is a Rope, the only encoding with such parameters, or one "
            "chained with a StepTemperature"
        )
    known = keys.family({"model_type": model_type})
    _require_read(rope, model_type)
    if known is None or rope.layout != known.layout:
        raise InputError(
            f"rope parameters cannot say layout={rope.layout!r} for model_type={model_type!r}: give the model type "
            "whose code turns such pairs, or convert the weights with convert_layout and use 'split'"
        )
    if getattr(rope.schedule, "length", None) is not None:
        raise InputError(
            f"rope parameters cannot say the length of {rope.schedule!r}: write the Rope as it was before at_length"
        )
    if isinstance(rope.schedule, Proportional) and rope.fraction != 1.0:
        raise InputError(f"rope parameters cannot say fraction={rope.fraction} beside {rope.schedule!r}: use 1")
    kind, fields = _named(rope.schedule)
    written = {"rope_type": kind, "rope_theta": rope.base}
    # A whole head is not written down, as in the released files, unless the model type's is another.
    if rope.fraction != 1.0 or known.fraction != 1.0:
        written["partial_rotary_factor"] = rope.fraction
    written.update(fields)
    if temperature is not None:
        written["llama_4_scaling_beta"] = _beta(rope, temperature, model_type)
    return written


def _require_read_by_layer(encoding: Encoding | Mapping[str, Encoding], model_type: str | None) -> None:
    """Errors: `InputError` for what code that keeps rope parameters by layer type does not read in them."""
    every = encoding.values() if isinstance(encoding, Mapping) else (encoding,)
    for one in every:
        schedule = getattr(one, "schedule", None)
        if isinstance(schedule, Yarn) and not schedule.truncate:
            raise InputError(
                f"rope parameters cannot say {schedule!r} for model_type={model_type!r}, whose code reads no truncate "
                "where layer types differ: take truncate=True"
            )


def _require_read(rope: Rope, model_type: str | None) -> None:
    """Errors: `InputError` for what rope parameters may say, and the code of the model type does not read in them."""
    read = reads(model_type)
    if read is None:
        return
    if not read.sections:
        raise InputError(
            f"rope parameters cannot say {rope!r} for model_type={model_type!r}, whose code reads none: it reads "
            f"{' and '.join(read.outside) or 'nothing about its rotation'}"
        )
    partial = not isinstance(rope.schedule, Proportional) and rope.fraction != 1.0
    if partial and not read.part:
        raise InputError(
            f"rope parameters cannot say fraction={rope.fraction} for model_type={model_type!r}, whose code turns the "
            "whole head: take fraction=1.0"
        )
    if isinstance(rope.schedule, NTK) and "alpha" not in read.more:
        raise InputError(
            f"rope parameters cannot say {rope.schedule!r} for model_type={model_type!r}, whose code reads no alpha: "
            "take a plain Rope, with the base that this one grows to"
        )
    both = isinstance(rope.schedule, LongRope) and rope.schedule.long_attention_factor is not None
    if both and "long_mscale" not in read.more:
        raise InputError(
            f"rope parameters cannot say {rope.schedule!r} for model_type={model_type!r}, whose code reads one "
            "attention factor: take long_attention_factor=None"
        )
    kind, _ = _named(rope.schedule)
    require_read(model_type, kind, {})


def _named(schedule: Schedule) -> tuple[str, dict[str, Any]]:
    """The type of a schedule, and its keys."""
    kinds = [("dynamic", BY_ALPHA), *KINDS.items()]
    for kind, (made, needs, may) in kinds:
        if made is not type(schedule):
            continue
        written = {}
        for key, ours in {**needs, **may}.items():
            value = getattr(schedule, ours)
            if isinstance(value, tuple):
                value = list(value)  # JSON has no tuples.
            if value is not None:
                written[key] = value
        # Keys by the names of fields are not all: two fields have a spelling of their own, or none.
        if getattr(schedule, "doubling", False):
            break
        if isinstance(schedule, LongRope) and schedule.long_attention_factor is not None:
            _with_both_factors(schedule, written)
        return kind, written
    raise InputError(f"{schedule!r} has no published name: known are {', '.join(KINDS)}")


def _with_both_factors(schedule: LongRope, written: dict[str, Any]) -> None:
    if schedule.attention_factor is None:
        raise InputError(
            f"rope parameters say both attention factors of {schedule!r} or none: give attention_factor too"
        )
    del written["attention_factor"]
    written["short_mscale"] = schedule.attention_factor
    written["long_mscale"] = schedule.long_attention_factor


def _beta(rope: Rope, temperature: StepTemperature, model_type: str | None) -> float:
    """The one number that rope parameters have for a temperature: its window is the schedule's trained length."""
    trained = getattr(rope.schedule, "original_length", None)
    if model_type not in TEMPERED or temperature.shift or temperature.window != trained:
        raise InputError(
            f"rope parameters cannot say {temperature!r} for model_type={model_type!r}: needed is a shift of 0, a "
            f"window of the schedule's original_length, {trained}, and one of the model types "
            f"{', '.join(map(str, TEMPERED))}"
        )
    return temperature.scale


def _old(written: dict[str, Any], model_type: str | None) -> dict[str, Any]:
    outside = {}
    for key in _OUTSIDE:
        if key in written:
            outside[outside_name(model_type, key)] = written.pop(key)
    kind = written.pop("rope_type")
    scaling = None
    if kind != "default":
        scaling = {"type": kind, "rope_type": kind, **written}
    return {**outside, "rope_scaling": scaling}


def _old_by_layer(encodings: Mapping[str, Encoding], model_type: str | None) -> dict[str, Any]:
    read = reads(model_type)
    if read is not None and "rope_local_base_freq" not in read.outside:
        raise InputError(
            f"rope_scaling cannot say layer types for model_type={model_type!r}, whose code reads no "
            "rope_local_base_freq: take spelling='rope_parameters'"
        )
    layers = LAYERS["rope_local_base_freq"]
    local = encodings.get(layers.own, NoPE())
    plain = isinstance(local, Rope) and isinstance(local.schedule, Plain)
    if encodings.keys() != {layers.own, layers.other} or not plain:
        raise InputError(
            f"rope_scaling cannot say the layer types {', '.join(encodings)}: needed are {layers.other!r} and a plain "
            f"Rope for {layers.own!r}; or take spelling='rope_parameters'"
        )
    written = _parameters(encodings[layers.other], model_type)
    own = _parameters(local, model_type)
    if own.get("partial_rotary_factor") != written.get("partial_rotary_factor"):
        raise InputError(
            "rope_scaling cannot say two shares of the head: take spelling='rope_parameters', or one fraction"
        )
    return {**_old(written, model_type), "rope_local_base_freq": own["rope_theta"]}
