"""What a key that is missing, or there as null, means to the class of a family."""

from __future__ import annotations

import pytest

from posjax import Causal, Chunked, InputError, NoPE, Rope, Window
from posjax.interop import describe
from posjax.models import FeedForward
from tests.interop.test_describing import MODERNBERT, MPT, T5, encodings, llama, sized

SIZES = (32, 64, 4, 4, 40)
THEIR_OWN = {"num_key_value_heads": 4, "head_dim": 8, "hidden_act": "gelu"}
LLAMA_4 = {**THEIR_OWN, "intermediate_size_mlp": 64, "moe_layers": []}
SLIDING = "sliding_attention"


def small(model_type, **more):
    return sized(model_type, *SIZES, **THEIR_OWN, **more)


def masks(config):
    return [mask for _, mask in encodings(config)]


def test_exaone_4_without_a_key_has_the_windows_of_its_class():
    turning = (Rope(), Causal() & Window(4096))
    still = (NoPE(), Causal())
    assert encodings(small("exaone4")) == [turning] * 3 + [still]
    types = [SLIDING, "full_attention", SLIDING, "full_attention"]
    assert encodings(small("exaone4", layer_types=types)) == [turning, still, turning, still]
    # Null is another thing than silence: no windows, and all layers turn.
    assert set(encodings(small("exaone4", sliding_window=None))) == {(Rope(), Causal())}
    with pytest.raises(InputError, match="sliding_window_pattern=null: needed is a number or a word"):
        describe(small("exaone4", sliding_window_pattern=None))


@pytest.mark.parametrize("model_type", ["qwen2", "qwen3", "smollm3"])
def test_a_window_that_is_null_is_none_whatever_the_switch_says(model_type):
    config = small(model_type, use_sliding_window=True, max_window_layers=0)
    assert Causal() & Window(4096) in masks(config)
    assert set(masks({**config, "sliding_window": None})) == {Causal()}


def test_chunks_that_are_null_are_none():
    config = sized("llama4_text", *SIZES, **LLAMA_4)
    assert masks(config)[0] == Causal() & Chunked(8192)
    assert set(masks({**config, "attention_chunk_size": None})) == {Causal()}


@pytest.mark.parametrize("model_type", ["gemma2", "gemma3_text", "cohere2", "olmo3"])
def test_sliding_layers_without_a_window_are_refused(model_type):
    assert Causal() & Window(4096) in masks(small(model_type))
    with pytest.raises(InputError, match="sliding_window=null"):
        describe(small(model_type, sliding_window=None))


def test_llama_4_has_heads_of_its_own():
    config = sized("llama4_text", 256, 64, 1, 16, 9, **LLAMA_4)
    for key in ("num_key_value_heads", "head_dim"):
        config.pop(key)
    attending = next(describe(config).required().main_stack.attentions())
    assert (attending.key_value_heads, attending.head_size) == (8, 128)


def test_mt5_gates_where_it_is_silent():
    def inner(model_type):
        last = describe({**T5, "model_type": model_type}).required().main_stack.pattern[0].sublayers[-1]
        assert isinstance(last, FeedForward)
        return last.gated, last.activation

    assert inner("mt5") == (True, "gelu_tanh") and inner("t5") == (False, "relu")


def test_a_width_that_the_code_of_mpt_does_not_read_is_refused():
    with pytest.raises(InputError, match="expansion_ratio=2: needed is 4"):
        describe({**MPT, "expansion_ratio": 2})


@pytest.mark.parametrize("given", [{}, {"hidden_act": "gelu"}, {"hidden_activation": "gelu_pytorch_tanh"}])
def test_gemma_1_is_read_where_all_releases_agree(given):
    config = sized("gemma", *SIZES, **{**THEIR_OWN, "hidden_act": "gelu_pytorch_tanh", **given})
    last = describe(config).required().main_stack.pattern[0].sublayers[-1]
    assert isinstance(last, FeedForward) and last.activation == "gelu_tanh"


@pytest.mark.parametrize("given", [{"hidden_act": "silu"}, {"hidden_activation": "gelu"}, {"hidden_act": "relu"}])
def test_gemma_1_is_refused_where_releases_part(given):
    key, value = next(iter(given.items()))
    with pytest.raises(InputError, match=f"{key}='{value}': needed is "):
        describe(sized("gemma", *SIZES, **{**THEIR_OWN, **given}))


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (sized("llama4_text", *SIZES, **{**LLAMA_4, "moe_layers": 3}), "moe_layers=3: needed is a list of layers"),
        (sized("llama4_text", *SIZES, **LLAMA_4, attn_scale=-1), "attn_scale=-1: needed is a number above 0"),
        (sized("llama4_text", *SIZES, **LLAMA_4, floor_scale=-1), "floor_scale=-1: needed is a whole number of tokens"),
        (small("gemma2", final_logit_softcapping=0.0), r"final_logit_softcapping=0\.0: needed is a number above 0"),
        (sized("modernbert", *SIZES, **{**MODERNBERT, "norm_eps": -1}), "norm_eps=-1: needed is a number above 0"),
        (llama(*SIZES, rope_theta=-1), r"rope_theta=-1\.0: needed is a base above 1"),
        (llama(*SIZES, rotary_pct=2.0), r"rotary_pct=2\.0, which the code"),
        (
            {**MPT, "attn_config": {"alibi": True, "softmax_scale": -1}},
            r"attn_config\.softmax_scale=-1: needed is a num",
        ),
    ],
)
def test_a_number_that_cannot_be_is_told_by_the_key_that_says_it(config, told):
    with pytest.raises(InputError, match=told) as error:
        describe(config)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("longest", [-1, 100.5])
def test_a_longest_context_is_a_number_of_tokens(longest):
    lists = {"type": "longrope", "short_factor": [1.0] * 4, "long_factor": [1.0] * 4}
    with pytest.raises(InputError, match=f"max_position_embeddings={longest}: needed is a whole number of tokens"):
        describe(small("phi3", max_position_embeddings=longest, rope_scaling=lists))
