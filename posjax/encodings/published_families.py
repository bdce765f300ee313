"""What published models say about rotary embedding: their families, their keys, and what each of them means."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

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


NAMED = {
    # What each of these groups says holds where a file is silent: a layout, a base, a share of the head.
    **_families("split", "llama mistral qwen2 qwen3 gemma gemma2 phi3 falcon", 1e4),
    # No known base: their files name one.
    **_families(
        "split",
        "nemotron-nas mixtral ministral ministral3 qwen qwen2_moe qwen3_moe deepseek minicpm internlm "
        "internlm2 internlm3 baichuan olmo olmo2 olmo3 olmoe granite granitemoe starcoder2 seed_oss "
        "arcee phimoe hunyuan_v1_dense hunyuan_v1_moe exaone4 dbrx mpt gemma4_text modernbert mimo",
    ),
    # They turn a part of the head, and only their files say which.
    **_families(
        "split",
        "phi stablelm persimmon nemotron glm4_moe qwen3_next qwen3_5_text minimax_m3 mimo_v2_flash "
        "stablelm_epoch nomic_bert",
        fraction=None,
    ),
    **_families("split", "gemma3_text gemma3n_text", 1e6),
    **_families("split", "gpt_neox phi-msft", 1e4, None),
    **_families("split", "minimax_m2", 5e6, None),
    "gpt_oss": Family("split", 150_000.0),
    "smollm3": Family("split", 2e6),
    "apertus": Family("split", 12e6),
    # Their released code turns neighbours, (2i, 2i + 1).
    **_families(
        "interleaved",
        "cohere cohere2 ernie4_5 ernie4_5_moe deepseek_v2 deepseek_v3 kimi_k2 helium glm_moe_dsa glm4_moe_lite",
    ),
    **_families("interleaved", "glm glm4", fraction=None),
    **_families("interleaved", "gptj codegen", 1e4, None),
    "roformer": Family("interleaved", 1e4),
    "chatglm": Family("interleaved", 1e4, 0.5),
    "llama4_text": Family("interleaved", 5e5),
}
NAMELESS = Family("split", 1e4)
SPELLED = ((("rotary_dim", "n_embd"), "gptj"), (("rope_ratio",), "chatglm"), (("original_rope",), "chatglm"))
"""Without a model type, these keys together tell the family."""
STILL = {
    "nemotron_h": "NoPE",
    "kimi_linear": "NoPE",
    "jamba": "NoPE",
    "bloom": "Alibi",
    "t5": "T5Bias",
    "mt5": "T5Bias",
    "gpt2": "Learned",
    "opt": "Learned",
    "bert": "Learned",
}
"""Model types that do not rotate, whatever keys they carry, and the encoding that they have instead."""

LAYERS = {
    "rope_local_base_freq": Layers("sliding_attention", "full_attention", "full_attention"),
    "local_rope_theta": Layers("sliding_attention", "full_attention"),
    "swa_rope_theta": Layers("sliding_attention", "full_attention"),
    "compress_rope_theta": Layers("compress", "main", "compress"),
}
IMPLIED: dict[str, dict[str, float | None]] = {
    "gemma3_text": {"rope_local_base_freq": 1e4},
    "gemma3n_text": {"rope_local_base_freq": 1e4},
    "modernbert": {"global_rope_theta": 160_000.0, "local_rope_theta": 1e4},
    "mimo_v2_flash": {"swa_rope_theta": 1e4},
    "olmo3": {"rope_local_base_freq": None},  # The same base everywhere, but scaling for the full layers alone.
}
"""What the released code of a model type adds where the configuration does not have the key."""
UNREAD = {"modernbert": ("position_embedding_type",)}
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
LOOSE = (
    "factor",
    "beta_fast",
    "beta_slow",
    "short_factor",
    "long_factor",
    "low_freq_factor",
    "high_freq_factor",
    "yarn",
    "llama_4_scaling",
)
"""What schedules are made of, and what nobody reads outside the rope parameters."""
SCALED = ("gpt_oss", "apertus", "ministral3", "gemma4_text")
"""Model types whose class fills in a schedule, or one for each layer type, where the configuration is silent."""
REFUSED = {
    "mrope_section": "for text remove it, for positions of several coordinates take "
    "AxialRope(sections, base, frequencies='shared')",
    "mrope_interleaved": "for text remove it; sections that alternate have no encoding here",
    "llama_4_scaling_beta": "it is a temperature of the queries by position: remove it and chain the Rope with one",
}
IDLE = (
    LONGEST,
    LENGTH,
    "n_positions",
    "qk_rope_head_dim",
    "no_rope_layers",
    "no_rope_layer_interval",
    "flash_rotary",
    "indexer_rope_interleave",
    "alibi_bias_max",
)
"""Keys with such names that change nothing about how a layer turns that does turn."""
SAYING = (
    *BASES,
    *FRACTIONS,
    *INTERLEAVED,
    *LAYERS,
    "rotary_dim",
    "rope_ratio",
    "rotary",
    "rope",
    "position_embedding_type",
)
KNOWN = {*NESTS, *SAYING, *ONLY, *IDLE}
READ = {
    *KNOWN,
    *LOOSE,
    *REFUSED,
    "model_type",
    "text_config",
    "attn_config",
    "head_dim",
    "kv_channels",
    "n_embd",
    "n_head",
    "hidden_size",
    "num_attention_heads",
}
