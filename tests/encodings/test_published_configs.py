"""Configurations of published checkpoints: each is understood or refused by name, and none is read wrong in silence."""

import re

import numpy as np
import pytest

from posjax import (
    NTK,
    DynamicNTK,
    Encoding,
    InputError,
    Interpolation,
    Llama3,
    LogN,
    LongRope,
    Plain,
    Proportional,
    Rope,
    StepTemperature,
    Yarn,
    chain,
    from_rope_parameters,
    to_rope_parameters,
)
from posjax.encodings import Chain
from tests import golden

CONFIGS = golden.cases("rope_published.json")
ORIGINAL = "original_max_position_embeddings"

STILL = {  # name: what the refusal must name
    "Kimi K3 (no rope keys)": "model_type='kimi_linear', which does not rotate: take NoPE",
    "Falcon-RW 1B (alibi true)": "alibi=True, which is no plain rotary embedding: take Alibi",
    "Nemotron 3 Nano (hybrid, NoPE attention)": "model_type='nemotron_h', which does not rotate: take NoPE",
    "Jamba (no positions)": "model_type='jamba', which does not rotate: take NoPE",
}
BY_LAYER = {"OLMo 3 7B, full layers": "full_attention", "MiMo V2 Flash, full": "full_attention"}
"""Without a layer type in the file, though their layers differ: refused until it is named."""
CHAINED = {"Ministral 3 3B": StepTemperature(0.1, 16384), "Qwen 1 (7B)": LogN(8192)}
"""What scales the queries after the rotation."""
INTERLEAVED = {
    "llama4_text",
    "deepseek_v2",
    "deepseek_v3",
    "deepseek_v4",
    "kimi_k2",
    "glm",
    "glm_moe_dsa",
    "chatglm",
    "cohere",
    "cohere2",
    "gptj",
    "ernie4_5",
}
"""Model types of the file whose pairs are neighbours, as their released code has it; GLM-5 says so by a key."""
OWN_FACTOR = {"Phi-3.5 MoE": 1.243163121016122}
"""Where the released code of the model does not take transformers' general factor: its two mscales."""
READ_ELSEWHERE = {"ChatGLM3 6B": (64, 32), 'Phi-3 mini 128k ("su")': (96, 48)}
"""Without frequencies in the file, yet rotary: channels that turn, and pairs."""


def head_size(case: dict) -> int:
    config = case["config"]
    if case["layer_type"] == "full_attention" and "global_head_dim" in config:
        return config["global_head_dim"]
    named = [config[key] for key in ("qk_rope_head_dim", "head_dim", "kv_channels") if key in config]
    if named:
        return named[0]
    width, heads = config.get("hidden_size", config.get("n_embd")), config.get("num_attention_heads")
    return width // (heads or config["n_head"])


def read(case: dict) -> Encoding:
    return from_rope_parameters(case["config"], BY_LAYER.get(case["name"], case["layer_type"]))


def agrees(rope: Rope, case: dict, expected: list[float]) -> None:
    frequencies, factor = rope.schedule.frequencies(rope.rotary_size(head_size(case)), rope.base)
    np.testing.assert_allclose(frequencies, expected, rtol=1e-6, atol=0)
    np.testing.assert_allclose(factor, OWN_FACTOR.get(case["name"], case["attention_factor"]), rtol=1e-6)


ROTARY = [case for case in CONFIGS if case["name"] not in STILL]


@pytest.mark.holds(
    DynamicNTK, Interpolation, Llama3, LongRope, NTK, Plain, Proportional, Yarn, to="rope_published.json"
)
@pytest.mark.parametrize("case", ROTARY, ids=lambda case: case["name"])
def test_every_published_configuration_is_right(case):
    rope = encoding = read(case)
    if isinstance(encoding, Chain):
        rope, temperature = encoding.parts
        assert temperature == CHAINED[case["name"]]
    assert rope.layout == ("interleaved" if case["config"]["model_type"] in INTERLEAVED else "split")
    if case["name"] in READ_ELSEWHERE:
        size, pairs = READ_ELSEWHERE[case["name"]]
        assert rope.rotary_size(head_size(case)) == size and len(rope.schedule.frequencies(size, rope.base)[0]) == pairs
        return
    agrees(rope, case, case["inv_freq"])
    # Hunyuan's base grows once, by alpha; transformers' general code recomputes it past the length without the alpha.
    if "at_length" in case and not isinstance(rope.schedule, NTK):
        agrees(rope.at_length(case["at_length"]), case, case["inv_freq_at_length"])


