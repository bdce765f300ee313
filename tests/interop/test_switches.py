"""Each field of an architecture that a family sets is needed: with another value the logits are not the publisher's."""

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest

from posjax import Alibi, Causal, Chunked, Full, Learned, NoPE, Rope, StepTemperature, T5Bias, Window, chain
from posjax.models import Attention, Compute, FeedForward, Layer, Norm, Scores, Stack
from tests.cases import first_of
from tests.interop.checkpoints import as_another, loaded, logits, marks

Change = Callable[[Any], Any]


def everywhere(kind: type, when: Callable[[Any], bool] = lambda part: True, /, **changes: Any) -> Change:
    """Every value of a kind with other fields, given as values or as functions of those that it has."""

    def changed(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(changed, value))
        if not is_dataclass(value) or isinstance(value, type):
            return value
        parts = {field.name: getattr(value, field.name) for field in fields(value)}
        new = {name: changed(part) for name, part in parts.items()}
        if isinstance(value, kind) and when(value):
            for name, change in changes.items():
                new[name] = change(parts[name]) if callable(change) else change
        if new == parts:
            return value
        return replace(value, **new)

    return changed


def rotated(**changes: Any) -> Change:
    return everywhere(Rope, **changes)


def attending(**changes: Any) -> Change:
    return everywhere(Attention, lambda part: part.keys_from == "stream", **changes)


def scored(**changes: Any) -> Change:
    return everywhere(Scores, **changes)


def without(*names: str) -> Change:
    return attending(biases=lambda biases: tuple(name for name in biases if name not in names))


def only(kind: type, other: Any) -> Callable[[Any], Any]:
    """Another value for those of a kind."""
    return lambda value: other if isinstance(value, kind) else value


def of(part: str, **changes: Any) -> Change:
    """Other fields of one part of the architecture."""
    return lambda architecture: replace(architecture, **{part: replace(getattr(architecture, part), **changes)})


