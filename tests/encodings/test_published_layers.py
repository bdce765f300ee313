"""Published configurations whose layers turn differently: which layer type says what, flat and nested."""

import pytest

from posjax import InputError, Interpolation, NoPE, Proportional, Rope, Yarn, from_rope_parameters

ORIGINAL = "original_max_position_embeddings"

GEMMA = {"rope_theta": 1e6, "rope_local_base_freq": 1e4, "rope_scaling": {"rope_type": "linear", "factor": 8.0}}
MODERN = {"global_rope_theta": 160_000.0, "local_rope_theta": 10_000.0}
MIMO = {"model_type": "mimo_v2_flash", "rope_theta": 5e6, "swa_rope_theta": 1e4, "partial_rotary_factor": 0.334}
OLMO = {"model_type": "olmo3", "rope_theta": 5e5, "rope_scaling": {"rope_type": "yarn", "factor": 8.0, ORIGINAL: 8192}}
V4 = {
    "model_type": "deepseek_v4",
    "rope_interleave": True,
    "rope_theta": 1e4,
    "compress_rope_theta": 16e4,
    "rope_scaling": {"type": "yarn", "factor": 16, ORIGINAL: 65536},
}


@pytest.mark.parametrize(
    ("config", "layer_type", "rope"),
    [
        (GEMMA, "sliding_attention", Rope(1e4)),
        (GEMMA, "full_attention", Rope(1e6, Interpolation(8.0))),
        ({"model_type": "gemma3_text", "rope_theta": 1e6}, "sliding_attention", Rope(1e4)),
        (
            {"model_type": "mimo_v2_flash", "rope_theta": 5e6, "partial_rotary_factor": 0.5},
            "sliding_attention",
            Rope(fraction=0.5),
        ),
        (MODERN | {"model_type": "modernbert", "position_embedding_type": "absolute"}, "full_attention", Rope(1.6e5)),
        (MODERN, "sliding_attention", Rope(1e4)),
        (MODERN, "full_attention", Rope(1.6e5)),
        (MODERN | {"local_rope_theta": None}, "sliding_attention", Rope(1.6e5)),
        (MIMO, "full_attention", Rope(5e6, fraction=0.334)),
        (MIMO, "sliding_attention", Rope(1e4, fraction=0.334)),
        (OLMO, "full_attention", Rope(5e5, Yarn(8.0, 8192))),
        (OLMO, "sliding_attention", Rope(5e5)),
        (V4, "main", Rope(1e4, layout="interleaved")),
        (V4, "compress", Rope(16e4, Yarn(16, 65536, attention_factor=1.0), layout="interleaved")),
    ],
)
def test_layer_types_of_flat_spellings(config, layer_type, rope):
    assert from_rope_parameters(config, layer_type) == rope
    with pytest.raises(InputError, match="nothing in the configuration answers to layer_type='chunked'"):
        from_rope_parameters(config, "chunked")


@pytest.mark.parametrize("config", [GEMMA, MODERN, MIMO, OLMO, V4])
def test_a_layer_type_that_is_needed_is_asked_for(config):
    with pytest.raises(InputError, match="give layer_type, one of"):
        from_rope_parameters(config)


NESTED = {
    "full_attention": {"rope_type": "proportional", "rope_theta": 1e6, "partial_rotary_factor": 0.25},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5},
    "none": None,
}


def test_layer_types_of_nested_spellings():
    outside = {"rope_parameters": NESTED, "partial_rotary_factor": 0.75, "rope_theta": 5e5}
    for config in (outside, {"rope_parameters": NESTED}, NESTED):
        assert from_rope_parameters(config, "full_attention") == Rope(1e6, Proportional(0.25))
        assert from_rope_parameters(config, "sliding_attention") == Rope(1e4, fraction=0.5)
        assert from_rope_parameters(config, "none") == NoPE()
    with pytest.raises(InputError, match=r"null for layer_type='none'.*NoPE"):
        from_rope_parameters({"rope_scaling": NESTED}, "none")
    silent = {"full_attention": {"rope_type": "default"}}
    assert from_rope_parameters(outside | {"rope_parameters": silent}, "full_attention") == Rope(5e5, fraction=0.75)
    with pytest.raises(InputError, match="have 'rope_theta' beside the types"):
        from_rope_parameters({"rope_parameters": NESTED | {"rope_theta": 1e4}}, "full_attention")


