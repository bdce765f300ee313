"""Models are read onto shardings, with another encoding, or refused in a line before weights are read."""

import json
import shutil
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import core
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import posjax.interop.reading as reading
from posjax import Alibi, InputError, Learned, NoPE, Pinned, Rope, T5Bias, Yarn, near_far
from posjax.interop import describe, read, write
from posjax.interop.published import leaves
from posjax.interop.writing import write_folder
from posjax.models import Attention, build, decoder
from tests.interop.checkpoints import HERE, expected, loaded, logits, need, tensors
from tests.interop.folders import edited, held

LLAMA = HERE / "llama"


def copied(tmp_path, name="llama", **changes):
    """A folder with other keys in its configuration."""
    folder = tmp_path / "copy"
    shutil.copytree(HERE / name, folder)
    edited(folder / "config.json", **changes)
    return folder


def with_tensors(tmp_path, change, name="gpt-neox"):
    """A folder whose tensors a function changed."""
    found = tensors(HERE / name)
    change(found)
    folder = tmp_path / "changed"
    write_folder(folder, json.loads((HERE / name / "config.json").read_text()), held(found))
    return folder


def test_each_device_holds_its_part():
    mesh = Mesh(np.array(jax.devices()[:2]), ("x",))

    def where(path, shape):
        spec = PartitionSpec("x") if shape[0] % 2 == 0 else PartitionSpec()
        return NamedSharding(mesh, spec)

    model = loaded("llama", sharding=where)
    held = leaves(model)
    kernel = held["blocks.decoder.1.attention.query.kernel"]
    assert kernel.sharding.spec == PartitionSpec("x") and len(kernel.addressable_shards) == 2
    np.testing.assert_allclose(logits(model, "llama"), expected("llama")["logits"], rtol=0, atol=1e-4)
    everywhere = NamedSharding(mesh, PartitionSpec())
    for path, leaf in leaves(loaded("llama", sharding=everywhere)).items():
        np.testing.assert_array_equal(leaf, held[path])


def test_no_initial_weights_are_drawn(monkeypatch):
    made = []
    build_as_before = reading.build

    def counted(*given):
        model = build_as_before(*given)
        made.extend(jax.tree.leaves(nnx.state(model)))
        return model

    monkeypatch.setattr(reading, "build", counted)
    loaded("llama")
    assert made and all(isinstance(leaf, core.Tracer) for leaf in made)


