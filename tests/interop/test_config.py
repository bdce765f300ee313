"""Of a config.json nothing that changes the computation goes unread."""

from __future__ import annotations

import math

import pytest

from posjax.errors import InputError
from posjax.interop.config import Config


def test_what_is_read_is_what_stands_there():
    config = Config({"n": 3, "x": 2, "y": 0.5, "on": True, "word": "silu", "list": [1, 2]})
    assert config.whole("n") == 3
    assert config.number("x") == 2.0 and isinstance(config.number("x"), float)
    assert config.number("y") == 0.5
    assert config.flag("on") is True
    assert config.text("word", among=("silu", "gelu")) == "silu"
    assert config.get("list") == [1, 2]
    config.require_read()


def test_what_is_absent_or_null_is_its_default():
    config = Config({"head_dim": None})
    assert config.whole("head_dim", default=8) == config.whole("other", default=8) == 8
    assert config.number("a", default=1e-5) == 1e-5
    assert config.flag("b", default=False) is False
    assert config.text("c", default="silu") == "silu"
    assert config.get("d") is None


def test_one_thing_under_any_of_its_names():
    assert Config({"n_head": 4}).whole("num_attention_heads", "n_head") == 4
    same = Config({"n_head": 4, "num_attention_heads": 4})
    assert same.whole("num_attention_heads", "n_head") == 4
    same.require_read()
    with pytest.raises(InputError, match="num_attention_heads=4, n_head=8, two names of one thing"):
        Config({"n_head": 8, "num_attention_heads": 4}).whole("num_attention_heads", "n_head")


@pytest.mark.parametrize(
    ("read", "words"),
    [
        (lambda config: config.whole("text"), "text='8': needed is a whole number, 1 or more"),
        (lambda config: config.whole("zero"), "zero=0: needed is a whole number, 1 or more"),
        (lambda config: config.whole("half"), "half=0.5: needed is a whole number"),
        (lambda config: config.whole("yes"), "yes=True: needed is a whole number"),
        (lambda config: config.number("text"), "text='8': needed is a finite number"),
        (lambda config: config.number("infinite"), "infinite=inf: needed is a finite number"),
        (lambda config: config.number("yes"), "yes=True: needed is a finite number"),
        (lambda config: config.flag("zero"), "zero=0: needed is true or false"),
        (lambda config: config.text("zero"), "zero=0: needed is a text"),
        (lambda config: config.text("text", among=("a", "b")), "text='8': needed is one of a, b"),
        (lambda config: config.whole("none", "n"), "has no none or n: needed is a whole number"),
        (lambda config: config.flag("none"), "has no none: needed is true or false"),
        (lambda config: config.only("half", 1.0, 2.0), r"half=0.5: needed is 1.0 or 2.0"),
        (lambda config: config.nested("text"), "text='8': needed is an object"),
        (lambda config: config.nested("none"), "has no none: needed is an object"),
        (lambda config: config.nested("inner").whole("n"), "has inner.n='x': needed is a whole"),
        (lambda config: config.nested("inner").whole("m"), "has no inner.m: needed is a whole"),
    ],
)
def test_what_cannot_be_used_is_named(read, words):
    values = {"text": "8", "zero": 0, "half": 0.5, "yes": True, "infinite": math.inf, "inner": {"n": "x"}}
    with pytest.raises(InputError, match=f"here .*{words}"):
        read(Config(values, "here"))


def test_a_key_that_was_not_read_is_refused_with_its_value():
    config = Config({"model_type": "llama", "hidden_size": 4, "attn_scale": 0.1, "other": "x" * 200})
    assert config.whole("hidden_size") == 4
    with pytest.raises(InputError, match=r"the config has attn_scale=0\.1, other='x{99}\.\.\., .* not read for llama"):
        config.require_read()
    config.ignore("attn_scale", "other")
    config.require_read()


@pytest.mark.parametrize("value", [None, False, [], {}])
def test_what_is_off_asks_for_nothing(value):
    Config({"attn_scale": value}).require_read()


@pytest.mark.parametrize("value", [0, 0.0, "", True, [0]])
def test_what_is_on_asks_for_something(value):
    with pytest.raises(InputError, match="attn_scale"):
        Config({"attn_scale": value}).require_read()


def test_names_tokens_training_and_sampling_change_nothing():
    Config(
        {
            "architectures": ["LlamaForCausalLM"],
            "transformers_version": "5.24.0",
            "dtype": "bfloat16",
            "eos_token_id": [1, 2],
            "attention_dropout": 0.1,
            "use_cache": True,
            "temperature": 0.6,
        }
    ).require_read()


@pytest.mark.parametrize("key", ["quantization_config", "rope_scaling", "sliding_window", "is_decoder", "alibi"])
def test_what_changes_the_computation_is_not_idle(key):
    with pytest.raises(InputError, match=key):
        Config({key: True}).require_read()


def test_a_config_inside_another_is_held_to_the_same():
    config = Config(
        {"text_config": {"hidden_size": 4, "attn_scale": 0.1, "dtype": "float32"}, "vision_config": {"a": 1}}
    )
    inner = config.nested("text_config")
    assert inner.whole("hidden_size") == 4
    assert config.unread() == {"text_config.attn_scale": 0.1, "vision_config": {"a": 1}}
    assert inner.unread() == {"text_config.attn_scale": 0.1}


def test_a_value_that_has_to_be_one_of_few():
    config = Config({"pretraining_tp": 1})
    config.only("pretraining_tp", 1)
    config.only("absent", 1)
    config.require_read()
