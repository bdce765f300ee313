"""Published types of rope parameters: the schedule of each, the keys that it has, and what the keys mean."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from typing import Any

from posjax.encodings.published_families import LENGTH, LONGEST, MROPE
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

Kind = tuple[Callable[..., Schedule], dict[str, str], dict[str, str]]

# For each type: its schedule, the keys that it needs, and those that it may have, by the names of our fields.
KINDS: dict[str, Kind] = {
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
BY_ALPHA: Kind = (NTK, {"alpha": "factor"}, {})
"""What type "dynamic" is with an alpha: the base grows by it once, at every length."""
# For text, all coordinates of a position are the same number: Qwen-VL's sections then change nothing.
_ALIASES = {"su": "longrope", "mrope": "default"}
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
    "llama_4_scaling_beta",
    LONGEST,
    *MROPE,
    *(key for _, needs, may in KINDS.values() for key in (*needs, *may)),
}


def kind_of(inner: dict[str, Any]) -> str:
    """The type of rope parameters, whose keys of it are taken out.

    Errors: `InputError` for a null under an unknown key, and a type that is unknown or contradicts the other.
    """
    for key in inner.keys() - _INNER:
        # A null is passed over below, but not where nobody knows what it would be a null of.
        if inner[key] is None:
            raise InputError(f"rope parameters have the unknown key {key!r}: remove it")
    old = inner.pop("type", None)
    new = inner.pop("rope_type", None)
    for kind in (old, new):
        if kind is not None and not isinstance(kind, str):
            raise InputError(f"rope parameters have the type {kind!r}: needed is one of {', '.join(KINDS)}")
    if old is not None and new is not None and _ALIASES.get(old, old) != _ALIASES.get(new, new):
        raise InputError(f"rope parameters have type={old!r} and rope_type={new!r}: they contradict, remove one")
    # Files from the change of spellings carry both.
    kind = "default"
    if new is not None:
        kind = new
    elif old is not None:
        kind = old
    kind = _ALIASES.get(kind, kind)
    if kind not in KINDS:
        raise InputError(f"rope parameters have the unknown type {kind!r}: known are {', '.join(KINDS)}")
    return kind


def schedule_of(kind: str, given: dict[str, Any]) -> Schedule:
    """The schedule that a type makes of its keys. Errors: `InputError` names a key that is unknown or missing."""
    long_attention_factor = _settle(kind, given)
    schedule, needs, may = KINDS[kind]
    if kind == "dynamic" and "alpha" in given:
        schedule, needs, may = BY_ALPHA
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
    if long_attention_factor is not None:
        fields["long_attention_factor"] = long_attention_factor
    return schedule(**fields)


def _settle(kind: str, given: dict[str, Any]) -> float | None:
    """Takes out what changes nothing, and says in our words what has others; a second attention factor is returned."""
    given.pop("finetuned", None)
    for key in _IDLE.get(kind, ()):
        given.pop(key, None)
    _take_out_sections(given)
    if given.get("factor") == 1 and (kind in ("default", "proportional") or "alpha" in given):
        given.pop("factor")
    # With mscale at 1 alone both released readings of it give 0.1 ln(factor) + 1; with another they part.
    if kind == "yarn" and given.get("mscale") == 1 and not given.get("mscale_all_dim"):
        given.pop("mscale")
        given.pop("mscale_all_dim", None)
    if kind != "longrope" or not {"short_mscale", "long_mscale"} & set(given):
        return None
    short = given.pop("short_mscale", None)
    long = given.pop("long_mscale", None)
    if short is None or long is None or given.setdefault("attention_factor", short) != short:
        raise InputError(
            f"rope parameters have short_mscale={short}, long_mscale={long} and attention_factor="
            f"{given.get('attention_factor')}: needed are both of the first two, and no other one"
        )
    if long == short:
        return None
    return long


def _take_out_sections(given: dict[str, Any]) -> None:
    sections = given.get("mrope_section")
    if sections is None:
        return
    if not isinstance(sections, list) or not all(type(one) is int and one > 0 for one in sections):
        raise InputError(
            f"rope parameters have mrope_section={sections!r}: needed is a list of whole numbers, the pairs of "
            "each coordinate"
        )
    for key in MROPE:
        given.pop(key, None)


def _value(given: Any) -> Any:
    if not isinstance(given, (list, tuple)):
        return given
    # What is no number stays as it is, and the schedule names it.
    each = []
    for one in given:
        each.append(float(one) if isinstance(one, numbers.Real) else one)
    return tuple(each)
