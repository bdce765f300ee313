"""The page of which published model has which encoding: read from their configurations, and none of it typed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments.pages.markdown import cell, table
from experiments.pages.pictures import short_call
from experiments.pages.subjects import MADE_BY
from posjax.encodings import Encoding, from_rope_parameters
from posjax.errors import InputError
from posjax.files import read_json
from posjax.interop import describe

CONFIGS = Path(__file__).resolve().parents[2] / "tests/golden/rope_published.json"
RECALLED = "recalled"
"""What the source of a configuration says that was not seen: it has no row."""

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 11}
OTHERS: dict[str, dict[str, Any]] = {
    "BLOOM": {"model_type": "bloom", "hidden_size": 16, "n_layer": 1, "n_head": 2, "vocab_size": 11},
    "MPT": {
        "model_type": "mpt",
        "d_model": 16,
        "n_layers": 1,
        "n_heads": 2,
        "vocab_size": 11,
        "attn_config": {"alibi": True},
    },
    "Falcon-RW": {"model_type": "falcon", **SIZES, "alibi": True, "multi_query": False, "parallel_attn": False},
    "Falcon": {"model_type": "falcon", **SIZES},
    "T5": {
        "model_type": "t5",
        "d_model": 16,
        "d_kv": 8,
        "d_ff": 16,
        "num_layers": 1,
        "num_heads": 2,
        "vocab_size": 11,
    },
    "GPT-2": {"model_type": "gpt2", "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 8, "vocab_size": 11},
    "OPT": {"model_type": "opt", **SIZES, "ffn_dim": 16, "max_position_embeddings": 8},
    "BERT": {"model_type": "bert", **SIZES, "intermediate_size": 16, "max_position_embeddings": 8},
    "RoFormer": {"model_type": "roformer", **SIZES, "intermediate_size": 16, "max_position_embeddings": 8},
}
"""Families beside those of the file above, with the least that their reading asks for: no size of theirs is told."""

HEAD = """# Who uses what

Which published model has which positional encoding, as `posjax.from_rope_parameters` and `posjax.interop` read their
configurations. This page is written by `python -m experiments.docs`, and none of its rows is typed.

Often told and wrong: Code Llama does not use ALiBi, and of the Falcons only the RW models do.
"""
ROTARY = """## Models that rotate, and their schedules

`max_position_embeddings` is what the configuration says, trained or not. Sources name the public copy that was read.
"""
BY_FAMILY = """## Other families

What the released code of a family does, by the name of our class.
"""


def page() -> str:
    """The page as Markdown. Errors: `InputError` for a configuration that is no longer understood."""
    rotary = table(("model", "encoding", "positions", "source"), list(_rotary()))
    others = table(("family", "encoding"), list(_others()))
    return f"{HEAD}\n{ROTARY}\n{rotary}\n\n{BY_FAMILY}\n{others}\n"


def _rotary() -> Iterator[tuple[str, str, str, str]]:
    for case in read_json(CONFIGS)["cases"]:
        # What nobody could look up is no evidence of who uses what.
        if RECALLED in case["source"]:
            continue
        name = case["name"]
        if case["layer_type"] is not None:
            name = f"{name} ({case['layer_type']})"
        try:
            encoding = from_rope_parameters(case["config"], case["layer_type"])
        except InputError as why:
            # Layers that differ are told apart elsewhere, and a model without a rotation says so.
            if case["inv_freq"] is None and "does not rotate" in str(why):
                yield name, "none", _positions(case["config"]), case["source"]
            continue
        yield name, f"`{cell(_call(encoding))}`", _positions(case["config"]), case["source"]


def _positions(config: Mapping[str, Any]) -> str:
    given = config.get("max_position_embeddings")
    if given is None:
        return "–"
    return f"{given:,}"


def _others() -> Iterator[tuple[str, str]]:
    for name, config in OTHERS.items():
        encoding = describe(config).required().encoding
        yield name, f"[`{type(encoding).__name__}`](encodings/{type(encoding).__name__}.md)"


def _call(encoding: Encoding) -> str:
    """The call that makes it, as a user would write it."""
    return short_call(encoding, MADE_BY.get(type(encoding).__name__, ""))
