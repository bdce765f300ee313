"""What a published configuration does not say is what its class takes, and what it says is never passed over."""

from __future__ import annotations

import pytest

from posjax import Causal, InputError, LongRope, Rope, Yarn, from_rope_parameters
from posjax.interop import describe, swapped, write
from posjax.models import build
from tests.interop.test_describing import sized

DECODERS = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi3", "olmo2", "starcoder2")


def small(model_type: str, **more) -> dict:
    sizes = {"num_key_value_heads": 8, "head_dim": 32, "hidden_act": "gelu"}
    return sized(model_type, 256, 64, 2, 8, 9, **sizes, **more)


@pytest.mark.parametrize("value", [False, None])
@pytest.mark.parametrize("model_type", DECODERS)
def test_a_decoder_that_sees_what_comes_after_is_refused(model_type, value):
    with pytest.raises(InputError, match=f"is_causal={value}"):
        describe(small(model_type, is_causal=value)).required()


def test_a_decoder_that_says_it_is_causal_is_read():
    architecture = describe(small("llama", is_causal=True)).required()
    assert next(architecture.main_stack.attentions()).mask == Causal()
    assert architecture == describe(small("llama")).required()


@pytest.mark.parametrize("written", ["gelu", "gelu_pytorch_tanh"])
def test_starcoders_older_name_of_its_activation_decides_nothing(written):
    beside = {"hidden_act": "gelu_pytorch_tanh", "activation_function": written}
    architecture = describe(small("starcoder2") | beside).required()
    assert architecture == describe(small("starcoder2") | {"hidden_act": "gelu_pytorch_tanh"}).required()
    with pytest.raises(InputError, match="activation_function='relu'"):
        describe(small("starcoder2") | {"activation_function": "relu"}).required()


def test_a_yarn_of_no_known_length_is_refused_too():
    with pytest.raises(InputError, match="type 'yarn' have neither"):
        from_rope_parameters({"max_position_embeddings": 4096, "rope_scaling": {"type": "yarn"}, "rope_theta": 1e4})


def test_the_length_that_phi3_was_trained_at_is_known_without_being_said():
    rope = {"type": "longrope", "short_factor": [1.0] * 16, "long_factor": [2.0] * 16}
    config = {"model_type": "phi3", "max_position_embeddings": 131_072, "rope_scaling": rope, "rope_theta": 1e4}
    encoding = from_rope_parameters(config)
    assert isinstance(encoding.schedule, LongRope)
    assert encoding.schedule.original_length == 4096 and encoding.schedule.factor == 32
    # sqrt(1 + ln 32 / ln 4096), Ding et al. 2024, arXiv:2402.13753, and the long list past the trained length.
    frequencies, factor = encoding.schedule.frequencies(32, 1e4, 8192)
    assert factor == pytest.approx(1.190238, abs=1e-6)
    assert frequencies[1] == pytest.approx(1e4 ** (-1 / 16) / 2)


@pytest.mark.parametrize("model_type", ["llama", "phimoe", None])
def test_a_longrope_of_no_known_length_is_refused(model_type):
    rope = {"type": "longrope", "short_factor": [1.0] * 16, "long_factor": [2.0] * 16}
    config = {"model_type": model_type, "max_position_embeddings": 131_072, "rope_scaling": rope, "rope_theta": 1e4}
    with pytest.raises(InputError, match="neither 'original_max_position_embeddings' nor a factor"):
        from_rope_parameters(config)
    # A factor that is said is believed.
    rope["factor"] = 4.0
    assert from_rope_parameters(config).schedule.factor == 4.0


# The defaults of the classes in transformers 5.24.
SILENT = {
    "llama": (8, 32),
    "gemma": (16, 256),
    "gemma2": (4, 256),
    "gemma3_text": (4, 256),
    "qwen3": (32, 128),
    "mistral": (8, 32),
    "qwen2": (32, 32),
    "stablelm": (32, 32),
    "starcoder2": (2, 32),
    "smollm3": (4, 32),
}


@pytest.mark.parametrize("model_type", SILENT)
def test_heads_that_are_not_said_are_those_of_the_class(model_type):
    shared, size = SILENT[model_type]
    heads = max(8, shared)
    config = sized(model_type, 32 * heads, 64, 2, heads, 9, hidden_act="gelu")
    attending = next(describe(config).required().main_stack.attentions())
    assert (attending.key_value_heads or heads, attending.head_size or 32) == (shared, size)
    config |= {"num_key_value_heads": None, "head_dim": None}
    if size > 32:
        with pytest.raises(InputError, match="head_dim=null"):
            describe(config).required()
        config |= {"head_dim": 32}
    # There as null, it is derived from the others.
    attending = next(describe(config).required().main_stack.attentions())
    assert (attending.key_value_heads or heads, attending.head_size or 32) == (heads, 32)


def test_ministral_3_has_defaults_of_its_own():
    config = sized("ministral3", 256, 64, 2, 8, 9, rope_parameters={"rope_type": "default", "rope_theta": 1e6})
    architecture = describe(config).required()
    attending = next(architecture.main_stack.attentions())
    assert (attending.key_value_heads or 8, attending.head_size) == (8, 128)
    assert architecture.decoder.pattern[0].norm.epsilon == 1e-5


LLAMA_4 = sized(
    *("llama4_text", 32, 64, 1, 4, 9),
    num_key_value_heads=4,
    head_dim=8,
    hidden_act="silu",
    intermediate_size_mlp=64,
    moe_layers=[],
)
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 16}


@pytest.mark.parametrize(("normed", "factor"), [(True, 1.0), (False, None)])
def test_a_norm_after_the_rotation_undoes_the_factor_of_a_schedule(normed, factor):
    config = {**LLAMA_4, "rope_parameters": YARN, "use_qk_norm": normed}
    schedule = Yarn(4.0, 16, attention_factor=factor)
    assert describe(config).required().encoding == Rope(1e4, schedule, layout="interleaved")


def test_a_factor_that_would_be_undone_is_not_written(tmp_path):
    architecture = describe(LLAMA_4).required()
    for factor in (1.0, None):
        rope = Rope(1e4, Yarn(4.0, 16, attention_factor=factor), layout="interleaved")
        model = build(swapped(architecture, rope), 9, 0)
        if factor is None:
            with pytest.raises(InputError, match=r"give its schedule attention_factor=1\.0"):
                write(model, tmp_path / "undone", config=LLAMA_4)
        else:
            write(model, tmp_path / "plain", config=LLAMA_4)
            assert describe(tmp_path / "plain").architecture == model.architecture


def test_keys_that_no_code_reads_are_no_reason_to_refuse():
    """As published files of SmolLM 2, FLAN-T5, GPT-2 and mirrors have them."""
    sizes = {"vocab_size": 40, "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 1}
    idle = {"is_llama_config": True, "output_past": True, "unsloth_fixed": True, "transformers.js_config": {}}
    told = {"model_type": "llama", "num_attention_heads": 4, "rope_theta": 1e5, **sizes}
    assert describe({**told, **idle}) == describe(told)
