"""A folder of safetensors is looked through before it is read, and each thing that is wrong with it has a line."""

from __future__ import annotations

import json
import shutil
import sys

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors

from posjax.errors import InputError
from posjax.interop.files import CONFIG, DTYPES, INDEX, SINGLE, open_folder
from posjax.interop.placing import place
from posjax.interop.rules import Weight
from tests.interop.folders import edited, published
from tests.interop.sources import counted

ARRAYS = {
    "a": counted(4, 6),
    "b": counted(5, dtype=ml_dtypes.bfloat16),
    "c": counted(2, 3, 2, dtype=np.float16),
    "scalar": counted(dtype=np.float32),
}
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


@pytest.fixture
def sharded(tmp_path):
    """A folder of two shards."""
    folder = published(tmp_path / "model", {"a": counted(4, 6), "b": counted(5), "c": counted(7)}, limit=120)
    assert sorted(path.name for path in folder.iterdir()) == [CONFIG, FIRST, SECOND, INDEX]
    return folder


@pytest.mark.parametrize("limit", [100, 2**20])
def test_names_shapes_types_and_numbers_are_those_that_were_written(tmp_path, limit):
    folder = open_folder(published(tmp_path, ARRAYS, limit))
    assert set(folder.tensors) == set(ARRAYS)
    assert len(set(folder.homes.values())) == (2 if limit == 100 else 1)
    for name, array in ARRAYS.items():
        assert folder.tensors[name] == jax.ShapeDtypeStruct(array.shape, array.dtype)
        read = folder.part(name, tuple(slice(None) for _ in array.shape))
        assert read.dtype == array.dtype and read.shape == array.shape
        np.testing.assert_array_equal(read, array)
    np.testing.assert_array_equal(folder.part("a", (slice(1, 3), slice(2, 5))), ARRAYS["a"][1:3, 2:5])


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_every_type_comes_back(tmp_path, dtype):
    array = np.array([[0, 1], [1, 0]]).astype(dtype)
    folder = open_folder(published(tmp_path, {"a": array}))
    read = folder.part("a", (slice(None), slice(1, 2)))
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, array[:, 1:2])


def test_a_sharded_tensor_is_placed(sharded):
    rule = Weight("a", "F D -> D F")
    placed = place(open_folder(sharded), rule, jax.ShapeDtypeStruct((6, 4), np.float32))
    np.testing.assert_array_equal(placed, counted(4, 6).T)


def test_no_folder(tmp_path):
    with pytest.raises(InputError, match=r"no folder .*hf:OWNER/NAME"):
        open_folder(tmp_path / "none")


def test_a_file_instead_of_its_folder(sharded):
    with pytest.raises(InputError, match="is a file: give the folder"):
        open_folder(sharded / FIRST)


def test_no_config(sharded):
    (sharded / CONFIG).unlink()
    with pytest.raises(InputError, match=r"has no config\.json"):
        open_folder(sharded)


def test_no_weights(sharded):
    for name in (FIRST, SECOND, INDEX):
        (sharded / name).unlink()
    with pytest.raises(InputError, match="holds no weights"):
        open_folder(sharded)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth"])
def test_pickles_alone(tmp_path, name):
    (tmp_path / CONFIG).write_text("{}")
    (tmp_path / name).write_bytes(b"\x80\x02")
    with pytest.raises(InputError, match=rf"pickles alone \({name}\).*may run code"):
        open_folder(tmp_path)


def test_shards_without_an_index(sharded):
    (sharded / INDEX).unlink()
    with pytest.raises(InputError, match=rf"{FIRST} without {INDEX}"):
        open_folder(sharded)


def test_a_single_file_and_an_index(sharded):
    shutil.copy(sharded / FIRST, sharded / SINGLE)
    with pytest.raises(InputError, match="holds both"):
        open_folder(sharded)


def test_a_missing_shard(sharded):
    (sharded / SECOND).unlink()
    with pytest.raises(InputError, match=f"lacks 1 of 2 shards, {SECOND}"):
        open_folder(sharded)


@pytest.mark.parametrize("cut", [1, 50, -5])
def test_a_truncated_file(sharded, cut):
    whole = (sharded / SECOND).read_bytes()
    (sharded / SECOND).write_bytes(whole[:cut])
    with pytest.raises(InputError, match=f"{SECOND} is cut short or damaged"):
        open_folder(sharded)


def test_a_pointer_instead_of_a_file(sharded):
    (sharded / SECOND).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(InputError, match=f"{SECOND} is a pointer of Git LFS"):
        open_folder(sharded)


def test_a_tensor_that_its_shard_lacks(sharded):
    listed = json.loads((sharded / INDEX).read_text())["weight_map"]
    edited(sharded / INDEX, weight_map=listed | {"d": SECOND})
    with pytest.raises(InputError, match=f"lists the tensor 'd' in {SECOND}, which does not hold it"):
        open_folder(sharded)


def test_a_tensor_in_another_shard_than_listed(sharded):
    listed = json.loads((sharded / INDEX).read_text())["weight_map"]
    edited(sharded / INDEX, weight_map=listed | {"a": SECOND})
    with pytest.raises(InputError, match="lists the tensor 'a'"):
        open_folder(sharded)


def test_a_tensor_in_two_shards(sharded):
    shutil.copy(sharded / FIRST, sharded / SECOND)
    with pytest.raises(InputError, match=f"holds the tensor 'a' twice, in {FIRST} and in {SECOND}"):
        open_folder(sharded)


def test_a_tensor_that_the_index_leaves_out_is_there_all_the_same(sharded):
    # Whoever reads the folder then says whether it is one that the model has.
    listed = json.loads((sharded / INDEX).read_text())["weight_map"]
    edited(sharded / INDEX, weight_map={name: file for name, file in listed.items() if name != "b"})
    assert "b" in open_folder(sharded).tensors


@pytest.mark.parametrize("file", ["../model.safetensors", "/etc/passwd", "model.bin", 3])
def test_an_index_that_leads_elsewhere(sharded, file):
    edited(sharded / INDEX, weight_map={"a": file})
    with pytest.raises(InputError, match="of the same folder"):
        open_folder(sharded)


@pytest.mark.parametrize("listed", [None, {}, ["a"]])
def test_an_index_without_a_map(sharded, listed):
    edited(sharded / INDEX, weight_map=listed)
    with pytest.raises(InputError, match="no 'weight_map'"):
        open_folder(sharded)


def test_an_index_that_is_no_json(sharded):
    (sharded / INDEX).write_text("{")
    with pytest.raises(InputError, match=f"{INDEX} is damaged"):
        open_folder(sharded)


def test_a_type_that_is_not_read(tmp_path):
    published(tmp_path, {"a": counted(3, dtype=np.uint8)})
    text = b'{"a":{"dtype":"F8_E4M3","shape":[3],"data_offsets":[0,3]}}'
    (tmp_path / SINGLE).write_bytes(len(text).to_bytes(8, "little") + text + b"123")
    with pytest.raises(InputError, match=r"'a' in .* is of type F8_E4M3"):
        open_folder(tmp_path)


def test_without_the_package_the_extra_is_named(sharded, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(InputError, match=r"pip install 'posjax\[hf\]'"):
        open_folder(sharded)


def test_a_file_that_may_not_be_read(sharded, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(safetensors, "safe_open", refused)
    with pytest.raises(InputError, match="cannot be read"):
        open_folder(sharded)