@pytest.mark.parametrize("case", [case for case in CONFIGS if case["name"] in STILL], ids=lambda case: case["name"])
def test_a_published_model_that_does_not_rotate_is_refused_by_name(case):
    with pytest.raises(InputError, match=re.escape(STILL[case["name"]])):
        read(case)


@pytest.mark.parametrize("case", [case for case in CONFIGS if case["name"] in BY_LAYER], ids=lambda case: case["name"])
def test_a_published_model_whose_layers_differ_needs_the_layer_type(case):
    with pytest.raises(InputError, match="give layer_type, one of full_attention, sliding_attention"):
        from_rope_parameters(case["config"])


@pytest.mark.parametrize("case", ROTARY, ids=lambda case: case["name"])
def test_a_published_configuration_survives_the_round_trip(case):
    encoding, name = read(case), case["config"]["model_type"]
    if case["name"] == "Qwen 1 (7B)":
        with pytest.raises(InputError, match="needed is a Rope"):
            to_rope_parameters(encoding)
        return
    if case["name"] == "GPT-J 6B":
        with pytest.raises(InputError, match="whose code reads none: it reads rotary_dim"):
            to_rope_parameters(encoding, model_type=name)
        return
    # MiMo's and Gemma's flat files have a second base: beside it the parameters are those of one layer type.
    layer_type = BY_LAYER.get(case["name"], case["layer_type"])
    if layer_type is not None:
        nested = to_rope_parameters({layer_type: encoding}, model_type=name)
        assert from_rope_parameters({"model_type": name, "rope_parameters": nested}, layer_type) == encoding
        return
    written = to_rope_parameters(encoding, model_type=name)
    assert from_rope_parameters({"model_type": name, "hidden_size": 4096, "rope_parameters": written}) == encoding
    old = to_rope_parameters(encoding, "rope_scaling", name)
    assert from_rope_parameters({"model_type": name, "hidden_size": 4096, **old}) == encoding


def test_the_lists_of_exceptions_are_of_this_file():
    named = {*STILL, *BY_LAYER, *CHAINED, *OWN_FACTOR, *READ_ELSEWHERE}
    assert len(CONFIGS) == 84 and named <= {case["name"] for case in CONFIGS}
    assert {case["config"]["model_type"] for case in CONFIGS} >= INTERLEAVED


GPTJ = {"rotary_dim": 64, "n_embd": 4096, "n_head": 16}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, ORIGINAL: 4096}
COHERE = Rope(5e5, Interpolation(2.0), layout="interleaved")
LATENT = {"rope_theta": 1e4, "qk_rope_head_dim": 64, "head_dim": 128}
LISTS = {"short_factor": [1, 1], "long_factor": [2, 3]}


