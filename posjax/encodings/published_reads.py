"""Which spellings of a rotation the released code of a model type reads: another one is a wish that nobody grants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from posjax.encodings.published_families import (
    BASES,
    FILLED,
    FRACTIONS,
    IMPLIED,
    INTERLEAVED,
    LAYERS,
    LENGTH,
    NAMED,
    NESTS,
)
from posjax.encodings.published_schedules import KINDS
from posjax.errors import InputError


class Reads(NamedTuple):
    """What the code of a model type reads about its rotation.

    `outside`: the keys beside rope parameters. `part`: it turns a part of the head, `partial_rotary_factor` in its rope
    parameters. `more`: keys in them that few types have. `kinds`: the types of them that its class allows, () for all.
    `sections`: it reads rope parameters at all.
    """

    outside: tuple[str, ...] = ("rope_theta",)
    part: bool = False
    more: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    sections: bool = True


_PART = Reads(("rope_theta", "partial_rotary_factor"), part=True)
_PHI = _PART._replace(kinds=("default", "longrope"))
_PAIRED = _PART._replace(outside=("rope_theta", "partial_rotary_factor", "rope_interleave"))
_BY_LAYER = Reads(("global_rope_theta", "local_rope_theta"))
_CHANNELS = Reads(("rotary_dim",), sections=False)
MORE = ("alpha", "short_mscale", "long_mscale")
"""The keys in rope parameters that few types have."""

_APART = {
    **dict.fromkeys(("phi", "stablelm", "persimmon", "nemotron", "glm", "glm4", "glm4_moe", "recurrent_gemma"), _PART),
    **dict.fromkeys(("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"), _PART),
    **dict.fromkeys(("phi3", "phi4_multimodal"), _PHI),
    # A latent attention turns a part of its own, and a share of the whole head may say so once more.
    **dict.fromkeys(("deepseek_v2", "deepseek_v32", "glm_moe_dsa", "longcat_flash", "minicpm3"), _PART),
    **dict.fromkeys(("deepseek_v3", "glm4_moe_lite", "youtu", "mistral4"), _PAIRED),
    "deepseek_v4": _PART._replace(outside=(*_PART.outside, "compress_rope_theta")),
    "minimax_m2": _PART._replace(outside=(*_PART.outside, "rotary_dim")),
    "bamba": Reads(part=True),
    "gpt_neox": Reads(("rotary_emb_base", "rotary_pct"), part=True),
    **dict.fromkeys(("gemma3_text", "gemma3n_text"), Reads(("rope_theta", "rope_local_base_freq"))),
    **dict.fromkeys(("modernbert", "modernbert-decoder"), _BY_LAYER),
    **dict.fromkeys(("hunyuan_v1_dense", "hunyuan_v1_moe"), Reads(more=("alpha",))),
    "phimoe": Reads(more=("short_mscale", "long_mscale")),
    **dict.fromkeys(("gptj", "codegen"), _CHANNELS),
    "roformer": Reads((), sections=False),
}
_UNSEEN = (
    *("qwen", "internlm", "internlm2", "minicpm", "deepseek", "baichuan", "nemotron-nas", "mimo", "minimax_m3"),
    *("stablelm_epoch", "phi-msft", "kimi_k2", "chatglm", "mpt", "dbrx", "nomic_bert", "mimo_v2_flash"),
    *("gemma4_text", "lfm3"),
)
"""Types whose files are of other code than that of transformers 5.24, by which the others were looked through."""
_SPELLED = (*BASES, *LAYERS, *FRACTIONS, *INTERLEAVED, "rotary_dim")


def reads(model_type: str | None) -> Reads | None:
    """What the code of a model type reads, None where that is not known: then every spelling counts."""
    if model_type not in NAMED or model_type in _UNSEEN:
        return None
    return _APART.get(model_type, Reads())


def parted(model: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A configuration without the spellings that the code of its model type does not read, and those with a value."""
    name = model.get("model_type")
    known = reads(name)
    if known is None:
        return dict(model), {}
    spelled = set(_SPELLED).difference(known.outside)
    # By a word and not by a key of its own.
    if model.get("position_embedding_type") == "rope_gptj":
        spelled.add("position_embedding_type")
    if not known.sections:
        spelled.update(NESTS)
    unread = {key: value for key, value in model.items() if key in spelled and value not in (None, {})}
    # A null that a class implies tells that its layers differ.
    kept = {key for key, value in IMPLIED.get(str(name), {}).items() if value is None}
    spelled -= kept.difference(unread)
    return {key: value for key, value in model.items() if key not in spelled}, unread


def require_read(model_type: str | None, kind: str, inner: Mapping[str, Any]) -> None:
    """Errors: `InputError` for a key or a type of rope parameters that the code of a model type does not read."""
    known = reads(model_type)
    if known is None:
        return
    if known.kinds and kind not in known.kinds:
        raise InputError(
            f"rope parameters are of type {kind!r}, which the class of model_type={model_type!r} does not take: it has "
            f"{' and '.join(known.kinds)}"
        )
    for key in MORE:
        if inner.get(key) is not None and key not in known.more:
            raise unread(key, inner[key], model_type)
    share = inner.get("partial_rotary_factor")
    # Of a proportional schedule it is the share of pairs that turn, for every type.
    if not known.part and kind != "proportional" and share not in (None, 1):
        raise unread("partial_rotary_factor", share, model_type)


def require_by_layer(model: Mapping[str, Any], inner: Mapping[str, Any], layered: bool) -> None:
    """Errors: `InputError` for what code that keeps rope parameters by layer type does not read where it stands."""
    name = model.get("model_type")
    if not keeps_by_layer(name, layered):
        return
    # Beside the type that the class fills in, an old spelling says nothing.
    if not layered and inner.get("type") is not None and inner.get("rope_type") is None:
        raise InputError(
            f"rope parameters have type={inner['type']!r} and no rope_type, and the class of model_type={name!r} reads "
            "the latter alone: name it rope_type"
        )
    if inner.get("truncate", True) is not True:
        raise unread("truncate", inner["truncate"], name)


def require_length_inside(kind: str, given: Mapping[str, Any], model: Mapping[str, Any], layered: bool) -> None:
    """Errors: `InputError` for a trained length beside rope parameters that are kept by layer type."""
    name, outside = model.get("model_type"), model.get(LENGTH)
    # The code of a dynamic schedule reads the longest, which stands outside everywhere.
    asked = kind != "dynamic" and LENGTH in KINDS[kind][1] and LENGTH not in given
    if asked and outside is not None and keeps_by_layer(name, layered):
        raise InputError(
            f"the configuration has {LENGTH}={outside!r} beside its rope parameters, and the code of model_type="
            f"{name!r} reads the one in them alone: put it there"
        )


def keeps_by_layer(model_type: str | None, layered: bool) -> bool:
    """Whether its code keeps rope parameters by layer type, as they are `layered` or as its class makes them."""
    return reads(model_type) is not None and (layered or model_type in FILLED)


def unread(key: str, value: Any, model_type: str | None) -> InputError:
    """What a spelling that is not read is told as."""
    return InputError(
        f"the configuration has {key}={value!r}, which the code of model_type={model_type!r} does not read: remove it"
    )


def outside_name(model_type: str | None, name: str) -> str:
    """What a base or a share is called beside rope parameters.

    >>> outside_name("gpt_neox", "rope_theta")
    'rotary_emb_base'
    """
    known = reads(model_type)
    names = (*FRACTIONS, "rotary_dim")
    if name == "rope_theta":
        names = BASES
    if known is None:
        return name
    return next((key for key in known.outside if key in names), name)
