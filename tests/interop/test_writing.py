"""What is written is what the publisher's own writer makes of the same tensors, whole or not there."""

from __future__ import annotations

import json
import os
import weakref
from pathlib import Path

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save

from posjax.errors import InputError, StorageError
from posjax.interop.files import CONFIG, INDEX, SINGLE, open_folder
from posjax.interop.rules import Part, Weight
from posjax.interop.sources import everything
from posjax.interop.writing import UNFINISHED, Outgoing, finish_exchange, outgoing, write_folder
from tests.interop.folders import held, published
from tests.interop.sources import counted

ARRAYS = {
    "layers.10.w": counted(4, 6),
    "layers.9.w": counted(6, 4).T,
    "bias": counted(5, dtype=ml_dtypes.bfloat16),
    "half": counted(3, dtype=np.float16),
    "whole": counted(2, dtype=np.int64),
    "mask": counted(3, dtype=np.uint8),
    "naïve": counted(3, dtype=np.float64),
}


def test_the_bytes_are_those_of_the_package_itself(tmp_path):
    published(tmp_path, ARRAYS)
    whole = {name: np.ascontiguousarray(array) for name, array in ARRAYS.items()}
    assert (tmp_path / SINGLE).read_bytes() == save(whole, {"format": "pt"})


def test_the_same_tensors_give_the_same_bytes(tmp_path):
    for name, arrays in (("one", ARRAYS), ("two", dict(reversed(ARRAYS.items())))):
        published(tmp_path / name, arrays)
    for name in (SINGLE, CONFIG):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_shards_hold_at_most_the_limit_and_the_index_says_where_all_is(tmp_path):
    arrays = {f"w{i}": counted(10 + i) for i in range(8)} | {"large": counted(50)}
    published(tmp_path, arrays, limit=100)
    index = json.loads((tmp_path / INDEX).read_text())
    assert index["metadata"] == {
        "total_parameters": sum(array.size for array in arrays.values()),
        "total_size": sum(array.nbytes for array in arrays.values()),
    }
    assert list(index["weight_map"]) == sorted(arrays)
    files = sorted(set(index["weight_map"].values()))
    assert files == [f"model-{i:05d}-of-{len(files):05d}.safetensors" for i in range(1, len(files) + 1)]
    for file in files:
        held = load_file(tmp_path / file)
        # What is larger than the limit has a file of its own.
        assert sum(array.nbytes for array in held.values()) <= 100 or list(held) == ["large"]
        for name, array in held.items():
            assert index["weight_map"][name] == file
            np.testing.assert_array_equal(array, arrays[name])


@pytest.mark.parametrize("limit", [16, 2**20])
def test_one_tensor_is_held_at_a_time(tmp_path, limit):
    earlier = []

    def make():
        assert all(array() is None for array in earlier)
        made = counted(4)
        earlier.append(weakref.ref(made))
        return made

    tensors = {name: Outgoing((4,), np.dtype(np.float32), make) for name in "abc"}
    write_folder(tmp_path, {}, tensors, limit)
    assert set(open_folder(tmp_path).tensors) == {"a", "b", "c"}


def test_another_model_is_not_overwritten_unless_asked(tmp_path):
    published(tmp_path, {"a": counted(30), "b": counted(30)}, limit=120)
    with pytest.raises(InputError, match=r"holds a model already \(config\.json\)"):
        published(tmp_path, {"c": counted(3)})
    assert set(open_folder(tmp_path).tensors) == {"a", "b"}
    write_folder(tmp_path, {}, held({"c": counted(3)}), overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [CONFIG, SINGLE]


def test_a_model_is_there_until_the_one_that_replaces_it_is_whole(tmp_path):
    published(tmp_path, {"a": counted(30)})
    (tmp_path / "adapter.safetensors").write_bytes(b"mine")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full():
        raise OSError(28, "No space left on device")

    tensors = held({"c": counted(3)}) | {"d": Outgoing((4,), np.dtype(np.float32), full)}
    with pytest.raises(StorageError, match="No space left"):
        write_folder(tmp_path, {}, tensors, overwrite=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    write_folder(tmp_path, {}, held({"c": counted(3)}), overwrite=True)
    assert (tmp_path / "adapter.safetensors").read_bytes() == b"mine"


def interrupted_at(monkeypatch, count, error):
    """Has the `count`-th file that takes another's place, or is taken away, raise an error instead."""
    moves = []

    def once(real):
        def act(path, *rest, **more):
            # A folder as a whole goes by other functions.
            moves.append(path)
            if len(moves) == count:
                raise error
            return real(path, *rest, **more)

        return act

    monkeypatch.setattr(Path, "replace", once(Path.replace))
    monkeypatch.setattr(Path, "unlink", once(Path.unlink))
    return moves


OLD, NEW = {"a": counted(30), "b": counted(30)}, {"c": counted(30), "d": counted(30)}


def numbers(folder):
    source = open_folder(folder)
    return {name: source.part(name, everything(tensor.shape)) for name, tensor in source.tensors.items()}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(1, "Operation not permitted")])
