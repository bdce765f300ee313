"""Published rotary parameters as values and back, and projection weights for the other pairing of channels."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import posjax
from posjax import (
    NTK,
    DynamicNTK,
    InputError,
    Interpolation,
    Llama3,
    LongRope,
    NoPE,
    NTKByParts,
    Plain,
    Proportional,
    Rope,
    StepTemperature,
    Yarn,
    attend,
    chain,
    convert_layout,
    from_rope_parameters,
    to_rope_parameters,
)
from tests import golden
from tests.cases import first_of

OUTSIDE = ("rope_theta", "partial_rotary_factor")
ORIGINAL = "original_max_position_embeddings"


def spellings(case: dict) -> list[dict]:
    """One configuration in the new spelling, in the old one, and in the older one with `type`."""
    inner, model = dict(case["rope_parameters"]), {"max_position_embeddings": case["max_position_embeddings"]}
    scaling = {key: value for key, value in inner.items() if key not in OUTSIDE}
    old = model | {key: inner[key] for key in OUTSIDE if key in inner}
    older = {"type" if key == "rope_type" else key: value for key, value in scaling.items()}
    return [
        model | {"rope_parameters": inner, "hidden_size": 64},
        old | {"rope_scaling": scaling},
        old | {"rope_scaling": older, "rope_parameters": None},
    ]


@pytest.mark.parametrize("case", golden.cases("rope_frequencies.json"))
def test_every_golden_case_is_read_in_every_spelling(case):
    ropes = [from_rope_parameters(config) for config in spellings(case)]
    assert ropes[0] == ropes[1] == ropes[2]
    rope = ropes[0] if case["seq_len"] is None else ropes[0].at_length(case["seq_len"])
    frequencies, factor = rope.schedule.frequencies(rope.rotary_size(case["head_dim"]), rope.base)
    np.testing.assert_allclose(frequencies, case["inv_freq"], rtol=1e-6, atol=0)
    np.testing.assert_allclose(factor, case["attention_factor"], rtol=1e-6)


@pytest.mark.parametrize("case", golden.cases("rope_frequencies.json"))
def test_a_golden_case_survives_the_round_trip(case):
    rope = from_rope_parameters(spellings(case)[0])
    written = to_rope_parameters(rope)
    assert from_rope_parameters({"rope_parameters": json.loads(json.dumps(written))}) == rope
    given = {key: value for key, value in case["rope_parameters"].items() if key != ORIGINAL}
    assert given.items() <= written.items()


@pytest.mark.parametrize(
    "rope",
    [
        Rope(5e5, fraction=0.5),
        Rope(schedule=Interpolation(4.0)),
        Rope(schedule=DynamicNTK(2.0, 2048)),
        Rope(schedule=Yarn(4.0, 512, 16.0, 2.0, False, 1.5)),
        Rope(schedule=Yarn(4.0, 512, mscale=1.0, mscale_all_dim=0.5)),
        Rope(1e6, Proportional(0.25)),
        Rope(1e6, Proportional(1.0)),
        Rope(schedule=Llama3(8.0, 512, 0.5, 5.0)),
        Rope(schedule=LongRope(4.0, 64, (1.0, 2.0), (3.0, 4.0), 1.25)),
        Rope(schedule=LongRope(4.0, 64, (1.0, 2.0), (3.0, 4.0), 1.25, long_attention_factor=1.5)),
        Rope(schedule=NTK(1000.0)),
        chain(Rope(schedule=Yarn(4.0, 512)), StepTemperature(0.2, 512)),
    ],
    ids=repr,
)
def test_every_field_survives_the_round_trip(rope):
    assert from_rope_parameters({"rope_parameters": to_rope_parameters(rope)}) == rope
    assert from_rope_parameters(to_rope_parameters(rope)) == rope, "the bare dictionary is not recognised"
    old = json.loads(json.dumps(to_rope_parameters(rope, "rope_scaling")))
    assert from_rope_parameters(old) == rope and ("rope_scaling" in old and "rope_parameters" not in old)
    by_layer = to_rope_parameters({"full_attention": rope, "other": NoPE()})
    assert from_rope_parameters({"rope_parameters": by_layer}, "full_attention") == rope
    assert from_rope_parameters({"rope_parameters": by_layer}, "other") == NoPE()


def test_layer_types_are_written_as_gemma_writes_them():
    layers = {"full_attention": Rope(1e6, Interpolation(8.0)), "sliding_attention": Rope(1e4)}
    old = to_rope_parameters(layers, "rope_scaling")
    assert old["rope_theta"] == 1e6 and old["rope_local_base_freq"] == 1e4
    for name, rope in layers.items():
        assert from_rope_parameters(old, name) == rope
    for unsaid in (
        {"full_attention": Rope()},
        layers | {"sliding_attention": Rope(schedule=Yarn(2.0, 8))},
        layers | {"chunked_attention": Rope()},
        layers | {"sliding_attention": NoPE()},
    ):
        with pytest.raises(InputError, match="rope_scaling cannot say the layer types full_attention"):
            to_rope_parameters(unsaid, "rope_scaling")
    with pytest.raises(InputError, match="two shares of the head"):
        to_rope_parameters(layers | {"sliding_attention": Rope(fraction=0.5)}, "rope_scaling")


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: to_rope_parameters(Rope(), "new"), "spelling='new'"),
        (lambda: to_rope_parameters(Rope(), model_type="cohere"), "layout='split' for model_type='cohere'"),
        (lambda: to_rope_parameters(Rope(), model_type="unheard"), "model_type='unheard'"),
        (lambda: to_rope_parameters(chain(Rope(), StepTemperature(0.1, 8))), "cannot say StepTemperature"),
        (
            lambda: to_rope_parameters(chain(Rope(schedule=Yarn(2.0, 8)), StepTemperature(0.1, 8)), model_type="llama"),
            "ministral3, mistral4",
        ),
        (lambda: to_rope_parameters(Rope(schedule=LongRope(4.0, 64, (1.0,), (3.0,), None, None, 1.5))), "both"),
        (lambda: from_rope_parameters({"rope_theta": 1e4}, layout="half"), "layout='half'"),
        (lambda: from_rope_parameters({"model_type": "cohere"}, layout="split"), "says 'interleaved': leave it out"),
    ],
)
def test_what_two_sides_cannot_say_is_named(make, named):
    with pytest.raises(InputError) as caught:
        make()
    assert named in str(caught.value) and "\n" not in str(caught.value), str(caught.value)


def test_a_layout_is_given_where_nobody_says_it():
    unheard = {"model_type": "unheard", "rope_theta": 1e4}
    assert from_rope_parameters(unheard, layout="interleaved") == Rope(layout="interleaved")
    assert from_rope_parameters({"rope_theta": 1e4}, layout="interleaved") == Rope(layout="interleaved")
    assert from_rope_parameters({"model_type": "llama"}, layout="split") == Rope()


def test_a_share_that_is_not_the_model_types_own_is_written():
    for fraction in (1.0, 0.5, 0.25):
        written = to_rope_parameters(Rope(fraction=fraction), model_type="phi")
        assert from_rope_parameters({"model_type": "phi", "rope_parameters": written}) == Rope(fraction=fraction)


def test_nested_by_layer_type():
    config = {
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        }
    }
    assert from_rope_parameters(config, "full_attention") == Rope(1e6, Interpolation(8.0))
    assert from_rope_parameters(config, "sliding_attention") == Rope()
    for layer_type in (None, "chunked_attention"):
        with pytest.raises(InputError, match=f"{layer_type!r}.*full_attention, sliding_attention"):
            from_rope_parameters(config, layer_type)


def test_what_is_left_out_is_read_from_the_model():
    assert from_rope_parameters({"model_type": "llama", "rope_scaling": None, "hidden_size": 4}) == Rope()
    assert from_rope_parameters({"rope_theta": 5e5, "partial_rotary_factor": 0.25}) == Rope(5e5, Plain(), fraction=0.25)
    lists = {"short_factor": [1, 1], "long_factor": [2, 3]}
    phi = {"max_position_embeddings": 4096, ORIGINAL: 128, "rope_scaling": {"type": "su", **lists}}
    assert from_rope_parameters(phi).schedule == LongRope(32.0, 128, (1.0, 1.0), (2.0, 3.0))


LLAMA = {"rope_type": "llama3", "factor": 8.0, ORIGINAL: 8192}


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"rope_parameters": {"rope_type": "spiral"}}, "unknown type 'spiral'"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "fctor": 1}}, "unknown key 'fctor'"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "beta_fast": 1}}, "unknown key 'beta_fast'"),
        ({"rope_parameters": {"rope_type": "default", "factor": 2.0}}, "unknown key 'factor'"),
        ({"rope_parameters": {"rope_type": "linear"}}, "lack 'factor'"),
        ({"rope_parameters": {"rope_type": "linear", "factor": None}}, "lack 'factor'"),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, f"lack '{ORIGINAL}'"),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 2.0}}, f"lack '{ORIGINAL}'"),
        (
            {"rope_parameters": {"rope_type": "longrope", "factor": 2.0, ORIGINAL: 64, "long_factor": [1]}},
            "lack 'short_factor'",
        ),
        ({"rope_theta": 1e4, "rope_parameters": {"rope_theta": 1e6}}, "rope_theta=10000.0 and"),
        (
            {"partial_rotary_factor": 0.5, "rope_parameters": {"partial_rotary_factor": 0.25}},
            "partial_rotary_factor=0.5",
        ),
        (
            {"rope_scaling": {"type": "linear", "rope_type": "yarn", "factor": 2.0}},
            "type='linear' and rope_type='yarn'",
        ),
        (
            {"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": LLAMA},
            "rope_parameters and rope_scaling",
        ),
    ],
)
def test_reading_errors_name_the_key(config, named):
    with pytest.raises(InputError) as caught:
        from_rope_parameters(config)
    assert named in str(caught.value), str(caught.value)


@pytest.mark.exhaustive
def test_agreement_is_no_contradiction():
    linear = {"type": "linear", "rope_type": "linear", "factor": 2.0, "rope_theta": 5e5}
    config = {"rope_theta": 5e5, "rope_scaling": linear, "rope_parameters": linear}
    assert from_rope_parameters(config) == Rope(5e5, Interpolation(2.0))


def test_writing_errors_name_what_has_no_name():
    with pytest.raises(InputError, match=r"NTKByParts\(factor=2.0.*has no published name.*linear"):
        to_rope_parameters(Rope(schedule=NTKByParts(2.0, 8)))
    with pytest.raises(InputError, match=r"doubling=True\) has no published name"):
        to_rope_parameters(Rope(schedule=DynamicNTK(2.0, 8, doubling=True)))
    with pytest.raises(InputError, match=r"layout='interleaved'.*convert_layout"):
        to_rope_parameters(Rope(layout="interleaved"))
    with pytest.raises(InputError, match=r"length=8.*at_length"):
        to_rope_parameters(Rope(schedule=DynamicNTK(2.0, 4)).at_length(8))
    with pytest.raises(InputError, match=r"fraction=0.5 beside Proportional"):
        to_rope_parameters(Rope(schedule=Proportional(0.5), fraction=0.5))


@first_of("fraction", [1.0, 0.5, 0.25], keep=2)
@first_of("shape", [(48,), (5, 48), (2, 5, 96)], keep=2)
def test_converting_there_and_back_is_the_same_to_the_bit(shape, fraction):
    weights = jax.random.normal(jax.random.key(0), shape)
    for to, back in (("split", "interleaved"), ("interleaved", "split")):
        there = convert_layout(weights, 3, to, fraction)
        np.testing.assert_array_equal(convert_layout(there, 3, back, fraction), weights)
        assert (there != weights).any() and there.dtype == weights.dtype


@pytest.mark.exhaustive
@first_of("fraction", [1.0, 0.5], keep=1)
@pytest.mark.parametrize(("layout", "other"), [("split", "interleaved"), ("interleaved", "split")])
def test_converted_projections_attend_alike(fraction, layout, other):
    """From the tokens' features on, grouped queries, with the projections' biases."""
    keys = jax.random.split(jax.random.key(0), 6)
    x, heads, size = jax.random.normal(keys[0], (2, 9, 10)), (6, 3, 3), 8
    kernels = [jax.random.normal(key, (10, n * size)) for key, n in zip(keys[1:4], heads, strict=True)]
    biases = [jax.random.normal(key, (n * size,)) for key, n in zip(keys[4:6], heads[:2], strict=True)]

    def out(layout, kernels, biases):
        q, k, v = (jnp.einsum("btd,dc->btc", x, w).reshape(2, 9, n, size) for w, n in zip(kernels, heads, strict=True))
        q, k = (y + b.reshape(1, 1, -1, size) for y, b in zip((q, k), biases, strict=True))
        return attend(q, k, v, encoding=Rope(100.0, layout=layout, fraction=fraction))

    turned = [convert_layout(w, n, other, fraction) for w, n in zip(kernels[:2], heads[:2], strict=True)]
    shifts = [convert_layout(b, n, other, fraction) for b, n in zip(biases, heads[:2], strict=True)]
    expected = out(layout, kernels, biases)
    np.testing.assert_allclose(out(other, [*turned, kernels[2]], shifts), expected, atol=2e-5)
    assert np.abs(out(other, kernels, biases) - expected).max() > 1e-2


@pytest.mark.parametrize(
    ("make", "value", "need"),
    [
        (lambda: convert_layout(jnp.ones(8), 1, "half"), "to='half'", "'split' or 'interleaved'"),
        (lambda: convert_layout(jnp.ones(8), 3, "split"), "8 channels and heads=3", "must divide"),
    ],
)
def test_converting_errors_name_the_value_and_the_need(make, value, need):
    with pytest.raises(InputError) as caught:
        make()
    assert value in str(caught.value) and need in str(caught.value), str(caught.value)


def test_lengths_that_contradict_are_named():
    yarn = {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 8192}
    with pytest.raises(posjax.InputError, match=r"original_max_position_embeddings=64.*contradict"):
        posjax.from_rope_parameters({"original_max_position_embeddings": 64, "rope_parameters": yarn})
    dynamic = {"rope_type": "dynamic", "factor": 2.0, "original_max_position_embeddings": 64}
    with pytest.raises(posjax.InputError, match=r"max_position_embeddings=128.*contradict"):
        posjax.from_rope_parameters({"max_position_embeddings": 128, "rope_parameters": dynamic})
    with pytest.raises(posjax.InputError, match=r"4096 \(as model_type='phi3' has where the key is missing\).* beside"):
        lists = {"rope_type": "longrope", "short_factor": [1], "long_factor": [1]}
        posjax.from_rope_parameters({"model_type": "phi3", "rope_parameters": yarn | lists})


def test_nulls_are_as_if_left_out():
    given = {"rope_type": "dynamic", "factor": 2.0, "original_max_position_embeddings": None}
    rope = posjax.from_rope_parameters({"max_position_embeddings": 128, "rope_parameters": given})
    assert rope.schedule == posjax.DynamicNTK(factor=2.0, original_length=128)


def test_a_null_of_truncate_is_false():
    yarn = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0, ORIGINAL: 64}
    assert from_rope_parameters(yarn).schedule.truncate
    assert not from_rope_parameters({**yarn, "truncate": None}).schedule.truncate


def test_a_layer_types_own_base_holds():
    nested = {"full": {"rope_type": "default", "rope_theta": 1e6}, "sliding": {"rope_type": "default"}}
    config = {"rope_theta": 1e4, "rope_parameters": nested}
    assert posjax.from_rope_parameters(config, layer_type="full").base == 1e6
    assert posjax.from_rope_parameters(config, layer_type="sliding").base == 1e4


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"rope_theta": 1e4, "factor": 8.0, "beta_fast": 32}, "factor"),
        ({"rope_theta": 1e6, "yarn": {"factor": 16}}, "yarn"),
        ({"model_type": "apertus"}, "apertus"),
        ({"model_type": "qwen", "rope_theta": 1e4, "use_logn_attn": True}, "use_logn_attn"),
        ({"model_type": "gpt_oss", "rope_theta": 150_000, "rope_scaling": None}, "gpt_oss"),
    ],
)
def test_what_would_change_frequencies_is_never_passed_over(config, named):
    with pytest.raises(InputError, match=named):
        from_rope_parameters(config)


def test_an_idle_key_of_published_files_is_idle():
    assert from_rope_parameters({"model_type": "qwen2", "rope_theta": 1e6, "use_mrope": False}).base == 1e6


def test_numbers_of_numpy_compute_as_pythons():
    read = from_rope_parameters(
        {
            "rope_theta": 1e4,
            "max_position_embeddings": 4096,
            "rope_scaling": {"type": "dynamic", "factor": np.float16(4)},
        }
    )
    assert type(read.schedule.factor) is float
