"""Configurations as they are published: each has the number of parameters that its model is known to have."""

import pytest

from posjax import Alibi, Causal, InputError, Llama3, NoPE, Rope, StepTemperature, Window, Yarn, chain
from posjax.interop import describe
from posjax.interop.families import NAMED
from posjax.interop.family import spelled
from posjax.models import Attention
from tests.golden import HERE


def sized(model_type, width, feed_forward, layers, heads, vocabulary, **more):
    """The keys of most families."""
    return {
        "model_type": model_type,
        "hidden_size": width,
        "intermediate_size": feed_forward,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "vocab_size": vocabulary,
        **more,
    }


def llama(*sizes, **more):
    return sized("llama", *sizes, hidden_act="silu", rms_norm_eps=1e-5, max_position_embeddings=4096, **more)


def gpt(model_type, width, layers, heads, vocabulary, **more):
    """The keys of GPT-2 and GPT-J."""
    sizes = {"n_embd": width, "n_layer": layers, "n_head": heads, "vocab_size": vocabulary, "n_ctx": 1024}
    return {"model_type": model_type, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, **sizes, **more}


SCALED = {
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}
GEMMA = {"head_dim": 256, "hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-6}
GEMMA_3 = {**GEMMA, "rope_theta": 1_000_000, "rope_local_base_freq": 10_000, "rope_scaling": None}
BLOOM = {
    "model_type": "bloom",
    "n_embed": 1024,
    "n_layer": 24,
    "num_attention_heads": 16,
    "vocab_size": 250_880,
    "layer_norm_epsilon": 1e-5,
    "apply_residual_connection_post_layernorm": False,
    "attention_softmax_in_fp32": True,
    "masked_softmax_fusion": True,
    "offset_alibi": 100,
    "pretraining_tp": 1,
    "seq_length": 2048,
    "skip_bias_add": True,
    "skip_bias_add_qkv": False,
}
T5 = {
    "model_type": "t5",
    "d_model": 512,
    "d_ff": 2048,
    "d_kv": 64,
    "num_heads": 8,
    "num_layers": 6,
    "vocab_size": 32_128,
    "is_encoder_decoder": True,
    "n_positions": 512,
    "layer_norm_epsilon": 1e-6,
    "relative_attention_num_buckets": 32,
}
FLAN = {
    **T5,
    "d_ff": 1024,
    "num_heads": 6,
    "num_layers": 8,
    "num_decoder_layers": 8,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
}
MPT = {
    "model_type": "mpt",
    "d_model": 4096,
    "n_heads": 32,
    "n_layers": 32,
    "expansion_ratio": 4,
    "max_seq_len": 2048,
    "no_bias": True,
    "norm_type": "low_precision_layernorm",
    "vocab_size": 50_432,
    "attn_config": {"alibi": True, "alibi_bias_max": 8, "attn_impl": "torch", "attn_pdrop": 0, "qk_ln": False},
}
FALCON = {
    "model_type": "falcon",
    "hidden_size": 4544,
    "num_attention_heads": 71,
    "num_hidden_layers": 32,
    "vocab_size": 65_024,
    "alibi": False,
    "bias": False,
    "multi_query": True,
    "parallel_attn": True,
    "new_decoder_architecture": False,
    "layer_norm_epsilon": 1e-5,
}
OPT = {
    "model_type": "opt",
    "hidden_size": 768,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "ffn_dim": 3072,
    "max_position_embeddings": 2048,
    "word_embed_proj_dim": 768,
    "do_layer_norm_before": True,
    "activation_function": "relu",
    "vocab_size": 50_272,
}
MODERNBERT = {
    "global_attn_every_n_layers": 3,
    "global_rope_theta": 160_000.0,
    "local_rope_theta": 10_000.0,
    "local_attention": 128,
    "hidden_activation": "gelu",
    "norm_eps": 1e-5,
    "position_embedding_type": "absolute",
}
STARCODER = {"num_key_value_heads": 2, "hidden_act": "gelu_pytorch_tanh", "use_bias": True, "norm_epsilon": 1e-5}

COUNTED = {
    "GPT-2 small": (gpt("gpt2", 768, 12, 12, 50_257, n_positions=1024), 124_439_808),
    "Llama 2 7B": (llama(4096, 11_008, 32, 32, 32_000, pretraining_tp=1), 6_738_415_616),
    "Llama 3 8B": (llama(4096, 14_336, 32, 32, 128_256, num_key_value_heads=8, rope_theta=5e5), 8_030_261_248),
    "Llama 3.2 1B": (
        llama(
            *(2048, 8192, 16, 32, 128_256),
            num_key_value_heads=8,
            head_dim=64,
            rope_theta=5e5,
            rope_scaling=SCALED,
            tie_word_embeddings=True,
        ),
        1_235_814_400,
    ),
    "TinyLlama": (llama(2048, 5632, 22, 32, 32_000, num_key_value_heads=4), 1_100_048_384),
    "SmolLM2 135M": (
        llama(576, 1536, 30, 9, 49_152, num_key_value_heads=3, rope_theta=1e5, tie_word_embeddings=True),
        134_515_008,
    ),
    "Mistral 7B": (
        sized("mistral", 4096, 14_336, 32, 32, 32_000, num_key_value_heads=8, sliding_window=4096, rope_theta=1e4),
        7_241_732_096,
    ),
    "Qwen2.5 0.5B": (
        sized(
            *("qwen2", 896, 4864, 24, 14, 151_936),
            num_key_value_heads=2,
            tie_word_embeddings=True,
            use_sliding_window=False,
            sliding_window=32_768,
            max_window_layers=24,
            rope_theta=1e6,
        ),
        494_032_768,
    ),
    "Qwen3 0.6B": (
        sized(
            *("qwen3", 1024, 3072, 28, 16, 151_936),
            num_key_value_heads=8,
            head_dim=128,
            tie_word_embeddings=True,
            rope_theta=1e6,
        ),
        596_049_920,
    ),
    "Pythia 160M": (
        sized(
            *("gpt_neox", 768, 3072, 12, 12, 50_304),
            rotary_pct=0.25,
            rotary_emb_base=10_000,
            use_parallel_residual=True,
            tie_word_embeddings=False,
        ),
        162_322_944,
    ),
    "BLOOM 560M": (BLOOM, 559_214_592),
    "MPT 7B": (MPT, 6_649_286_656),
    "Falcon 7B": (FALCON, 6_921_720_704),
    "T5 small": (T5, 60_506_624),
    "FLAN-T5 small": (FLAN, 76_961_152),
    "mT5 small": ({**FLAN, "model_type": "mt5", "vocab_size": 250_112}, 300_176_768),
    "OLMo 2 7B": (sized("olmo2", 4096, 11_008, 32, 32, 100_352, rope_theta=5e5, rms_norm_eps=1e-6), 7_298_617_344),
    "Gemma 2B": (
        sized("gemma", 2048, 16_384, 18, 8, 256_000, num_key_value_heads=1, head_dim=256, hidden_act="gelu"),
        2_506_172_416,
    ),
    "Phi-2": (
        sized(
            "phi", 2560, 10_240, 32, 32, 51_200, hidden_act="gelu_new", partial_rotary_factor=0.4, rope_theta=10_000.0
        ),
        2_779_683_840,
    ),
    "Phi-3 mini": (sized("phi3", 3072, 8192, 32, 32, 32_064, sliding_window=2047, rope_theta=1e4), 3_821_079_552),
    "Gemma 2 2B": (
        sized("gemma2", 2304, 9216, 26, 8, 256_000, num_key_value_heads=4, hidden_act="gelu_pytorch_tanh", **GEMMA),
        2_614_341_888,
    ),
    "Gemma 3 1B": (
        sized("gemma3_text", 1152, 6912, 26, 4, 262_144, num_key_value_heads=1, sliding_window=512, **GEMMA_3),
        999_885_952,
    ),
    "SmolLM3 3B": (
        sized(
            "smollm3", 2048, 11_008, 36, 16, 128_256, num_key_value_heads=4, rope_theta=5e6, no_rope_layer_interval=4
        ),
        3_075_098_624,
    ),
    "OPT 125M": (OPT, 125_239_296),
    "BERT base, masked tokens": (
        sized("bert", 768, 3072, 12, 12, 30_522, hidden_act="gelu", layer_norm_eps=1e-12, type_vocab_size=2),
        109_514_298,
    ),
    "ModernBERT base, masked tokens": (sized("modernbert", 768, 1152, 22, 12, 50_368, **MODERNBERT), 149_655_232),
    "StarCoder2 3B": (
        sized("starcoder2", 3072, 12_288, 30, 24, 49_152, rope_theta=1e6, sliding_window=4096, **STARCODER),
        3_030_371_328,
    ),
    "StableLM 3B": (
        sized("stablelm", 2560, 6912, 32, 32, 50_304, partial_rotary_factor=0.25, rope_theta=10_000, hidden_act="silu"),
        2_795_443_200,
    ),
}


@pytest.mark.parametrize("name", COUNTED)
def test_a_published_model_has_the_parameters_that_it_is_known_for(name):
    config, count = COUNTED[name]
    assert describe(config).parameters == count


def encodings(config):
    """Encoding and mask of each layer."""
    stack = describe(config).required().main_stack
    firsts = [stack.layer(i).sublayers[0] for i in range(stack.layers)]
    return [(first.encoding, first.mask) for first in firsts if isinstance(first, Attention)]


def test_layers_have_the_encodings_and_masks_that_they_are_published_with():
    gemma = encodings(COUNTED["Gemma 3 1B"][0])
    assert gemma[4] == (Rope(base=1e4), Causal() & Window(512)) and gemma[5] == (Rope(base=1e6), Causal())
    still = [encoding == NoPE() for encoding, _ in encodings(COUNTED["SmolLM3 3B"][0])]
    assert still == 9 * [False, False, False, True]
    assert encodings(COUNTED["Llama 3.2 1B"][0])[0][0] == Rope(base=5e5, schedule=Llama3(32.0, 8192))
    assert encodings(BLOOM)[0] == (Alibi(), Causal())
    windows = [mask for _, mask in encodings(COUNTED["ModernBERT base, masked tokens"][0])]
    assert windows[1] == windows[2] == Window(65) and windows[3] != Window(65)


def test_a_class_fills_in_what_a_configuration_leaves_out():
    sizes = (64, 96, 4, 4, 40)
    assert encodings(sized("mistral", *sizes, num_key_value_heads=4, rope_theta=1e4))[0][1] == Causal() & Window(4096)
    assert (
        encodings(sized("mistral", *sizes, num_key_value_heads=4, rope_theta=1e4, sliding_window=None))[0][1]
        == Causal()
    )
    cohere = describe(sized("cohere", *sizes, layer_norm_eps=1e-5)).required()
    assert cohere.output.multiplier == 0.0625 and cohere.output.tied
    silent = sized("exaone4", *sizes, num_key_value_heads=4, rope_theta=1e6)
    exaone = encodings({**silent, "sliding_window": 8, "sliding_window_pattern": "LLLG"})
    assert [encoding for encoding, _ in exaone] == [Rope(base=1e6)] * 3 + [NoPE()]
    whole = encodings({**silent, "sliding_window": None})
    assert set(whole) == {(Rope(base=1e6), Causal())}


def test_what_is_scaled_in_olmo_3_are_the_layers_that_see_everything():
    yarn = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 8192}
    found = encodings(sized("olmo3", 64, 96, 4, 4, 40, rope_theta=5e5, rope_scaling=yarn, sliding_window=16))
    assert found[:3] == [(Rope(base=5e5), Causal() & Window(16))] * 3
    assert found[3] == (Rope(base=5e5, schedule=Yarn(8.0, 8192)), Causal())