@pytest.mark.parametrize(
    ("model_type", "outside", "full"),
    [
        ("gemma3_text", {"rope_theta": 1e6}, 1e6),
        ("gemma3_text", {}, 1e6),
        ("modernbert", {"global_rope_theta": 1.6e5}, 1.6e5),
        ("modernbert", {}, 1.6e5),
    ],
)
def test_nested_types_without_a_base_have_that_of_their_model_type(model_type, outside, full):
    each = {"rope_type": "default"}
    config = {
        "model_type": model_type,
        **outside,
        "rope_parameters": {"sliding_attention": each, "full_attention": each},
    }
    assert from_rope_parameters(config, "sliding_attention") == Rope(1e4)
    assert from_rope_parameters(config, "full_attention") == Rope(full)


def test_what_a_nested_type_leaves_open_is_refused_where_nobody_says_it():
    config = {"model_type": "gemma4_text", "rope_parameters": {"sliding_attention": {"rope_type": "default"}}}
    with pytest.raises(InputError, match="no rope_theta for layer_type='sliding_attention'"):
        from_rope_parameters(config, "sliding_attention")
    dynamic = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4, ORIGINAL: 4096}
    with pytest.raises(InputError, match="max_position_embeddings=8192 and, inside"):
        from_rope_parameters({"max_position_embeddings": 8192, "rope_parameters": {"full": dynamic}}, "full")


@pytest.mark.parametrize("layer_type", [["full_attention"], 3])
def test_a_layer_type_is_a_name(layer_type):
    with pytest.raises(InputError, match="needed is a name, or None"):
        from_rope_parameters(GEMMA, layer_type)


@pytest.mark.parametrize("config", [{"rope_theta": 1e6}, {"rope_type": "default"}, {"model_type": "llama"}])
def test_a_layer_type_that_nothing_answers_to_is_refused(config):
    with pytest.raises(InputError, match="nothing in the configuration answers to layer_type='full_attention'"):
        from_rope_parameters(config, "full_attention")


@pytest.mark.parametrize("model_type", ["gemma3_text", "gemma3n_text", "olmo3", "modernbert"])
def test_what_a_class_fills_in_is_not_taken_for_a_layer_that_does_not_turn(model_type):
    full = {"rope_type": "default", "rope_theta": 5e5}
    config = {"model_type": model_type, "rope_parameters": {"full_attention": full, "sliding_attention": None}}
    with pytest.raises(InputError, match=f"null for layer_type='sliding_attention'.*{model_type}' fills in"):
        from_rope_parameters(config, "sliding_attention")
    assert from_rope_parameters(config, "full_attention") == Rope(5e5)
    with pytest.raises(InputError, match=f"code of model_type='{model_type}' reads them by layer type alone"):
        from_rope_parameters({"model_type": model_type, "rope_parameters": full}, "full_attention")


@pytest.mark.parametrize("layer_type", ["full_attention", "sliding_attention"])
def test_a_base_outside_that_the_code_of_olmo_3_takes_for_some_layers_is_refused(layer_type):
    with pytest.raises(
        InputError, match=r"rope_theta=20000\.0, which the code of model_type='olmo3' takes for its full"
    ):
        from_rope_parameters({"model_type": "olmo3", "rope_theta": 2e4}, layer_type)
    each = {"rope_type": "default", "rope_theta": 2e4}
    both = {"full_attention": each, "sliding_attention": each}
    config = {"model_type": "olmo3", "rope_theta": 2e4, "rope_parameters": both}
    assert from_rope_parameters(config, layer_type) == Rope(2e4)
