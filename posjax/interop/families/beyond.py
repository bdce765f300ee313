"""Families that are known by name and not read, and why."""

from __future__ import annotations

EXPERTS = "its feed-forward layers are mixtures of experts, which the architecture has no value for; take a dense model"
LATENT = "its attention makes keys and values of one latent stream (MLA), and its feed-forward layers are mixtures"
STATES = "its layers are not all attention: some keep a state (SSM, or a gated linear one)"
SEES = "it reads images too; take the folder of its text model alone"

_MIXTURES = """
mixtral phimoe qwen2_moe qwen3_moe qwen3_next olmoe flex_olmo gpt_oss dbrx arctic granitemoe granitemoeshared jetmoe
minimax minimax_m2 ernie4_5_moe glm4_moe hunyuan_v1_moe grok-1 llama4 mimo_v2_flash
"""
_LATENT = "deepseek_v2 deepseek_v3 deepseek_v32 deepseek_v4 kimi_k2 longcat_flash minicpm3 glm_moe_dsa youtu"
_STATES = "jamba mamba mamba2 falcon_h1 falcon_mamba zamba zamba2 bamba nemotron_h recurrent_gemma rwkv kimi_linear"
_SEES = "gemma3 mistral3 qwen2_vl qwen2_5_vl qwen3_vl mllama llava paligemma idefics3 smolvlm"

BEYOND = {
    **dict.fromkeys(_MIXTURES.split(), EXPERTS),
    **dict.fromkeys(_LATENT.split(), LATENT),
    **dict.fromkeys(_STATES.split(), STATES),
    **dict.fromkeys(_SEES.split(), SEES),
}
