"""Published checkpoints: their rotary parameters as values and back, and the layout of their projection weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from posjax.encodings.rope import Rope
from posjax.encodings.schedules import (
    DynamicNTK,
    Linear,
    Llama3,
    LongRope,
    Plain,
    Schedule,
    Yarn,
)
from posjax.errors import InputError

_LENGTH = "original_max_position_embeddings"

# For each type: its schedule, the keys that it needs, and those that it may have, by the names of our fields.
_KINDS: dict[str, tuple[Callable[..., Schedule], dict[str, str], dict[str, str]]] = {
    "default": (Plain, {}, {}),
    "linear": (Linear, {"factor": "factor"}, {}),
    "dynamic": (DynamicNTK, {"factor": "factor", _LENGTH: "original_length"}, {}),
    "yarn": (Yarn, {"factor": "factor", _LENGTH: "original_length"},
             {name: name for name in ("beta_fast", "beta_slow", "truncate", "attention_factor", "mscale",
                                      "mscale_all_dim")}),
    "llama3": (Llama3, {"factor": "factor", _LENGTH: "original_length"},
               {name: name for name in ("low_freq_factor", "high_freq_factor")}),
    "longrope": (LongRope, {"factor": "factor", _LENGTH: "original_length", "short_factor": "short_factor",
                            "long_factor": "long_factor"}, {"attention_factor": "attention_factor"}),
}
_ALIASES = {"su": "longrope"}
_SCHEDULE_KEYS = {"factor", _LENGTH} | {key for _, needs, may in _KINDS.values() for key in (*needs, *may)}


def from_rope_parameters(config: Mapping[str, Any], layer_type: str | None = None) -> Rope:
    """The `Rope` of a published checkpoint's configuration.

    Reads the old and the new spelling: `rope_theta` beside `rope_scaling` with `type` or `rope_type`; or all of it
    inside `rope_parameters`, which may be nested by layer type, named by `layer_type`. `partial_rotary_factor`,
    `max_position_embeddings` and `original_max_position_embeddings` are read where they stand; the rest of a model's
    configuration is left alone.

    Convention: a "dynamic" schedule's trained length is `max_position_embeddings`, as in the released code; a LongRoPE
    factor left out is the quotient of the two lengths. The layout is "split", that of these checkpoints.

    Errors: `InputError` that names an unknown type, an unknown key, a key that is missing, or two that contradict.

    >>> from_rope_parameters({"rope_theta": 1e6, "rope_scaling": {"type": "linear", "factor": 2.0}})
    Rope(base=1000000.0, schedule=Linear(factor=2.0), layout='split', fraction=1.0)
    """
    given = _gathered(config, layer_type)
    kind = given.pop("rope_type")
    base, fraction = float(given.pop("rope_theta")), float(given.pop("partial_rotary_factor"))
    schedule, needs, may = _KINDS[kind]
    unknown = sorted(set(given) - set(needs) - set(may))
    if unknown:
        raise InputError(f"rope parameters of type {kind!r} have the unknown key {unknown[0]!r}: known are "
                         f"{', '.join([*needs, *may]) or 'none'}")
    missing = [key for key in needs if given.get(key) is None]
    if missing:
        raise InputError(f"rope parameters of type {kind!r} lack {missing[0]!r}: give it beside the type")
    fields = {ours: _value(given[key]) for key, ours in {**needs, **may}.items() if given.get(key) is not None}
    return Rope(base=base, schedule=schedule(**fields), fraction=fraction)


def _value(given: Any) -> Any:
    return tuple(float(x) for x in given) if isinstance(given, (list, tuple)) else given


def _gathered(config: Mapping[str, Any], layer_type: str | None) -> dict[str, Any]:
    """Everything about rotary embedding in one dict, `rope_type`, `rope_theta` and `partial_rotary_factor` always."""
    nested = [config[name] for name in ("rope_parameters", "rope_scaling") if config.get(name)]
    if len(nested) == 2 and nested[0] != nested[1]:
        raise InputError("the configuration has rope_parameters and rope_scaling, and they differ: remove one")
    inner = dict(nested[0]) if nested else {}
    if inner and all(isinstance(value, Mapping) for value in inner.values()):
        if layer_type not in inner:
            raise InputError(f"rope_parameters are nested by layer type and layer_type={layer_type!r} is none of them: "
                             f"give one of {', '.join(inner)}")
        inner = dict(inner[layer_type])
    kind = _kind(inner)
    # What a layer type says of itself holds; only what stands once may contradict.
    outer = {} if layer_type is not None and "rope_theta" in inner else config
    theta = _agreed("rope_theta", inner, outer, config.get("rope_theta") or 10_000.0)
    fraction = _agreed("partial_rotary_factor", inner, config, 1.0)
    inner = {key: value for key, value in inner.items() if value is not None}
    given = {"rope_type": kind, "rope_theta": theta, "partial_rotary_factor": fraction, **inner}
    _lengths(kind, given, config)
    return given


def _kind(inner: dict[str, Any]) -> str:
    old, new = inner.pop("type", None), inner.pop("rope_type", None)
    if old is not None and new is not None and _ALIASES.get(old, old) != _ALIASES.get(new, new):
        raise InputError(f"rope parameters have type={old!r} and rope_type={new!r}: they contradict, remove one")
    kind = new or old or "default"
    kind = _ALIASES.get(kind, kind)
    if kind not in _KINDS:
        raise InputError(f"rope parameters have the unknown type {kind!r}: known are {', '.join(_KINDS)}")
    return kind


def _agreed(key: str, inner: dict[str, Any], config: Mapping[str, Any], default: float) -> float:
    inside, outside = inner.pop(key, None), config.get(key)
    if inside is not None and outside is not None and inside != outside:
        raise InputError(f"the configuration has {key}={outside} and, inside its rope parameters, {inside}: they "
                         "contradict, remove one")
    return inside if inside is not None else outside if outside is not None else default


def _lengths(kind: str, given: dict[str, Any], config: Mapping[str, Any]) -> None:
    """Fills in the trained length and LongRoPE's factor from the model's own lengths, where they are left out."""
    longest = config.get("max_position_embeddings")
    outside = longest if kind == "dynamic" else config.get(_LENGTH)
    if _LENGTH in given and outside is not None and given[_LENGTH] != outside:
        name = "max_position_embeddings" if kind == "dynamic" else _LENGTH
        raise InputError(f"the configuration has {name}={outside} and, inside its rope parameters, {_LENGTH}="
                         f"{given[_LENGTH]}: they contradict, remove one")
    if kind == "dynamic":
        given.setdefault(_LENGTH, longest)
    elif kind in ("yarn", "llama3", "longrope"):
        given.setdefault(_LENGTH, config.get(_LENGTH, longest if kind == "yarn" else None))
    if kind == "longrope" and given.get("factor") is None and longest and given.get(_LENGTH):
        given["factor"] = longest / given[_LENGTH]


def to_rope_parameters(rope: Rope) -> dict[str, Any]:
    """The `rope_parameters` that a checkpoint of this `Rope` carries, in the new spelling.

    Errors: `InputError` for a schedule without a published name, or the interleaved layout, which it cannot say.

    >>> to_rope_parameters(Rope(base=5e5))
    {'rope_type': 'default', 'rope_theta': 500000.0}
    """
    if rope.layout != "split":
        raise InputError("rope parameters cannot say layout='interleaved': convert the weights with convert_layout and "
                         "use 'split'")
    for kind, (schedule, needs, may) in _KINDS.items():
        if schedule is type(rope.schedule):
            own = {key: getattr(rope.schedule, ours) for key, ours in {**needs, **may}.items()}
            listed = {k: list(v) if isinstance(v, tuple) else v for k, v in own.items() if v is not None}
            partial = {} if rope.fraction == 1.0 else {"partial_rotary_factor": rope.fraction}
            return {"rope_type": kind, "rope_theta": rope.base, **partial, **listed}
    raise InputError(f"{rope.schedule!r} has no published name: known are {', '.join(_KINDS)}")


def convert_layout(weights: jax.Array, heads: int, to: str, fraction: float = 1.0) -> jax.Array:
    """A query or key projection for the other pairing of channels, its outputs reordered within each head.

    `weights [..., N H]`, a projection's kernel or bias with the heads' channels last; `to` is "split" or
    "interleaved", `fraction` the share of each head that turns. Converting there and back gives the same bits, and a
    model with converted query and key projections and the other `Rope(layout=...)` gives the same output.

    Errors: `InputError` for another layout, or channels that the heads do not divide.

    >>> convert_layout(jnp.arange(4), heads=1, to="split").tolist()
    [0, 2, 1, 3]
    """
    if to not in ("split", "interleaved"):
        raise InputError(f"convert_layout got to={to!r}: needed is 'split' or 'interleaved'")
    if weights.shape[-1] % heads:
        raise InputError(f"convert_layout got {weights.shape[-1]} channels and heads={heads}: the heads must divide "
                         "them")
    size = weights.shape[-1] // heads
    turning = Rope(fraction=fraction).rotary_size(size)
    split = jnp.concatenate([jnp.arange(0, turning, 2), jnp.arange(1, turning, 2), jnp.arange(turning, size)])
    order = split if to == "split" else jnp.argsort(split)
    shaped = weights.reshape(*weights.shape[:-1], heads, size)
    return jnp.take(shaped, order, axis=-1).reshape(weights.shape)
