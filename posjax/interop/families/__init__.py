"""The families of published models, a file each; what they share is in `values` and `names`."""

from __future__ import annotations

from posjax.interop.families import (
    bert,
    bloom,
    cohere,
    exaone4,
    falcon,
    gemma,
    gpt2,
    gpt_neox,
    granite,
    llama,
    llama4,
    mistral,
    modernbert,
    mpt,
    olmo,
    opt,
    phi,
    phi3,
    qwen,
    smollm3,
    stablelm,
    starcoder2,
    t5,
)
from posjax.interop.families.beyond import BEYOND as BEYOND
from posjax.interop.family import ModelFamily

FAMILIES: tuple[ModelFamily, ...] = (
    llama.FAMILY,
    mistral.FAMILY,
    qwen.QWEN2,
    qwen.QWEN3,
    gpt_neox.FAMILY,
    bloom.FAMILY,
    mpt.FAMILY,
    t5.FAMILY,
    phi3.FAMILY,
    gemma.GEMMA,
    gemma.GEMMA2,
    gemma.GEMMA3,
    smollm3.FAMILY,
    exaone4.FAMILY,
    cohere.COHERE,
    cohere.COHERE2,
    olmo.OLMO2,
    olmo.OLMO3,
    granite.FAMILY,
    gpt2.FAMILY,
    opt.FAMILY,
    bert.BERT,
    bert.ROFORMER,
    modernbert.FAMILY,
    falcon.FAMILY,
    phi.PHI,
    phi.GPTJ,
    starcoder2.FAMILY,
    stablelm.FAMILY,
    llama4.FAMILY,
)

NAMED = {name: family for family in FAMILIES for name in family.names}
"""By what their configurations call them."""
