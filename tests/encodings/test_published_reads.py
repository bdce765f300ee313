"""A spelling that the released code of a model type does not read is no wish that is granted in silence."""

import pytest

from posjax import (
    NTK,
    InputError,
    Interpolation,
    LongRope,
    NoPE,
    Proportional,
    Rope,
    Yarn,
    from_rope_parameters,
    to_rope_parameters,
)
from posjax.encodings.published_families import NAMED
from posjax.encodings.published_reads import reads

HEAD = {"head_dim": 8}
LINEAR = {"type": "linear", "factor": 2.0}
IN_FULL = {"full_attention": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}}

UNREAD = [
    ({"model_type": "llama", "partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5"),
    ({"model_type": "llama", "rope_parameters": IN_FULL["full_attention"]}, "partial_rotary_factor=0.5"),
    ({"model_type": "llama", "rotary_pct": 0.5}, "rotary_pct=0.5"),
    ({"model_type": "llama", "rotary_dim": 4, **HEAD}, "rotary_dim=4"),
    ({"model_type": "llama", "rotary_pct": True}, "rotary_pct=True"),
    ({"model_type": "llama", "rope_interleave": True}, "rope_interleave=True"),
    ({"model_type": "llama", "rope_interleave": "yes"}, "rope_interleave='yes'"),
    ({"model_type": "llama", "position_embedding_type": "rope_gptj"}, "position_embedding_type='rope_gptj'"),
    ({"model_type": "llama", "rotary_emb_base": 500}, "rotary_emb_base=500"),
    ({"model_type": "llama", "global_rope_theta": 500}, "global_rope_theta=500"),
    ({"model_type": "llama", "rope_local_base_freq": 500}, "rope_local_base_freq=500"),
    ({"model_type": "llama", "rope_scaling": {"type": "dynamic", "factor": 1.0, "alpha": 50}}, "alpha=50"),
    ({"model_type": "gptj", "rotary_dim": 4, **HEAD, "rope_theta": 500.0}, "rope_theta=500.0"),
    ({"model_type": "gptj", "rotary_dim": 4, **HEAD, "rope_scaling": LINEAR}, "rope_scaling={'type': 'linear'"),
    ({"model_type": "roformer", "rope_theta": 500.0}, "rope_theta=500.0"),
    ({"model_type": "falcon", "partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5"),
    ({"model_type": "cohere2", "partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5"),
    ({"model_type": "phi", "rotary_dim": 6, **HEAD}, "rotary_dim=6"),
    ({"model_type": "phi3", "rotary_dim": 6, **HEAD}, "rotary_dim=6"),
    ({"model_type": "stablelm", "rope_pct": 0.5}, "rope_pct=0.5"),
    ({"model_type": "gpt_neox", "partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5"),
    ({"model_type": "gpt_neox", "rope_theta": 500}, "rope_theta=500"),
]


@pytest.mark.parametrize(("config", "named"), UNREAD, ids=str)
def test_what_the_code_of_a_model_type_does_not_read_is_refused(config, named):
    with pytest.raises(InputError) as caught:
        from_rope_parameters(config)
    assert named in str(caught.value) and f"code of model_type='{config['model_type']}'" in str(caught.value)
    assert str(caught.value).endswith("does not read: remove it") and "\n" not in str(caught.value)


@pytest.mark.parametrize("model_type", ["gemma3_text", "modernbert"])
@pytest.mark.parametrize("given", [{"partial_rotary_factor": 0.5}, {"rope_parameters": IN_FULL}], ids=str)
def test_so_it_is_where_layers_differ(model_type, given):
    with pytest.raises(InputError, match=r"partial_rotary_factor=0\.5, which the code of model_type="):
        from_rope_parameters({"model_type": model_type, **given}, "full_attention")


def test_a_base_of_modernbert_is_not_under_the_usual_name():
    with pytest.raises(InputError, match="rope_theta=500, which the code of model_type='modernbert' does not read"):
        from_rope_parameters({"model_type": "modernbert", "rope_theta": 500}, "full_attention")


@pytest.mark.parametrize(
    ("config", "rope"),
    [
        ({"model_type": "llama", "rope_interleaved": False, "rotary_pct": 1.0}, Rope()),
        ({"model_type": "llama", "rope_local_base_freq": None, "rope_scaling": LINEAR}, Rope(1e4, Interpolation(2.0))),
        ({"model_type": "gpt_neox", "rotary_emb_base": 500, "rope_theta": 500}, Rope(500.0, fraction=0.25)),
        ({"model_type": "cohere2", "rotary_pct": 1.0}, Rope(layout="interleaved")),
        ({"model_type": "phi", "rotary_dim": 4, **HEAD}, Rope(fraction=0.5)),
        (
            {"model_type": "llama", "rope_parameters": {"rope_type": "proportional", "partial_rotary_factor": 0.5}},
            Rope(schedule=Proportional(0.5)),
        ),
        # Without a model type every spelling counts.
        (
            {"rotary_pct": 0.5, "rotary_emb_base": 500, "rope_interleave": True},
            Rope(500.0, layout="interleaved", fraction=0.5),
        ),
    ],
    ids=str,
)
def test_what_is_not_read_may_say_what_holds_anyhow(config, rope):
    assert from_rope_parameters(config) == rope


@pytest.mark.parametrize(
    ("rope", "model_type", "told"),
    [
        (Rope(fraction=0.5), "llama", "fraction=0.5 for model_type='llama', whose code turns the whole head"),
        (Rope(fraction=0.5), "falcon", "fraction=0.5 for model_type='falcon'"),
        (Rope(500.0, layout="interleaved"), "roformer", "reads nothing about its rotation"),
        (Rope(schedule=NTK(4.0)), "llama", "whose code reads no alpha: take a plain Rope"),
        (Rope(schedule=LongRope(2.0, 16, (1.0,), (2.0,), 1.2, long_attention_factor=2.0)), "llama", "one attention"),
        (Rope(schedule=Interpolation(2.0)), "phi3", "type 'linear', which the class of model_type='phi3' does not"),
        (Rope(), "olmo3", "by layer type alone"),
        ({"full_attention": Rope(schedule=Yarn(8.0, 512, truncate=False))}, "olmo3", "reads no truncate"),
        ({"full_attention": Rope(), "sliding_attention": NoPE()}, "gemma3_text", "fills in what is null"),
    ],
    ids=str,
)
def test_nothing_is_written_that_the_code_does_not_read(rope, model_type, told):
    with pytest.raises(InputError) as caught:
        to_rope_parameters(rope, model_type=model_type)
    assert told in str(caught.value) and "\n" not in str(caught.value)


def test_layer_types_are_written_the_older_way_for_who_reads_it():
    layers = {"full_attention": Rope(1e6), "sliding_attention": Rope(1e4)}
    assert to_rope_parameters(layers, "rope_scaling", "gemma3_text")["rope_local_base_freq"] == 1e4
    with pytest.raises(InputError, match="model_type='olmo3', whose code reads no rope_local_base_freq"):
        to_rope_parameters(layers, "rope_scaling", "olmo3")


def test_older_names_are_those_of_the_model_type():
    written = to_rope_parameters(Rope(500.0, fraction=0.5), "rope_scaling", "gpt_neox")
    assert written == {"rotary_emb_base": 500.0, "rotary_pct": 0.5, "rope_scaling": None}
    assert from_rope_parameters({"model_type": "gpt_neox", **written}) == Rope(500.0, fraction=0.5)


def test_types_that_turn_a_part_of_the_head_read_which():
    for name, family in NAMED.items():
        found = reads(name)
        assert found is None or family.fraction == 1.0 or found.part or not found.sections
    assert reads(None) is None and reads("unheard") is None


def test_compressed_layers_of_deepseek_v4_do_not_multiply_by_yarns_factor():
    scaling = {"factor": 16, "original_max_position_embeddings": 65536, "type": "yarn"}
    config = {"model_type": "deepseek_v4", "qk_rope_head_dim": 64, "rope_theta": 10000, "compress_rope_theta": 160000}
    rope = from_rope_parameters({**config, "max_position_embeddings": 1048576, "rope_scaling": scaling}, "compress")
    assert rope.schedule.frequencies(64, rope.base)[1] == 1.0


YARN = {"rope_type": "yarn", "factor": 8.0}
INSIDE = {**YARN, "original_max_position_embeddings": 512}
BY_LAYER = [
    ({"rope_scaling": {"type": "linear", "factor": 8.0}}, "name it rope_type"),
    ({"original_max_position_embeddings": 512, "rope_scaling": YARN}, "put it there"),
    ({"original_max_position_embeddings": 512, "rope_parameters": {"full_attention": YARN}}, "put it there"),
    ({"rope_scaling": {**INSIDE, "truncate": False}}, "truncate=False"),
    ({"rope_parameters": {"full_attention": {**INSIDE, "truncate": None}}}, "truncate=None"),
]


@pytest.mark.parametrize("model_type", ["olmo3", "gemma3_text"])
@pytest.mark.parametrize(("config", "named"), BY_LAYER, ids=[named for _, named in BY_LAYER])
def test_who_keeps_rope_parameters_by_layer_type_reads_them_there_alone(config, named, model_type):
    sizes = {"model_type": model_type, "max_position_embeddings": 4096}
    with pytest.raises(InputError) as caught:
        from_rope_parameters({**sizes, **config}, "full_attention")
    assert named in str(caught.value)
    held = from_rope_parameters({**sizes, "rope_scaling": INSIDE}, "full_attention")
    assert held.schedule == Yarn(8.0, 512)


@pytest.mark.parametrize("model_type", ["gpt_oss", "apertus", "ministral3"])
def test_an_empty_schedule_is_silence_where_the_class_has_one(model_type):
    with pytest.raises(InputError, match="is silent"):
        from_rope_parameters({"model_type": model_type, "rope_theta": 1e4, "rope_scaling": {}})


def test_a_head_of_minimax_m2_is_128_where_nobody_says():
    sizes = {"model_type": "minimax_m2", "hidden_size": 3072, "num_attention_heads": 48, "rotary_dim": 64}
    assert from_rope_parameters(sizes).fraction == 0.5
