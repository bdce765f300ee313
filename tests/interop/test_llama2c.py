"""A file of llama2.c's format is read as the Llama that transformers would publish."""

from __future__ import annotations

import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posjax.encodings import Rope, convert_layout
from posjax.errors import InputError
from posjax.interop.llama2c import open_llama2c
from posjax.interop.placing import place
from posjax.interop.rules import Weight
from posjax.interop.sources import everything

D, F, L, N, K, V, S = 8, 6, 2, 2, 1, 5, 7
H = D // N
ORDER = (
    (V, D),
    (L, D),
    (L, N * H, D),
    (L, K * H, D),
    (L, K * H, D),
    (L, D, N * H),
    (L, D),
    (L, F, D),
    (L, D, F),
    (L, F, D),
)


def written(path, tied=True, **header):
    """A file with random weights, and the blocks in it."""
    rng = np.random.default_rng(0)
    shapes = [*ORDER, (D,), (2, S, H // 2)]
    if not tied:
        shapes.append((V, D))
    blocks = [rng.standard_normal(shape, np.float32) for shape in shapes]
    sizes = {"D": D, "F": F, "L": L, "N": N, "K": K, "V": V if tied else -V, "S": S} | header
    path.write_bytes(struct.pack("<7i", *sizes.values()) + b"".join(block.tobytes() for block in blocks))
    return blocks


def whole(model, name):
    return model.part(name, everything(model.tensors[name].shape))


@pytest.mark.parametrize("tied", [True, False])
def test_each_tensor_is_where_the_format_has_it(tmp_path, tied):
    blocks = written(tmp_path / "model.bin", tied)
    model = open_llama2c(tmp_path / "model.bin")
    same = {
        "input_layernorm": 1,
        "self_attn.v_proj": 4,
        "self_attn.o_proj": 5,
        "post_attention_layernorm": 6,
        "mlp.gate_proj": 7,
        "mlp.down_proj": 8,
        "mlp.up_proj": 9,
    }
    for layer in range(L):
        for name, block in same.items():
            np.testing.assert_array_equal(whole(model, f"model.layers.{layer}.{name}.weight"), blocks[block][layer])
        for name, block, heads in (("q_proj", 2, N), ("k_proj", 3, K)):
            # Pairs of neighbours in the file, of halves where it is published.
            rows = blocks[block][layer].reshape(heads, H, D)
            halves = np.concatenate([rows[:, ::2], rows[:, 1::2]], axis=1).reshape(heads * H, D)
            np.testing.assert_array_equal(whole(model, f"model.layers.{layer}.self_attn.{name}.weight"), halves)
    np.testing.assert_array_equal(whole(model, "model.embed_tokens.weight"), blocks[0])
    np.testing.assert_array_equal(whole(model, "model.norm.weight"), blocks[10])
    assert ("lm_head.weight" in model.tensors) is not tied
    if not tied:
        np.testing.assert_array_equal(whole(model, "lm_head.weight"), blocks[12])
    assert len(model.tensors) == 2 + 9 * L + (not tied)


def test_the_rotation_is_that_of_the_file(tmp_path):
    blocks = written(tmp_path / "model.bin")
    model = open_llama2c(tmp_path / "model.bin")
    halves = whole(model, "model.layers.0.self_attn.q_proj.weight").reshape(N, H, D)
    neighbours = blocks[2][0].reshape(N, H, D)
    x = np.random.default_rng(1).standard_normal((3, D)).astype(np.float32)
    positions = jnp.arange(3)
    made = Rope().rotate({}, np.einsum("td,nhd->tnh", x, halves), positions, "query")
    theirs = Rope(layout="interleaved").rotate({}, np.einsum("td,nhd->tnh", x, neighbours), positions, "query")
    np.testing.assert_allclose(
        made.reshape(3, D), convert_layout(theirs.reshape(3, D), N, "split"), rtol=1e-5, atol=1e-6
    )


def test_parts_are_read_as_they_are_asked_for(tmp_path):
    written(tmp_path / "model.bin")
    model = open_llama2c(tmp_path / "model.bin")
    name = "model.layers.1.self_attn.q_proj.weight"
    rule = Weight(name, "(N H) D -> D N H")
    placed = place(model, rule, jax.ShapeDtypeStruct((D, N, H), np.float32))
    np.testing.assert_array_equal(placed, whole(model, name).reshape(N, H, D).transpose(2, 0, 1))
    np.testing.assert_array_equal(model.part(name, (slice(3, 6), slice(2, 3))), whole(model, name)[3:6, 2:3])


@pytest.mark.parametrize("tied", [True, False])
def test_the_config_is_a_llamas(tmp_path, tied):
    written(tmp_path / "model.bin", tied)
    assert open_llama2c(tmp_path / "model.bin").config() == {
        "model_type": "llama",
        "hidden_size": D,
        "intermediate_size": F,
        "num_hidden_layers": L,
        "num_attention_heads": N,
        "num_key_value_heads": K,
        "head_dim": H,
        "vocab_size": V,
        "max_position_embeddings": S,
        "tie_word_embeddings": tied,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
    }


@pytest.mark.parametrize("change", [b"", b"1234"])
def test_a_file_of_another_length_is_refused(tmp_path, change):
    path = tmp_path / "model.bin"
    written(path)
    path.write_bytes(path.read_bytes()[: -4 if not change else None] + change)
    with pytest.raises(InputError, match=r"has \d+ bytes and its header asks for \d+ .*width=8, hidden=6"):
        open_llama2c(path)


@pytest.mark.parametrize("header", [{"D": 0}, {"L": -1}, {"K": 3}, {"N": 3}, {"D": 10}, {"V": 0}])
def test_sizes_that_make_no_model_are_refused(tmp_path, header):
    written(tmp_path / "model.bin", **header)
    with pytest.raises(InputError, match="make no model"):
        open_llama2c(tmp_path / "model.bin")


def test_a_later_version_is_refused_by_its_number(tmp_path):
    written(tmp_path / "model.bin", D=0x616B3432, F=2)
    with pytest.raises(InputError, match=r"version 2 of llama2\.c's format"):
        open_llama2c(tmp_path / "model.bin")


def test_half_a_header_and_no_file_are_refused(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"123")
    with pytest.raises(InputError, match="within its header"):
        open_llama2c(tmp_path / "model.bin")
    with pytest.raises(InputError, match="cannot be read"):
        open_llama2c(tmp_path / "none.bin")
