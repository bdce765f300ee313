"""Tiny tokenizers of three kinds, built here: by bytes, by characters that fall back to bytes, and by words."""

from __future__ import annotations

from pathlib import Path

import pytest

TEXT = "Once upon a time a théâtre stood.\nIt was old, and \U0001f600 日本語 was written on it.\n\n  The end. "


def package():
    return pytest.importorskip("tokenizers", reason="tokenizers is not installed: pip install 'posjax[hf]'")


def by_bytes(folder: Path) -> Path:
    """A byte-level BPE, whose tokens may be pieces of a character; "<s>" is its last token."""
    tokenizers = package()
    byte_level = tokenizers.pre_tokenizers.ByteLevel
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = byte_level(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    alphabet = byte_level.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=290, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator([TEXT], trainer)
    made.add_special_tokens(["<s>"])
    return _kept(made, folder / "bytes.json")


def by_characters(folder: Path) -> Path:
    """Characters with a mark for a space, in front too, and bytes for what the vocabulary lacks; 1 is "<s>"."""
    tokenizers = package()
    pieces = [
        "<unk>",
        "<s>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        "▁",
        *"abcdefghijklmnopqrstuvwxyz.",
        "he",
        "▁t",
    ]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    merges = [("h", "e"), ("▁", "t")]
    model = tokenizers.models.BPE(vocabulary, merges, byte_fallback=True, unk_token="<unk>")
    made = tokenizers.Tokenizer(model)
    normalizers, decoders = tokenizers.normalizers, tokenizers.decoders
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    space = decoders.Replace("▁", " ")
    made.decoder = decoders.Sequence([space, decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    made.add_special_tokens(["<unk>", "<s>"])
    return _kept(made, folder / "characters.json")


def by_words(folder: Path) -> Path:
    """Words in lower case, the spaces between them dropped; an unknown one is token 0."""
    tokenizers = package()
    words = {"[UNK]": 0, "once": 1, "a": 2, "time": 3, "théâtre": 4, "it": 5}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    made.normalizer = tokenizers.normalizers.Lowercase()
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return _kept(made, folder / "words.json")


def _kept(made, path: Path) -> Path:
    made.save(str(path))
    return path