def test_a_temperature_is_described():
    scaled = {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 16,
        "rope_theta": 1e4,
        "llama_4_scaling_beta": 0.1,
    }
    (found, _) = encodings(sized("ministral3", 64, 96, 1, 4, 40, num_key_value_heads=4, rope_parameters=scaled))[0]
    assert found == chain(Rope(base=1e4, schedule=Yarn(4.0, 16)), StepTemperature(0.1, 16))


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({}, "the config has no model_type"),
        ({"model_type": "llama"}, "has no vocab_size"),
        (llama(64, 96, 2, 4, 40, rope_scaling={"type": "spiral"}), "spiral"),
        (sized("gemma2", 64, 96, 2, 4, 40, **{**GEMMA, "query_pre_attn_scalar": 0}), "=0: needed is a number above 0"),
        (llama(64, 96, 10**12, 4, 40), "num_hidden_layers=1000000000000: needed is a whole number, 16384 at most"),
        (
            gpt("gpt2", 64, 10**12, 4, 40, n_positions=64),
            "n_layer=1000000000000: needed is a whole number, 16384 at most",
        ),
        ({**T5, "num_decoder_layers": 10**12}, "16384 at most"),
        (llama(2**31, 96, 2, 4, 40), "hidden_size=2147483648: needed is a whole number, 2147483647 at most"),
        (llama(64, 96, 2, 4, 40, num_local_experts=8), "num_local_experts=8, which may change the computation"),
        ({**MPT, "attn_config": {**MPT["attn_config"], "clip_qkv": 6}}, r"attn_config.clip_qkv=6, which may"),
        ({**MPT, "attn_config": {**MPT["attn_config"], "alibi": False}}, "alibi=False: needed is True"),
        ({**BLOOM, "apply_residual_connection_post_layernorm": True}, "needed is False"),
        ({**OPT, "word_embed_proj_dim": 512}, "word_embed_proj_dim=512: needed is 768"),
        ({**T5, "feed_forward_proj": "gated-elu"}, "needed is one of relu"),
        ({**FALCON, "alibi": True, "no_such": 1}, "no_such=1"),
        (sized("qwen2", 64, 96, 2, 4, 40, layer_types=["sliding_attention"] * 2), "2 types, each full_attention"),
        (sized("smollm3", 64, 96, 2, 4, 40, no_rope_layers=[1]), "2 numbers, 1 for a layer that turns"),
        (sized("stablelm", 64, 96, 2, 4, 40, qk_layernorm=True, partial_rotary_factor=0.25), "qk_layernorm=True"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(config, told):
    with pytest.raises(InputError, match=told) as error:
        describe(config)
    assert "\n" not in str(error.value)


def test_what_is_known_by_name_alone_says_why():
    found = describe({"model_type": "mixtral", "vocab_size": 32_000, "num_local_experts": 8})
    assert found.family == "mixtral" and found.architecture is None and "mixtures of experts" in found.beyond
    with pytest.raises(InputError, match="model_type='mixtral' is not read"):
        assert found.parameters


def test_a_folder_and_a_file_are_described_alike():
    folder = HERE / "published" / "llama"
    assert describe(folder) == describe(folder / "config.json") == describe(str(folder))


def test_every_family_has_a_name_of_its_own():
    assert all(name in family.names for name, family in NAMED.items())
    assert spelled("a.b.c", (("a.", ""), (".c", ".d"))) == "b.d"
