"""llama2.c's files of one model: a header of seven whole numbers, then float32 in a fixed order.

They are given here as what transformers' Llama would have been published as: its config and its names, with the pairs
of a rotation as halves of a head, which in these files are neighbours. Format version 0 of
https://github.com/karpathy/llama2.c (`export.py`), the one that `run.c` reads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from posjax.errors import InputError
from posjax.interop.rules import Part, Weight
from posjax.interop.sources import Index

LENGTH = 7 * 4
"""Bytes of the header."""
VERSIONED = 0x616B3432
"""What the first number of later versions of the format is."""

LAYER = MappingProxyType(
    {
        "input_layernorm": ("attention_norm", "part D -> (part D)"),
        "self_attn.q_proj": ("wq", "part (N={N} H two=2) D -> (part N two H) D"),
        "self_attn.k_proj": ("wk", "part (K={K} H two=2) D -> (part K two H) D"),
        "self_attn.v_proj": ("wv", "part X D -> (part X) D"),
        "self_attn.o_proj": ("wo", "part D X -> (part D) X"),
        "post_attention_layernorm": ("feed_forward_norm", "part D -> (part D)"),
        "mlp.gate_proj": ("w1", "part F D -> (part F) D"),
        "mlp.down_proj": ("w2", "part D F -> (part D) F"),
        "mlp.up_proj": ("w3", "part F D -> (part F) D"),
    }
)
"""Of a layer's tensors the block, and how it lies there."""


@dataclass(frozen=True)
class Header:
    """What the seven numbers of the header say."""

    width: int
    hidden: int
    layers: int
    heads: int
    key_value_heads: int
    vocabulary: int
    length: int
    tied: bool

    @property
    def head_size(self) -> int:
        """Channels of a head."""
        return self.width // self.heads

    def blocks(self) -> dict[str, tuple[int, ...]]:
        """What the file holds, in its order: each kind of weight of all layers together."""
        D, F = self.width, self.hidden
        L, V = self.layers, self.vocabulary
        KH = self.key_value_heads * self.head_size
        found = {
            "embedding": (V, D),
            "attention_norm": (L, D),
            "wq": (L, D, D),
            "wk": (L, KH, D),
            "wv": (L, KH, D),
            "wo": (L, D, D),
            "feed_forward_norm": (L, D),
            "w1": (L, F, D),
            "w2": (L, D, F),
            "w3": (L, F, D),
            "norm": (D,),
            # Cosines and sines of the rotation, which run.c passes over too.
            "rotation": (2, self.length, self.head_size // 2),
        }
        if not self.tied:
            found["classifier"] = (V, D)
        return found


@dataclass(frozen=True)
class Llama2c:
    """The tensors of a file under the names of transformers' Llama, a `Source`; `rules` say how each is stored."""

    sizes: Header
    blocks: Blocks
    tensors: Mapping[str, jax.ShapeDtypeStruct]
    rules: Mapping[str, Weight]

    def part(self, name: str, index: Index) -> np.ndarray:
        """A part of a tensor, as a copy of its own."""
        return self.rules[name].read(self.blocks, self.tensors[name].shape, index)

    def config(self) -> dict[str, Any]:
        """The configuration, in the words of transformers' Llama."""
        sizes = self.sizes
        return {
            "model_type": "llama",
            "hidden_size": sizes.width,
            "intermediate_size": sizes.hidden,
            "num_hidden_layers": sizes.layers,
            "num_attention_heads": sizes.heads,
            "num_key_value_heads": sizes.key_value_heads,
            "head_dim": sizes.head_size,
            "vocab_size": sizes.vocabulary,
            "max_position_embeddings": sizes.length,
            "tie_word_embeddings": sizes.tied,
            # These three stand in run.c and in no file.
            "hidden_act": "silu",
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
        }


@dataclass(frozen=True)
class Blocks:
    """The file as it is, mapped into memory, a `Source`."""

    path: Path
    offsets: Mapping[str, int]
    tensors: Mapping[str, jax.ShapeDtypeStruct]

    def part(self, name: str, index: Index) -> np.ndarray:
        """A part of a block, as a copy of its own."""
        mapped = np.memmap(self.path, np.dtype("<f4"), "r", self.offsets[name], self.tensors[name].shape)
        return np.array(mapped[index])


def open_llama2c(path: Path) -> Llama2c:
    """Reads the header and holds the file's size to it.

    Errors: `InputError` for another format, sizes that make no model, or a file of another length.
    """
    try:
        with path.open("rb") as opened:
            header = opened.read(LENGTH)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): give a file of llama2.c's format") from error
    sizes = _sizes(path, header)
    stored = {}
    offsets = {}
    at = LENGTH
    for name, shape in sizes.blocks().items():
        stored[name] = jax.ShapeDtypeStruct(shape, np.float32)
        offsets[name] = at
        at += 4 * math.prod(shape)
    held = path.stat().st_size
    if held != at:
        raise InputError(
            f"{path} has {held} bytes and its header asks for {at} ({sizes}): it is cut short, or no such file"
        )
    rules = _rules(sizes)
    tensors = {}
    for name, rule in rules.items():
        # Ours are a layer each, where the file has all of them.
        shape = stored[rule.key].shape[rule.part is not None :]
        tensors[name] = jax.ShapeDtypeStruct(shape, np.float32)
    blocks = Blocks(path, MappingProxyType(offsets), MappingProxyType(stored))
    return Llama2c(sizes, blocks, MappingProxyType(tensors), MappingProxyType(rules))


def _sizes(path: Path, header: bytes) -> Header:
    if len(header) < LENGTH:
        raise InputError(f"{path} ends within its header: it is cut short, fetch it again")
    numbers = np.frombuffer(header, np.dtype("<i4")).tolist()
    if numbers[0] == VERSIONED:
        raise InputError(f"{path} is version {numbers[1]} of llama2.c's format: export version 0, which is read")
    D, F, L, N, K, vocabulary, length = numbers
    # Files with a classifier of their own say so by a negative vocabulary.
    sizes = Header(D, F, L, N, K, abs(vocabulary), length, tied=vocabulary > 0)
    positive = min(D, F, L, N, K, sizes.vocabulary, length) > 0
    # Channels of a head come in pairs, and each key-value head serves as many queries as the others.
    if not positive or N % K or D % (2 * N):
        raise InputError(f"{path} begins with the sizes {numbers}, which make no model: it is no file of llama2.c's")
    return sizes


def _rules(sizes: Header) -> dict[str, Weight]:
    """How each published tensor is stored."""
    rules = {
        "model.embed_tokens.weight": Weight("embedding", "V D -> V D"),
        "model.norm.weight": Weight("norm", "D -> D"),
    }
    if not sizes.tied:
        rules["lm_head.weight"] = Weight("classifier", "V D -> V D")
    for layer in range(sizes.layers):
        part = Part(layer, 1, sizes.layers)
        for name, (block, layout) in LAYER.items():
            told = layout.format(N=sizes.heads, K=sizes.key_value_heads)
            rules[f"model.layers.{layer}.{name}.weight"] = Weight(block, told, part)
    return rules