@pytest.mark.parametrize("name", ["llama", "t5-v1-0"])
def test_parameters_are_of_the_type_that_is_asked_for(tmp_path, name):
    model = loaded(name, dtype="bfloat16")
    assert {leaf.dtype for leaf in leaves(model).values()} == {jnp.dtype("bfloat16")}
    np.testing.assert_allclose(logits(model, name), expected(name)["logits"], atol=0.1)
    write(model, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"
    again = read(tmp_path / "out")
    for path, leaf in leaves(again).items():
        np.testing.assert_array_equal(leaf, leaves(model)[path])


def test_names_with_and_without_a_prefix_are_read_and_written(tmp_path):
    def shortened(found):
        for key in list(found):
            found[key.removeprefix("transformer.")] = found.pop(key)

    folder = with_tensors(tmp_path, shortened, "bloom")
    model = read(folder)
    np.testing.assert_allclose(logits(model, "bloom"), expected("bloom")["logits"], rtol=0, atol=1e-4)
    write(model, tmp_path / "out")
    assert tensors(tmp_path / "out").keys() == tensors(folder).keys()


def test_a_table_that_is_stored_twice_is_read_once_and_written_twice(tmp_path):
    def doubled(found):
        found["lm_head.weight"] = found["transformer.word_embeddings.weight"].copy()

    folder = with_tensors(tmp_path, doubled, "bloom")
    write(read(folder), tmp_path / "out")
    assert tensors(tmp_path / "out").keys() == tensors(folder).keys()
    found = tensors(folder)
    found["lm_head.weight"][0, 0] += 1
    write_folder(folder, json.loads((folder / "config.json").read_text()), held(found), overwrite=True)
    with pytest.raises(InputError, match=r"'lm_head.weight' is not what config.json says"):
        read(folder)


# Another encoding in a trained model.


def test_a_rotation_is_swapped_read_and_written(tmp_path):
    yarn = Rope(schedule=Yarn(factor=4.0, original_length=128))
    model = loaded("llama", encoding=yarn)
    assert model.architecture.encoding == yarn
    extended = near_far(8, Rope(), Pinned(Rope(), 8))
    assert loaded("llama", encoding=extended).architecture.encoding == extended
    assert np.abs(logits(model, "llama") - expected("llama")["logits"]).max() > 1e-2
    write(model, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["rope_parameters"]["rope_type"] == "yarn"
    again = read(tmp_path / "out")
    assert again.architecture == model.architecture
    by_function = loaded("gpt-neox", encoding=lambda found: replace(found, base=5e5))
    assert by_function.architecture.encoding == Rope(base=5e5, fraction=0.5)


def test_a_bias_takes_the_place_of_a_rotation_and_is_not_to_be_written(tmp_path):
    model = loaded("llama", encoding=Alibi())
    assert np.isfinite(logits(model, "llama")).all()
    with pytest.raises(InputError, match="needed is a Rope"):
        write(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "encoding", "told"),
    [
        ("t5-v1-0", Rope(), r"T5Bias\(.*'table': \(4, 32\)\} was trained"),
        ("llama", T5Bias(), r"learns \{'table': \(4, 32\)\} where nothing was trained"),
        ("llama", Learned(8), "where nothing was trained"),
        ("llama", lambda found: None, r"encoding gave None for Rope\("),
    ],
)
def test_an_encoding_of_other_parameters_is_refused(name, encoding, told):
    with pytest.raises(InputError, match=told):
        loaded(name, encoding=encoding)


def test_layers_without_positions_keep_none():
    changed = loaded("t5-v1-0", encoding=T5Bias(max_distance=64))
    _, crossing, _ = changed.architecture.main_stack.pattern[0].sublayers
    assert (
        isinstance(crossing, Attention)
        and crossing.encoding == NoPE()
        and changed.architecture.encoding == T5Bias(max_distance=64)
    )


# What is refused.


def removed(key):
    return lambda found: found.pop(key)


def misshapen(found):
    found["embed_out.weight"] = found["embed_out.weight"][:-1]


def surplus(found):
    found["model.extra.weight"] = np.zeros(3, np.float32)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (removed("gpt_neox.layers.1.attention.dense.bias"), "no tensor 'gpt_neox.layers.1.attention.dense.bias'"),
        (misshapen, r"'embed_out.weight' has shape \[39, 32\] and needed is \[40, 32\]"),
        (surplus, "1 tensors are no part of the model that config.json describes, model.extra.weight"),
    ],
)
def test_tensors_that_do_not_match_are_refused(tmp_path, monkeypatch, change, told):
    folder = with_tensors(tmp_path, change)
    monkeypatch.setattr(reading, "place", lambda *given: pytest.fail("a weight was read"))
    with pytest.raises(InputError, match=told) as error:
        read(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"sparse_attention": 4}, "sparse_attention=4, which may change the computation and is not read for llama"),
        ({"hidden_act": "quick_gelu"}, "hidden_act='quick_gelu': needed is one of silu"),
        ({"model_type": "lama"}, "model_type='lama', which is not read: known are bert, bloom"),
        ({"model_type": "mixtral"}, "model_type='mixtral' is not read: its feed-forward layers are mixtures"),
        ({"num_key_value_heads": 3}, "heads=4 and key_value_heads=3"),
        ({"num_hidden_layers": 0}, "num_hidden_layers=0: needed is a whole number, 1 or more"),
        ({"vocab_size": 41}, r"'model.embed_tokens.weight' has shape \[40, 32\] and needed is \[41, 32\]"),
        ({"num_hidden_layers": 3}, "no tensor 'model.layers.2.self_attn.k_proj.weight'"),
        ({"num_hidden_layers": 1}, "are no part of the model that config.json describes"),
        ({"tie_word_embeddings": True}, "'lm_head.weight' is not what config.json says"),
        ({"rope_parameters": {"rope_type": "other"}}, "other"),
    ],
)
def test_a_configuration_that_is_not_understood_is_refused(tmp_path, changes, told):
    with pytest.raises(InputError, match=told) as error:
        read(copied(tmp_path, **changes))
    assert "\n" not in str(error.value)


def test_an_unknown_type_of_weights_is_refused():
    with pytest.raises(InputError, match="dtype=int8: needed is a floating one"):
        loaded("llama", dtype="int8")


# Models that were not read.


@pytest.mark.exhaustive
def test_a_model_of_ones_own_is_written_where_a_configuration_describes_it(tmp_path):
    model = build(decoder(layers=2, width=16, heads=2, feed_forward=40), 11, 0)
    with pytest.raises(InputError, match="was not read from a published one: give write a config"):
        write(model, tmp_path / "none")
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 40}
    config = {"model_type": "llama", "vocab_size": 11, "rms_norm_eps": 1e-6, "rope_theta": 1e4, **sizes}
    assert describe(config).architecture == model.architecture
    write(model, tmp_path / "own", config=config)
    tokens = jnp.arange(11)[None]
    np.testing.assert_array_equal(read(tmp_path / "own")(tokens), model(tokens))
    with pytest.raises(InputError, match="describes another architecture than the model's"):
        write(model, tmp_path / "other", config={**config, "attention_bias": True})
    with pytest.raises(InputError, match="vocabulary of 11 and its configuration one of 12"):
        write(model, tmp_path / "other", config={**config, "vocab_size": 12})


def test_a_folder_in_use_is_kept(tmp_path):
    write(loaded("llama"), tmp_path)
    with pytest.raises(InputError, match="holds a model already"):
        write(loaded("llama"), tmp_path)
    write(loaded("llama"), tmp_path, overwrite=True)
    assert need("llama").is_dir()
