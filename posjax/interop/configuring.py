"""A configuration for a model that was trained here: that of a family whose models are the same."""

from __future__ import annotations

from typing import Any

from posjax.encodings.base import Encoding
from posjax.encodings.published_writing import to_rope_parameters
from posjax.errors import InputError
from posjax.identity import differences, tree
from posjax.interop.describing import describe
from posjax.models.architecture import Architecture, Stack
from posjax.models.parts import Attention, FeedForward, dims, key_value_heads

LLAMA = "a model that was trained here is written as Llama's, which this one is not"


def configured(architecture: Architecture, vocabulary: int, length: int) -> dict[str, Any]:
    """A configuration as Llama's that describes an architecture, for `posjax.interop.write`.

    `length` is the context of the training. Errors: `InputError` that says what no such configuration can.

    >>> from posjax.models import decoder
    >>> configured(decoder(layers=1), vocabulary=257, length=64)["model_type"]
    'llama'
    """
    values = _values(architecture, vocabulary, length)
    # Read back as whoever gets the folder will: what a key cannot say shows here.
    described = describe(values).required()
    other = differences(tree(described), architecture)
    if other:
        raise InputError(
            f"{LLAMA}: {other[0]}, there being Llama; give posjax.interop.write a config that describes it"
        )
    return values


def _values(architecture: Architecture, vocabulary: int, length: int) -> dict[str, Any]:
    """What a configuration says of the first layer; where others differ, it describes another architecture."""
    stack = architecture.decoder
    if stack is None or architecture.encoder is not None:
        raise InputError(f"{LLAMA}: it has an encoder")
    attention, feed_forward = _sublayers(stack)
    sizes = dims(attention, architecture.width)
    # Where there is no norm at all, the configuration describes another model, which is refused.
    norm = stack.final_norm or stack.pattern[0].norm
    values: dict[str, Any] = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocabulary,
        "hidden_size": architecture.width,
        "intermediate_size": feed_forward.size,
        "num_hidden_layers": stack.layers,
        "num_attention_heads": sizes.heads,
        "num_key_value_heads": key_value_heads(attention),
        "head_dim": sizes.head_size,
        "hidden_act": feed_forward.activation,
        "max_position_embeddings": length,
        "tie_word_embeddings": architecture.output.tied,
        "dtype": "float32",
    }
    if norm is not None:
        values["rms_norm_eps"] = norm.epsilon
    return values | _rotation(attention.encoding)


def _sublayers(stack: Stack) -> tuple[Attention, FeedForward]:
    found = stack.pattern[0].sublayers
    if len(found) == 2 and isinstance(found[0], Attention) and isinstance(found[1], FeedForward):
        return found[0], found[1]
    raise InputError(f"{LLAMA}: its layers are not attention and a feed-forward")


def _rotation(encoding: Encoding) -> dict[str, Any]:
    try:
        return to_rope_parameters(encoding, "rope_scaling", "llama")
    except InputError as why:
        raise InputError(f"{LLAMA}: {why}") from why