@pytest.mark.parametrize("limits", [(120, 2**20), (2**20, 120), (2**20, 2**20)])
def test_an_exchange_that_is_interrupted_anywhere_loses_no_model(tmp_path, monkeypatch, error, limits):
    before, after = limits
    for count in range(1, 30):
        folder = tmp_path / f"{count}"
        published(folder, OLD, limit=before)
        with monkeypatch.context() as patch:
            moves = interrupted_at(patch, count, error)
            try:
                write_folder(folder, {}, held(NEW), after, overwrite=True)
            except KeyboardInterrupt:
                pass
            except StorageError as refusal:
                assert "waits whole in" in str(refusal) or "make room" in str(refusal)
        if len(moves) < count:
            break
        # Either is there by itself, or the new one waits; no mixture passes for a model.
        if (folder / CONFIG).exists():
            assert set(numbers(folder)) in (set(OLD), set(NEW))
        else:
            with pytest.raises(InputError, match=r"waits whole in .*: let the command that writes it end"):
                numbers(folder)
        finish_exchange(folder)
        names = set(numbers(folder))
        assert names in (set(OLD), set(NEW))
        for name, array in numbers(folder).items():
            np.testing.assert_array_equal(array, {**OLD, **NEW}[name])
        assert not (folder / UNFINISHED / CONFIG).exists()
    # All of it was tried: files were moved, and in the end none was interrupted.
    assert 3 < count < 29


def test_a_first_model_that_was_interrupted_is_written_by_the_same_command(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        # The files that are written whole take their places by another function.
        interrupted_at(patch, 2, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            published(tmp_path, NEW, limit=120)
    published(tmp_path, NEW, limit=120)
    assert set(numbers(tmp_path)) == set(NEW)
    with pytest.raises(InputError, match="already"):
        published(tmp_path, OLD)


def test_a_list_of_an_exchange_leads_out_of_no_folder(tmp_path):
    (tmp_path / UNFINISHED).mkdir()
    (tmp_path / UNFINISHED / "exchange.json").write_text('{"files": ["../config.json"]}')
    with pytest.raises(InputError, match="no file of a model"):
        published(tmp_path, NEW)


@pytest.mark.parametrize("name", ["model.safetensors", "other.safetensors", INDEX])
def test_weights_without_a_config_count_too(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(InputError, match="already"):
        published(tmp_path, {"c": counted(3)})
    assert (tmp_path / name).read_bytes() == b""


def test_what_is_no_model_stays(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    published(tmp_path, {"c": counted(3)})
    assert (tmp_path / "tokenizer.json").read_text() == "{}"


def test_a_write_that_is_cut_off_leaves_no_model(tmp_path):
    def make():
        raise KeyboardInterrupt

    cut = held({"a": counted(30)}) | {"b": Outgoing((30,), np.dtype(np.float32), make)}
    with pytest.raises(KeyboardInterrupt):
        write_folder(tmp_path, {}, cut, limit=120)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="no config"):
        open_folder(tmp_path)


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        published(tmp_path, {"a": counted(3)})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("made", [counted(2, 3), counted(6, dtype=np.float16)])
def test_a_tensor_that_is_not_as_announced_is_refused(tmp_path, made):
    tensor = Outgoing((6,), np.dtype(np.float32), lambda: made)
    with pytest.raises(InputError, match="announced"):
        write_folder(tmp_path, {}, {"a": tensor})


def test_a_type_that_the_format_lacks_is_refused(tmp_path):
    with pytest.raises(InputError, match="'a' is of type complex64"):
        published(tmp_path, {"a": counted(2, dtype=np.complex64)})


def test_a_limit_below_one_byte_is_refused(tmp_path):
    with pytest.raises(InputError, match="positive limit"):
        published(tmp_path, {"a": counted(2)}, limit=0)


def test_parameters_of_ours_are_written_as_the_tensors_of_theirs(tmp_path):
    N, K, H, D = 4, 2, 3, 5
    layout = "(part H) D -> D part H"
    rules = {
        "query": (Weight("qkv", layout, Part(0, N, N + 2 * K)), counted(D, N, H)),
        "key": (Weight("qkv", layout, Part(N, K, N + 2 * K)), counted(D, K, H)),
        "norm": (Weight("norm", "D -> D"), counted(D)),
        "value": (Weight("qkv", layout, Part(N + K, K, N + 2 * K)), counted(D, K, H)),
    }
    pieces = [(rule, jnp.asarray(array, jnp.bfloat16)) for rule, array in rules.values()]
    write_folder(tmp_path, {}, outgoing(pieces))
    folder = open_folder(tmp_path)
    assert {name: found.shape for name, found in folder.tensors.items()} == {"qkv": ((N + 2 * K) * H, D), "norm": (D,)}
    for rule, array in pieces:
        read = rule.read(folder, array.shape, everything(array.shape))
        assert read.dtype == jnp.bfloat16
        np.testing.assert_array_equal(read, array)
    with pytest.raises(InputError, match="gap"):
        outgoing(pieces[:2])
