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
    **_families(
        "split",
        "llama mistral ministral qwen qwen2 qwen3 qwen2_moe qwen3_moe gemma gemma2 vaultgemma phi3 falcon falcon_h1 "
        "granite granitemoe granitemoeshared olmo olmo2 olmoe olmo_hybrid starcoder2 seed_oss arcee exaone4 exaone_moe "
        "hunyuan_v1_dense hunyuan_v1_moe internlm internlm2 internlm3 minicpm deepseek baichuan jais2 dots1 doge "
        "diffllama afmoe nemotron-nas minicpm3 eurobert jetmoe moshi phi4_multimodal",
        1e4,
    ),
    **_families(
        "split", "mixtral phimoe lfm2 lfm2_moe solar_open qwen2_vl qwen2_vl_text qwen2_5_vl qwen2_5_vl_text", 1e6
    ),
    **_families("split", "olmo3 flex_olmo csm exaone bitnet mllama_text_model qwen3_vl_text qwen3_vl_moe_text", 5e5),
    **_families("split", "gemma3_text gemma3n_text", 1e6),
    "gpt_oss": Family("split", 150_000.0),
    "smollm3": Family("split", 2e6),
    "apertus": Family("split", 12e6),
    # Whether they rotate, or how fast, their files must say.
    **_families("split", "mpt dbrx cwm ministral3 gemma4_text lfm3 modernbert modernbert-decoder mimo"),
    # They turn a part of the head.
    **_families("split", "gpt_neox stablelm qwen3_next qwen3_5_text qwen3_5_moe_text", 1e4, 0.25),
    **_families("split", "phi nemotron glm4_moe bamba recurrent_gemma", 1e4, 0.5),
    "persimmon": Family("split", None, 0.5),
    # Which part, only their files say.
    **_families("split", "minimax_m3 mimo_v2_flash stablelm_epoch nomic_bert", fraction=None),
    "phi-msft": Family("split", 1e4, None),
    "minimax_m2": Family("split", 5e6, None),
    # Their released code turns neighbours, (2i, 2i + 1).
    **_families(
        "interleaved",
        "roformer cohere2 cohere2_moe deepseek_v2 deepseek_v3 deepseek_v32 deepseek_v4 kimi_k2 glm_moe_dsa "
        "glm4_moe_lite youtu",
        1e4,
    ),
    **_families("interleaved", "cohere ernie4_5 ernie4_5_moe llama4_text", 5e5),
    "helium": Family("interleaved", 1e5),
    "longcat_flash": Family("interleaved", 1e7),
    "mistral4": Family("interleaved"),
    **_families("interleaved", "glm glm4 chatglm", 1e4, 0.5),
    **_families("interleaved", "gptj codegen", 1e4, None),
}
"""As transformers 5.24 has them; those that it lacks, as their own released code does."""
NAMELESS = Family("split", 1e4)
SPELLED = ((("rotary_dim", "n_embd"), "gptj"), (("rope_ratio",), "chatglm"), (("original_rope",), "chatglm"))
"""Without a model type, these keys together tell the family."""
STILL = {
    **dict.fromkeys(("nemotron_h", "kimi_linear", "jamba"), "NoPE"),
    "bloom": "Alibi",
    **dict.fromkeys(("t5", "mt5", "umt5", "longt5"), "T5Bias"),
    **dict.fromkeys(("gpt2", "gpt_neo", "gpt_bigcode", "opt", "bart", "mbart"), "Learned"),
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "albert", "electra", "distilbert"), "Learned"),
}
"""Model types that do not rotate, whatever keys they carry, and the encoding that they have instead."""
BACKWARDS = ("nanochat",)
"""Model types whose code turns by minus the angle, which no `Rope` says."""

LAYERS = {
    "rope_local_base_freq": Layers("sliding_attention", "full_attention", "full_attention"),
    "local_rope_theta": Layers("sliding_attention", "full_attention"),
    "swa_rope_theta": Layers("sliding_attention", "full_attention"),
    "compress_rope_theta": Layers("compress", "main", "compress"),
}
IMPLIED: dict[str, dict[str, float | None]] = {
    "phi3": {"original_max_position_embeddings": 4096},
    "phi4_multimodal": {"original_max_position_embeddings": 4096},
    "gemma3_text": {"rope_local_base_freq": 1e4},
    "gemma3n_text": {"rope_local_base_freq": 1e4},
    "modernbert": {"global_rope_theta": 160_000.0, "local_rope_theta": 1e4},
    "modernbert-decoder": {"global_rope_theta": 160_000.0, "local_rope_theta": 1e4},
    "mimo_v2_flash": {"swa_rope_theta": 1e4},
    "minimax_m2": {"head_dim": 128},
    "deepseek_v4": {"compress_rope_theta": 160_000.0},
    "olmo3": {"rope_local_base_freq": None},  # The same base everywhere, but scaling for the full layers alone.
}
"""What the released code of a model type adds where the configuration does not have the key."""
FILLED: tuple[str | None, ...] = ("gemma3_text", "gemma3n_text", "olmo3", "modernbert", "modernbert-decoder")
"""Model types whose class reads `rope_parameters` by layer type alone, and fills in a type that is missing or null."""
UNREAD: dict[str, tuple[str, ...]] = {
    "modernbert": ("position_embedding_type",),
    "modernbert-decoder": ("position_embedding_type",),
}
"""Keys that a model type's files carry, and that its released code does not read."""

ONLY: dict[str, tuple[tuple[Any, ...], str]] = {
    "alibi": ((False, None), "take Alibi"),
    "rotary": ((True, None), "an older spelling or none; take the encoding that the model has"),
    "rope": ((True, None), "take the encoding that the model has"),
    "use_logn_attn": ((False, None), "it is known of Qwen alone; set it to False, and chain LogN to what is read"),
    "rotary_value": ((False, None), "values turn too, which Rope does not do"),
    "rotary_emb_scale_base": ((None,), "take XPos"),
    "rotary_scaling_factor": ((None,), "remove it and take a schedule that says the same"),
    "use_dynamic_ntk": ((False, None), "it is known of Qwen alone; set it to False, and take DynamicNTK"),
    "position_embedding_type": ((None, "rope", "rotary", "rope_gptj"), "take the encoding that it names"),
}
"""Keys that may have these values alone, and what to do about another."""
OWN = {"qwen": ("use_logn_attn", "use_dynamic_ntk")}
"""Which of those keys say more in the files of a model type."""
TEMPERED = ("ministral3", "mistral4", None)
"""Model types whose queries have a temperature by position where `llama_4_scaling_beta` says so."""
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
    "llama_4_scaling_beta",
)
"""What schedules are made of, and what nobody reads outside the rope parameters."""
SCALED = ("gpt_oss", "apertus", "ministral3", "mistral4", "gemma4_text", "lfm3", "cwm")
"""Model types whose class fills in a schedule, or one for each layer type, where the configuration is silent."""
MROPE = ("mrope_section", "mrope_interleaved", "interleaved")
"""What divides the pairs among several coordinates; text has one, and turns plainly."""
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
    "use_mrope",
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
    *MROPE,
    "model_type",
    "text_config",
    "attn_config",
    "head_dim",
    "kv_channels",
    "n_embd",
    "n_head",
    "seq_length",
    "qk_rope_head_dim",
    "qk_nope_head_dim",
    "qk_head_dim",
    "hidden_size",
    "num_attention_heads",
}