@pytest.mark.parametrize(
    ("config", "rope"),
    [
        ({"rotary_pct": 0.25, "rotary_emb_base": 10_000}, Rope(1e4, fraction=0.25)),
        (
            {"rotary_emb_fraction": 0.5, "rotary_emb_base": 1000, "rotary_emb_interleaved": True},
            Rope(1e3, fraction=0.5, layout="interleaved"),
        ),
        (GPTJ, Rope(fraction=0.25, layout="interleaved")),
        (GPTJ | {"model_type": "phi-msft", "rotary_dim": 32, "n_embd": 2560, "n_head": 32}, Rope(fraction=0.4)),
        ({"rope_theta": 5e6, "rotary_dim": 64, "head_dim": 128, "partial_rotary_factor": 0.5}, Rope(5e6, fraction=0.5)),
        ({"text_config": {"rope_theta": 1e6}, "vision_config": {"rope_theta": 100.0}}, Rope(1e6)),
        ({"model_type": "dbrx", "attn_config": {"kv_n_heads": 8, "rope_theta": 5e5}}, Rope(5e5)),
        (
            {
                "model_type": "mpt",
                "attn_config": {"alibi": False, "alibi_bias_max": 8, "rope": True, "rope_theta": 1e4},
            },
            Rope(1e4),
        ),
        (
            {"model_type": "chatglm", "rope_ratio": 500, "original_rope": True},
            Rope(5e6, fraction=0.5, layout="interleaved"),
        ),
        ({"rope_ratio": 50}, Rope(5e5, fraction=0.5, layout="interleaved")),
        ({"model_type": "chatglm", "original_rope": False}, Rope(fraction=0.5)),
        ({"rope_theta": 1e6, "rope_interleave": True}, Rope(1e6, layout="interleaved")),
        ({"model_type": "deepseek_v3", "rope_theta": 1e4, "rope_interleave": False}, Rope()),
        ({"model_type": "my_own", "rope_theta": 1e6, "rope_interleave": False}, Rope(1e6)),
        ({"model_type": "roformer", "rotary_value": False}, Rope(layout="interleaved")),
        ({"model_type": "llama4_text"}, Rope(5e5, layout="interleaved")),
        (YARN | {"mscale": 1.0}, Rope(schedule=Yarn(4.0, 4096))),
        (YARN | {"mscale": 1, "mscale_all_dim": 0}, Rope(schedule=Yarn(4.0, 4096))),
        (YARN | {"finetuned": True}, Rope(schedule=Yarn(4.0, 4096))),
        (
            {"max_position_embeddings": 32768, "rope_parameters": YARN | {"factor": None}},
            Rope(schedule=Yarn(8.0, 4096)),
        ),
        ({"rope_type": "default", "factor": 1.0}, Rope()),
        ({"rope_type": "proportional", "factor": 1.0, "partial_rotary_factor": 0.5}, Rope(schedule=Proportional(0.5))),
        (
            {"rope_type": "proportional", "factor": 2.0, "partial_rotary_factor": 0.5},
            Rope(schedule=Proportional(0.5, 2.0)),
        ),
        (YARN | {"beta_fast": 1, "beta_slow": 1}, Rope(schedule=Yarn(4.0, 4096, 1, 1))),
        ({"rope_theta": np.float32(5e5), "max_position_embeddings": np.int64(8)}, Rope(5e5)),
        (
            {"max_position_embeddings": 8192, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}},
            Rope(schedule=Llama3(8.0, 8192)),
        ),
        (
            {"max_position_embeddings": 131072, ORIGINAL: 8192, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}},
            Rope(schedule=Llama3(8.0, 8192)),
        ),
        (
            {"max_position_embeddings": 64, "rope_scaling": {"type": "longrope", "factor": 4.0, **LISTS}},
            Rope(schedule=LongRope(4.0, 64, (1.0, 1.0), (2.0, 3.0))),
        ),
        (
            {"max_position_embeddings": 32, ORIGINAL: 64, "rope_scaling": {"type": "longrope", **LISTS}},
            Rope(schedule=LongRope(1.0, 64, (1.0, 1.0), (2.0, 3.0))),
        ),
        (
            {"rope_type": "longrope", "factor": 4.0, ORIGINAL: 64, "short_mscale": 1.25, "long_mscale": 1.25, **LISTS},
            Rope(schedule=LongRope(4.0, 64, (1.0, 1.0), (2.0, 3.0), 1.25)),
        ),
        (
            {"rope_type": "longrope", "factor": 4.0, ORIGINAL: 64, "short_mscale": 1.25, "long_mscale": 1.5, **LISTS},
            Rope(schedule=LongRope(4.0, 64, (1.0, 1.0), (2.0, 3.0), 1.25, long_attention_factor=1.5)),
        ),
        ({"type": "linear", "factor": 2.0, "rope_theta": 1e6}, Rope(1e6, Interpolation(2.0))),
        ({"rope_scaling": YARN | {"mrope_section": [2, 1, 1], "interleaved": True}}, Rope(schedule=Yarn(4.0, 4096))),
        (YARN | {"llama_4_scaling_beta": 0.1}, chain(Rope(schedule=Yarn(4.0, 4096)), StepTemperature(0.1, 4096))),
        (YARN | {"llama_4_scaling_beta": 0}, Rope(schedule=Yarn(4.0, 4096))),
        ({"rope_type": "default", "llama_4_scaling_beta": 0.2, ORIGINAL: 8}, chain(Rope(), StepTemperature(0.2, 8))),
        ({"model_type": "qwen", "use_logn_attn": True, "seq_length": 8}, chain(Rope(), LogN(8))),
        ({"model_type": "cohere", "rope_scaling": {"type": "linear", "factor": 2.0}}, COHERE),
        ({"model_type": "gpt_neox", "rotary_emb_base": 1000}, Rope(1e3, fraction=0.25)),
        ({"model_type": "gpt_oss", "rope_scaling": YARN | {"rope_theta": None}}, Rope(150_000.0, Yarn(4.0, 4096))),
        (LATENT, Rope()),
        (LATENT | {"partial_rotary_factor": 0.5}, Rope()),
        (LATENT | {"partial_rotary_factor": 1.0}, Rope()),
        (LATENT | {"partial_rotary_factor": 0.4, "qk_nope_head_dim": 96}, Rope()),
        ({"model_type": "smollm3", "no_rope_layers": [1, 0]}, Rope(2e6)),
        (
            {"rope_scaling": {"type": "dynamic", "alpha": 1000.0, "factor": 1.0, "beta_fast": 32, "mscale": 1.0}},
            Rope(schedule=NTK(1000.0)),
        ),
        (
            {"max_position_embeddings": 64, "rope_scaling": {"type": "dynamic", "factor": 2.0, "beta_slow": 1}},
            Rope(schedule=DynamicNTK(2.0, 64)),
        ),
    ],
    ids=str,
)
def test_spellings(config, rope):
    assert from_rope_parameters(config) == rope


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({}, "names nothing rotary"),
        ({"model_type": "bloom"}, "model_type='bloom'"),
        ({"model_type": "unheard"}, "names nothing rotary"),
        ({"rope_scaling": None, "hidden_size": 4, "rope_theta": None}, "names nothing rotary"),
        ({"max_position_embeddings": 4, "alibi": False}, "names nothing rotary"),
        ({"rope_parameters": {"full_attention": None}}, "unknown key 'full_attention'"),
        ({"model_type": "unheard", "rope_theta": 1e4}, "give layout, 'split'"),
        ({"model_type": "dbrx", "rope_scaling": {"type": "linear", "factor": 2.0}}, "add rope_theta"),
        ({"model_type": "phi-msft", "rotary_emb_base": 1e4}, "add partial_rotary_factor"),
        ({"model_type": "baichuan", "hidden_size": 5120}, "take Alibi for the 13B"),
        ({"model_type": "nanochat"}, "turns by minus the angle: swap the halves"),
        ({"model_type": "gpt2", "n_embd": 768}, "does not rotate: take Learned"),
        ({"model_type": "mpt", "attn_config": {"alibi": False}}, "names nothing rotary"),
        ({"model_type": 4, "rope_theta": 1e4}, "model_type=4"),
        ({"rope_theta": 1e4, "alibi": True}, "alibi=True"),
        ({"rope_theta": 1e4, "position_embedding_type": "absolute"}, "position_embedding_type='absolute'"),
        ({"rope_theta": 1e4, "use_rotary_scaling": 2}, "use_rotary_scaling=2"),
        ({"rope_theta": 1e4, "ROPE_theta": 2}, "ROPE_theta=2"),
        ({"rope_theta": 1e4, "pos_rope_axes": [1]}, "pos_rope_axes=[1]"),
        ({"rope_theta": [1e4, 1e6]}, "rope_theta=[10000.0, 1000000.0]"),
        ({"rope_theta": True}, "rope_theta=True"),
        ({"rope_theta": 1e4, "rotary_emb_base": 1e6}, "rope_theta=10000.0 and rotary_emb_base=1000000.0"),
        ({"rotary_pct": 0.5, "partial_rotary_factor": 0.25}, "partial_rotary_factor=0.25 and rotary_pct=0.5"),
        ({"rope_theta": 1e4, "rotary_dim": 64, "head_dim": 128, "rotary_pct": 0.25}, "rotary_dim=64"),
        ({"rope_theta": 1e4, "rotary_dim": 64}, "add head_dim"),
        ({"rope_interleave": True, "rotary_emb_interleaved": False}, "both layouts"),
        ({"rope_theta": 1e4, "rope_interleave": "yes"}, "rope_interleave='yes'"),
        ({"rope_theta": 1e4, "model_type": "llama", "rope_ratio": 2}, "rope_ratio=2"),
        ({"rope_theta": 1e4, "text_config": {"rope_theta": 1e6}}, "rope_theta=10000.0 on one side of text_config"),
        ({"text_config": {"hidden_size": 4}}, "names nothing rotary"),
        ({"rope_theta": 1e4, "attn_config": {"rope_theta": 1e6}}, "rope_theta=1000000.0 on one side of attn_config"),
        ({"attn_config": {"alibi": True, "rope_theta": 1e4}}, "alibi=True"),
        ({"rope_theta": 1e4, "rope_scaling": "linear"}, "rope_scaling='linear'"),
        ({"rope_parameters": {"rope_type": ["linear"]}}, "the type ['linear']"),
        ({"rope_theta": 1e4, "rope_scaling": {"type": "mrope", "mrope_section": [2.5]}}, "mrope_section=[2.5]"),
        ({"rope_type": "default", "mrope_interleaved": True}, "unknown key 'mrope_interleaved'"),
        ({"rope_type": "default", "interleaved": True}, "unknown key 'interleaved'"),
        ({"rope_type": "default", "rope_axes": 2}, "unknown key 'rope_axes'"),
        ({"model_type": "llama", "rope_scaling": YARN | {"llama_4_scaling_beta": 0.1}}, "model_type='llama' does not"),
        ({"rope_type": "default", "llama_4_scaling_beta": 0.1}, f"lack '{ORIGINAL}'"),
        ({"rope_theta": 1e4, "llama_4_scaling_beta": 0.1}, "llama_4_scaling_beta=0.1 beside"),
        ({"model_type": "llama", "rope_theta": 1e4, "use_dynamic_ntk": True}, "known of Qwen alone"),
        ({"model_type": "qwen", "use_dynamic_ntk": True}, "add seq_length"),
        ({"model_type": "qwen", "use_logn_attn": 1}, "use_logn_attn=1"),
        (
            {"model_type": "qwen", "use_dynamic_ntk": True, "seq_length": 8, "rope_scaling": YARN},
            "use_dynamic_ntk=True and type 'yarn'",
        ),
        (YARN | {"mscale": 0.7}, "mscale=0.7"),
        ({"max_position_embeddings": 2048, "rope_parameters": YARN | {"factor": None}}, "Yarn got factor=0.5"),
        (YARN | {"mscale": -1.0, "mscale_all_dim": 1.0}, "mscale=-1.0"),
        ({"rope_theta": 10**400}, "rope_theta=1000"),
        ({"rope_theta": 1e4, "head_dim": float("nan"), "rotary_dim": 4}, "head_dim=nan"),
        ({"rope_theta": 1e4, "head_dim": 0.5, "rotary_dim": 4}, "head_dim=0.5"),
        ({"rope_theta": 1e4, "hidden_size": 4, "num_attention_heads": 8, "rotary_dim": 4}, "hidden_size=4"),
        ({"rope_theta": 1e4, "head_dim": 64, "rotary_dim": 33.5}, "rotary_dim=33.5"),
        ({"rope_theta": 1e4, "head_dim": 64, "rotary_dim": -1}, "rotary_dim=-1: needed are 1 to 64 channels"),
        ({"rope_theta": 1e4, "head_dim": 64, "rotary_dim": 66}, "rotary_dim=66: needed are 1 to 64 channels"),
        (LATENT | {"partial_rotary_factor": 0.25}, "qk_rope_head_dim=64 and a share of 0.25"),
        ({"rope_theta": 1e4, "alibi": np.zeros(2)}, "alibi=array"),
        ({"rope_parameters": {"rope_type": "linear", "factor": np.ones(2)}}, "factor=array"),
        ({"rope_parameters": {"rope_type": "linear", 3: 2.0}}, "3=2.0"),
        ({3: 4, "rope_theta": 1e4}, "the key 3"),
        ({"rope_theta": 1e4, "rope_scaling": False}, "rope_scaling=False"),
        ({"rope_theta": 1e4, "rope_scaling": ""}, "rope_scaling=''"),
        ({"rope_theta": 1e4, "rope_scaling": {"type": "", "factor": 2.0}}, "unknown type ''"),
        ({"rope_theta": 1e4, "text_config": [1]}, "got a list"),
        ({"model_type": "chatglm", "_name_or_path": "THUDM/chatglm2-6b-32k", "rope_ratio": 4}, "is a ChatGLM 2"),
        ({"rope_type": "dynamic", "alpha": 1000.0, "factor": 2.0}, "unknown key 'factor'"),
        (
            {"rope_type": "longrope", "factor": 4.0, ORIGINAL: 64, "short_mscale": 1.25, **LISTS},
            "short_mscale=1.25, long_mscale=None",
        ),
        (
            {"rope_type": "longrope", "factor": 4.0, ORIGINAL: 64, "short_factor": ["a"], "long_factor": [1]},
            "LongRope got short_factor=('a',)",
        ),
        (
            {"max_position_embeddings": 8, "rope_parameters": YARN | {"max_position_embeddings": 9}},
            "max_position_embeddings=8",
        ),
    ],
    ids=str,
)
def test_what_is_not_understood_is_refused_by_name(config, named):
    with pytest.raises(InputError) as caught:
        from_rope_parameters(config)
    assert named in str(caught.value) and "\n" not in str(caught.value), str(caught.value)