SWITCHES: list[tuple[str, str, Change]] = [
    ("llama", "layout", rotated(layout="interleaved")),
    ("llama", "base", rotated(base=1e5)),
    ("llama", "epsilon", everywhere(Norm, epsilon=1e-2)),
    ("llama", "activation", everywhere(FeedForward, activation="gelu")),
    ("llama", "final norm", everywhere(Stack, final_norm=None)),
    ("llama", "tied", of("output", tied=True)),
    ("llama", "mask", attending(mask=Full())),
    ("gpt-neox", "fraction", rotated(fraction=1.0)),
    ("gpt-neox", "parallel", everywhere(Layer, parallel=False)),
    ("gpt-neox", "norm kind", everywhere(Norm, kind="rms")),
    ("gpt-neox", "norm bias", everywhere(Norm, bias=False)),
    ("gpt-neox", "query bias", without("query")),
    ("gpt-neox", "out bias", without("out")),
    ("gpt-neox", "feed-forward bias", everywhere(FeedForward, bias=False)),
    ("bloom", "slopes", everywhere(Alibi, factor=2.0)),
    ("bloom", "embedding norm", of("embedding", norm=None)),
    ("bloom", "activation", everywhere(FeedForward, activation="relu")),
    ("t5-v1-0", "scale", scored(scale=None)),
    ("t5-v1-0", "buckets", everywhere(T5Bias, max_distance=20)),
    ("t5-v1-0", "direction", everywhere(T5Bias, lambda bias: bias.bidirectional, bidirectional=False)),
    ("t5-v1-0", "multiplier", of("output", multiplier=1.0)),
    ("t5-v1-0", "cross encoding", everywhere(Attention, lambda a: a.keys_from == "memory", encoding=Rope())),
    ("llama-yarn", "schedule", rotated(schedule=lambda yarn: replace(yarn, factor=2.0))),
    ("llama-yarn", "temperature", rotated(schedule=lambda yarn: replace(yarn, attention_factor=1.0))),
    ("mistral-window-8", "window", attending(mask=Causal() & Window(9))),
    ("qwen2", "key and value biases", without("key", "value")),
    ("qwen3", "qk norm", scored(norm=None)),
    ("smollm3", "still layers", attending(encoding=only(NoPE, Rope(base=2e6)))),
    ("granite", "scale", scored(scale=None)),
    ("granite", "embedding", of("embedding", multiplier=1.0)),
    ("granite", "residual", everywhere(Layer, multiplier=1.0)),
    ("granite", "logits", of("output", multiplier=1.0)),
    ("olmo-2", "norm after", everywhere(Layer, norm_at="before")),
    ("olmo-2", "qk norm over all", scored(norm_over="each")),
    ("exaone-4", "windows", attending(mask=Causal())),
    ("gemma-2", "cap of scores", scored(cap=None)),
    ("gemma-2", "cap of logits", of("output", cap=None)),
    ("gemma-2", "offset", everywhere(Norm, offset=0.0)),
    ("gemma-3", "norms on both sides", everywhere(Layer, norm_at="before")),
    ("gemma-3", "local base", rotated(base=1e6)),
    ("cohere", "layout", rotated(layout="split")),
    ("cohere-2", "still layers", attending(encoding=only(NoPE, Rope(layout="interleaved")))),
    ("falcon-new-architecture", "two norms", everywhere(Layer, shared_norm=True)),
    ("gpt-2", "positions", everywhere(Learned, length=126, offset=2)),
    ("opt", "unused rows", everywhere(Learned, length=130, offset=0)),
    ("bert", "norm of sums", everywhere(Layer, norm_at="after")),
    ("bert", "types", of("embedding", types=0)),
    ("bert", "hidden", of("output", hidden=None)),
    ("bert", "output bias", of("output", bias=False)),
    ("bert", "both ways", attending(mask=Causal())),
    ("modernbert", "windows", attending(mask=only(Window, Window(4)))),
    ("llama-4-text-dense", "chunks", attending(mask=Causal())),
    ("llama-4-text-dense", "chunk", everywhere(Chunked, size=8)),
    ("llama-4-text-dense", "unit queries and keys", scored(norm=None)),
    ("llama-4-text-dense", "temperature", everywhere(StepTemperature, shift=0)),
    ("ministral-3", "temperature", attending(encoding=lambda parts: parts.parts[0])),
    ("starcoder2", "window", attending(mask=Causal())),
    ("starcoder2", "biases", without("query", "key", "value", "out")),
    ("stablelm", "fraction", rotated(fraction=1.0)),
    ("stablelm", "biases", without("query", "key", "value")),
    ("olmo-3", "windows", attending(mask=Causal())),
    ("olmo-3", "qk norm over all", scored(norm_over="each")),
    ("gemma-1", "offset", everywhere(Norm, offset=0.0)),
    ("gemma-1", "embedding", of("embedding", multiplier=1.0)),
    ("cohere-qk-norm", "qk norm", scored(norm=None)),
    ("mt5", "gate", everywhere(FeedForward, gated=False)),
    ("mt5", "scale", scored(scale=None)),
]


TRIED = len(SWITCHES) // 16
"""How many of them are tried by default: the others show more of the same."""


def _cases() -> list[Any]:
    found = []
    for name, switch, change in SWITCHES:
        found.append(pytest.param(name, change, id=f"{name}: {switch}", marks=marks(name)))
    return found


@first_of(("name", "change"), _cases(), keep=TRIED)
def test_another_value_is_another_model(name, change):
    model = loaded(name)
    other = change(model.architecture)
    assert other != model.architecture
    apart = np.abs(logits(as_another(model, other), name) - logits(as_another(model, model.architecture), name))
    assert apart.max() > 1e-3


def test_the_same_value_is_the_same_model():
    model = loaded("llama", compute=Compute(backend="reference"))
    np.testing.assert_array_equal(logits(as_another(model, model.architecture), "llama"), logits(model, "llama"))


def test_a_change_goes_everywhere():
    assert everywhere(Rope, base=2.0)(chain(Rope(), Alibi())) == chain(Rope(base=2.0), Alibi())
