"""A published config.json, of which nothing that changes the computation may go unread."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from posjax.arguments import LARGEST
from posjax.errors import InputError

_IDLE = """
_name_or_path _commit_hash _attn_implementation _attn_implementation_autoset transformers_version
architectures auto_map model_type torch_dtype dtype torchscript use_bfloat16 return_dict use_return_dict
output_attentions output_hidden_states use_cache gradient_checkpointing chunk_size_feed_forward
bos_token_id eos_token_id pad_token_id sep_token_id cls_token_id mask_token_id unk_token_id
decoder_start_token_id forced_bos_token_id forced_eos_token_id tokenizer_class prefix
id2label label2id num_labels problem_type task_specific_params finetuning_task
initializer_range initializer_factor init_std initializer_cutoff_factor init_device
attention_dropout hidden_dropout dropout dropout_rate activation_dropout classifier_dropout layerdrop
attention_probs_dropout_prob hidden_dropout_prob embedding_dropout mlp_dropout
attn_pdrop embd_pdrop emb_pdrop resid_pdrop residual_dropout
do_sample early_stopping num_beams num_beam_groups diversity_penalty temperature top_k top_p typical_p
repetition_penalty length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids
num_return_sequences min_length max_length suppress_tokens begin_suppress_tokens exponential_decay_length_penalty
output_scores return_dict_in_generate remove_invalid_values cache_implementation
is_llama_config output_past n_special predict_special_tokens transformers.js_config custom_pipelines tokenizer_name
unsloth_fixed unsloth_version pretraining_tp
"""
IDLE = frozenset(_IDLE.split())
"""Keys that no forward pass depends on: names, tokens with a meaning, initial weights, training's dropout, sampling."""
DEFAULT_TRUE = frozenset({"is_causal"})
"""Keys that released code takes for true where they are not there: false or null asks for something."""


class Config:
    """What config.json holds, and which of its keys were read.

    Every method that reads a key takes further names that other families have for it. A key that is there as null is
    as good as absent. Errors of all: `InputError` names the key, its value, and what is needed.

    >>> config = Config({"model_type": "llama", "n_head": 4, "scale": 0.5})
    >>> config.whole("num_attention_heads", "n_head")
    4
    >>> config.unread()
    {'scale': 0.5}
    """

    def __init__(self, values: Mapping[str, Any], origin: str = "the config", within: str = "") -> None:
        self.values = dict(values)
        # What messages call it, and the keys that lead to it from the outermost one.
        self.origin = origin
        self.within = within
        self.used: set[str] = set()
        self.inner: list[Config] = []

    @property
    def family(self) -> str:
        """Its `model_type`: what the publisher calls this kind of model."""
        return self.text("model_type")

    def get(self, *names: str, default: Any = None) -> Any:
        """A value of any type, as it stands there."""
        found = self._found(names)
        if not found:
            return default
        return self.values[found]

    def whole(self, *names: str, default: int | None = None, least: int = 1, most: int = LARGEST) -> int:
        """A whole number of `least` or more, and `most` at most."""
        given = self.get(*names, default=default)
        is_whole = isinstance(given, int) and not isinstance(given, bool)
        if not is_whole or given < least:
            raise self.refusal(names, f"a whole number, {least} or more")
        # Before anything is made of that size: a machine would run out of memory, and not say why.
        if given > most:
            raise self.refusal(names, f"a whole number, {most} at most")
        return given

    def number(self, *names: str, default: float | None = None) -> float:
        """A finite number."""
        given = self.get(*names, default=default)
        if not isinstance(given, int | float) or isinstance(given, bool) or not math.isfinite(given):
            raise self.refusal(names, "a finite number")
        return float(given)

    def positive(self, *names: str, default: float | None = None) -> float:
        """A finite number above 0, as what divides is."""
        given = self.number(*names, default=default)
        if given <= 0:
            raise self.refusal(names, "a number above 0")
        return given

    def flag(self, *names: str, default: bool | None = None) -> bool:
        """True or false."""
        given = self.get(*names, default=default)
        if not isinstance(given, bool):
            raise self.refusal(names, "true or false")
        return given

    def text(self, *names: str, default: str | None = None, among: Iterable[str] = ()) -> str:
        """A text, one of those `among` which it has to be."""
        given = self.get(*names, default=default)
        allowed = list(among)
        if not isinstance(given, str):
            raise self.refusal(names, "a text")
        if allowed and given not in allowed:
            raise self.refusal(names, f"one of {', '.join(allowed)}")
        return given

    def only(self, name: str, *allowed: Any) -> None:
        """Refuses all values of a key but those allowed, the computation of any other being unknown."""
        if self._found((name,)) and self.values[name] not in allowed:
            raise self.refusal((name,), f"{' or '.join(map(repr, allowed))}, all else being unknown here")

    def nested(self, name: str) -> Config:
        """The config inside another, as that of the text part of a model that sees: it is held to the same rule."""
        given = self.get(name)
        if not isinstance(given, Mapping):
            raise self.refusal((name,), "an object")
        inner = Config(given, self.origin, f"{self.within}{name}.")
        self.inner.append(inner)
        return inner

    def ignore(self, *names: str) -> None:
        """Counts keys as read that do not change this family's computation."""
        self.used.update(names)

    def unread(self) -> dict[str, Any]:
        """The keys that were not read and may change the computation, with their values."""
        found = {}
        for name, value in self.values.items():
            # What is off, absent or empty asks for nothing: `False == 0`, and a zero is a number like others.
            off = value is None or value is False or value in ([], {})
            if name in DEFAULT_TRUE:
                off = value is True
            if name not in self.used and name not in IDLE and not off:
                found[self.within + name] = value
        for inner in self.inner:
            found |= inner.unread()
        return found

    def require_read(self) -> None:
        """Errors: `InputError` names each key that may change the computation and was not read."""
        left = self.unread()
        if left:
            raise InputError(
                f"{self.origin} has {_told(left)}, which may change the computation and is not read for "
                f"{self.values.get('model_type')}: take it out where it changes nothing, or ask for it to be supported"
            )

    def refusal(self, names: Iterable[str], need: str) -> InputError:
        """What a value that cannot be used is told as."""
        name = self._found(names)
        nulls = [self.within + name for name in names if name in self.values]
        if not name and nulls:
            return InputError(f"{self.origin} has {nulls[0]}=null: needed is {need}")
        if not name:
            spellings = " or ".join(self.within + name for name in names)
            return InputError(f"{self.origin} has no {spellings}: needed is {need}")
        given = {self.within + name: self.values[name]}
        return InputError(f"{self.origin} has {_told(given)}: needed is {need}")

    def _found(self, names: Iterable[str]) -> str:
        """Under which of its names a key is there, "" where it is not; all of them then count as read."""
        # A spelling that is absent counts too: should it be there as null, it asks for nothing.
        self.used.update(names)
        there = [name for name in names if self.values.get(name) is not None]
        different = [name for name in there if self.values[name] != self.values[there[0]]]
        if different:
            both = {name: self.values[name] for name in (there[0], different[0])}
            raise InputError(f"{self.origin} has {_told(both)}, two names of one thing: they have to agree")
        return (there or [""])[0]


def _told(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_short(value)}" for name, value in values.items())


def _short(value: Any) -> str:
    """A value on one line, in letters that every terminal shows."""
    text = ascii(value)
    if len(text) <= 100:
        return text
    return f"{text[:100]}..."