class Config:
    """As the configuration objects of transformers are."""

    def to_dict(self) -> dict:
        return {"model_type": "llama", "rope_theta": 5e5}


def test_a_configuration_object_is_read():
    assert from_rope_parameters(Config()) == Rope(5e5)
    for wrong in (None, "config.json", Config, 4):
        with pytest.raises(InputError, match=rf"got a {type(wrong).__name__}: needed is a configuration"):
            from_rope_parameters(wrong)


@pytest.mark.parametrize("answer", [None, ["rope_theta"]])
def test_an_object_that_answers_no_dict_is_refused(answer):
    class Odd:
        def to_dict(self):
            return answer

    with pytest.raises(InputError, match=f"got a {type(answer).__name__}"):
        from_rope_parameters(Odd())


def test_nothing_given_is_changed():
    config = {"text_config": {"model_type": "llama", "rope_scaling": dict(YARN)}}
    from_rope_parameters(config)
    assert config == {"text_config": {"model_type": "llama", "rope_scaling": YARN}}


@pytest.mark.parametrize("size", [10, 98, 120, 128, 196])
def test_a_rotary_dim_turns_as_many_channels(size):
    for turning in range(2, size + 1, 2):
        rope = from_rope_parameters({"rope_theta": 1e4, "rotary_dim": turning, "head_dim": size})
        assert rope.rotary_size(size) == turning
        assert from_rope_parameters(to_rope_parameters(rope)) == rope
