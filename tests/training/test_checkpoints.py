"""Checkpoints: to the bit, never silently damaged, never lost with the newest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posjax import Rope
from posjax.errors import InputError, StorageError
from posjax.files import probe
from posjax.training import checkpoints, paths
from posjax.training.checkpoints import KEPT, Checkpoints, begun, fingerprint, restore as read


def state(step: int, dtype=jnp.float32):
    """Leaves of every kind that a run keeps, large enough to reach the files of arrays."""
    return {
        "matrix": jax.random.normal(jax.random.key(step), (64, 33), dtype),
        "bias": jnp.full(3, step, jnp.bfloat16),
        "step": jnp.int32(step),
        "flags": jnp.array([True, False, step % 2 == 0]),
    }


def abstract(value):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), value)


def same_bits(one, two):
    return jax.tree.all(
        jax.tree.map(
            lambda a, b: (
                a.dtype == b.dtype and a.shape == b.shape and np.asarray(a).tobytes() == np.asarray(b).tobytes()
            ),
            one,
            two,
        )
    )


@pytest.fixture
def saved(tmp_path):
    """A folder with steps 1 and 2."""
    folder = tmp_path / "checkpoints"
    with Checkpoints(folder) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, state(step))
    return folder


def largest(folder):
    """The file that holds the arrays of a step."""
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def restore(folder, like):
    with Checkpoints(folder) as checkpoints:
        return checkpoints.restore(abstract(like))


def test_what_is_saved_is_restored_to_the_bit(saved):
    step, found, refused = restore(saved, state(0))
    assert (step, refused) == (2, ())
    assert same_bits(found, state(2))
    assert not same_bits(found, state(1))


def test_two_steps_are_kept(saved):
    with Checkpoints(saved) as checkpoints:
        checkpoints.save(3, state(3))
    with Checkpoints(saved) as checkpoints:
        assert checkpoints.latest() == 3
    assert sorted(p.name for p in saved.iterdir() if p.name.isdigit()) == ["2", "3"]
    assert KEPT == 2


def test_an_empty_folder_is_step_0(tmp_path):
    assert restore(tmp_path / "new", state(0)) == (0, None, ())


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        flip,
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        lambda path: path.unlink(),
    ],
    ids=["a flipped bit", "a truncated file", "a missing file"],
)
def test_a_damaged_step_falls_back_to_the_one_before_it_with_a_reason(saved, damage):
    damage(largest(saved / "2"))
    step, found, refused = restore(saved, state(0))
    assert step == 1 and same_bits(found, state(1))
    assert [step for step, _ in refused] == [2] and refused[0][1] and "\n" not in refused[0][1]
    # What was refused is set aside: another look finds nothing to refuse.
    assert restore(saved, state(0))[0::2] == (1, ())
    assert len(list(saved.glob("2.refused.*"))) == 1


def test_every_flipped_bit_of_the_arrays_is_noticed(saved):
    path = largest(saved / "2")
    good = path.read_bytes()
    for place in np.linspace(8, len(good) - 8, 5).astype(int):
        content = bytearray(good)
        content[place] ^= 0x10
        path.write_bytes(content)
        step, found, _ = read(saved, abstract(state(0)))
        assert step == 1 or same_bits(found, state(2)), place


@pytest.mark.parametrize("part", ["meta", "state"])
def test_a_step_without_one_of_its_parts_is_refused(saved, part):
    shutil.rmtree(saved / "2" / part)
    step, _, refused = restore(saved, state(0))
    assert step == 1 and len(refused) == 1


def test_damaged_notes_are_refused(saved):
    notes = max(
        (p for p in (saved / "2" / "meta").rglob("*") if p.is_file()),
        key=lambda p: "fingerprint" in p.read_text(errors="replace"),
    )
    notes.write_text("{")
    step, _, refused = restore(saved, state(0))
    assert step == 1 and len(refused) == 1


def test_every_flipped_bit_of_what_a_step_says_of_itself_falls_back(saved):
    path = saved / "2" / "meta" / "metadata"
    good = path.read_bytes()
    for place in range(0, len(good), 7):
        content = bytearray(good)
        content[place] ^= 1 << place % 8
        path.write_bytes(content)
        step, _, _ = read(saved, abstract(state(0)))
        assert step == 1 or json.loads(content) == json.loads(good), place


@pytest.mark.parametrize("name", ["9", "3", "1"])
def test_a_step_is_what_it_says_of_itself_whatever_its_folder_is_called(saved, name):
    shutil.rmtree(saved / name, ignore_errors=True)
    (saved / "2").rename(saved / name)
    if name == "1":
        with pytest.raises(InputError, match="it is of step 2, whatever its folder is called"):
            restore(saved, state(0))
        return
    step, found, refused = restore(saved, state(0))
    assert step == 1 and same_bits(found, state(1))
    assert refused == ((int(name), "it is of step 2, whatever its folder is called"),)


def test_a_step_of_another_configuration_is_refused(tmp_path):
    with Checkpoints(tmp_path, {"seed": 1, "encoding": Rope()}) as checkpoints:
        checkpoints.save(1, state(1))
    with pytest.raises(InputError, match=r"of another config: encoding.base is 10000.0 there and 5.0 here"):
        read(tmp_path, abstract(state(0)), {"seed": 1, "encoding": Rope(base=5.0)})
    assert read(tmp_path, abstract(state(0)), {"seed": 1, "encoding": Rope()}).step == 1
    assert begun(tmp_path)["seed"] == 1


def test_reading_changes_nothing_and_needs_no_right_to_write(saved):
    (saved / "3.orbax-checkpoint-tmp-1").mkdir()  # As of a trainer that is saving right now.
    before = sorted(saved.rglob("*"))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("mkdir", "rename", "unlink", "rmdir"):
            patch.setattr(Path, name, lambda *_, **__: pytest.fail("a reader writes"))
        assert read(saved, abstract(state(0))).step == 2
    assert sorted(saved.rglob("*")) == before


def test_a_folder_that_is_gone_is_told(saved):
    with Checkpoints(saved) as checkpoints:
        shutil.rmtree(saved)
        with pytest.raises(StorageError, match="is gone: put it back"):
            checkpoints.save(3, state(3))


def test_an_empty_folder_named_like_a_step_is_not_the_latest(saved):
    (saved / "9").mkdir()
    step, found, _ = restore(saved, state(0))
    assert step == 2 and same_bits(found, state(2))


def test_where_all_are_damaged_nothing_is_trained_anew_behind_ones_back(saved):
    for step in ("1", "2"):
        flip(largest(saved / step))
    with pytest.raises(InputError, match=r"no checkpoint .* can be read .*restore one from a copy"):
        restore(saved, state(0))


def test_another_dtype_is_refused_by_name(saved):
    with pytest.raises(InputError, match=r"matrix.* is float32 there and bfloat16 here"):
        restore(saved, state(0, jnp.bfloat16))


def test_another_structure_is_refused(saved):
    with pytest.raises(InputError, match="other leaves"):
        restore(saved, {**state(0), "more": jnp.zeros(2)})


def test_a_folder_that_cannot_be_written_is_told_at_once(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for action in (probe, Checkpoints):
        with pytest.raises(InputError, match=r"cannot write to .*--work"):
            action(tmp_path / "file" / "x")


def test_a_probe_leaves_nothing_behind(tmp_path):
    probe(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_the_fingerprint_sees_any_bit_and_any_move_and_no_mesh():
    value = {"a": jnp.arange(8.0), "b": jnp.array([True, False])}
    base = fingerprint(value)
    assert fingerprint(jax.tree.map(lambda x: x + 0 if x.dtype != bool else x, value)) == base
    moved = {**value, "a": value["a"][::-1]}
    nudged = {**value, "a": value["a"].at[5].set(jnp.nextafter(value["a"][5], jnp.float32(9)))}
    negative_zero = {**value, "a": value["a"].at[0].set(-0.0)}
    flipped = {**value, "b": jnp.array([False, True])}
    assert len({tuple(fingerprint(v).values()) for v in (value, moved, nudged, negative_zero, flipped)}) == 5
    mesh = jax.make_mesh((2,), ("data",), (jax.sharding.AxisType.Auto,))
    split = jax.device_put(value["a"], jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data")))
    assert fingerprint({**value, "a": split}) == base


def wrapped(cause):
    """As orbax tells of what has ended its own tasks."""
    error = ValueError("a task failed")
    error.__cause__ = ExceptionGroup("tasks", [RuntimeError("other")])
    error.__cause__.__context__ = cause
    return error


TOLD = 'PERMISSION_DENIED: Error opening "zarr" driver: Failed to open: "/a/file": Permission denied [tensorstore]'


@pytest.mark.parametrize(
    ("error", "raised", "told"),
    [
        (wrapped(KeyboardInterrupt()), KeyboardInterrupt, None),
        (wrapped(SystemExit(3)), SystemExit, None),
        (wrapped(MemoryError()), MemoryError, None),
        (wrapped(OSError(5, "Input/output error", "/a/file")), StorageError, r"/a/file cannot be read now \(Input/out"),
        (OSError(24, "Too many open files"), StorageError, "raise ulimit -n"),
        (ValueError(TOLD), StorageError, r"/a/file cannot be read now \(Permission denied\)"),
    ],
)
def test_what_is_no_damage_sets_no_step_aside(saved, monkeypatch, error, raised, told):
    def arrays(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "_arrays", arrays)
        with pytest.raises(raised, match=told):
            restore(saved, state(2))
    assert sorted(path.name for path in saved.iterdir()) == ["1", "2"]
    assert restore(saved, state(2)).step == 2


def test_what_a_step_says_of_itself_may_be_read_later(saved, monkeypatch):
    real = Path.read_bytes

    def read_bytes(path):
        if path.name == "metadata":
            raise OSError(5, "Input/output error", str(path))
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", read_bytes)
        with pytest.raises(StorageError, match="cannot be read now"):
            restore(saved, state(2))
    assert restore(saved, state(2)).step == 2


def test_an_old_step_that_stays_is_not_told_as_one_that_was_not_written(saved, monkeypatch):
    real = Path.rename

    def rename(path, target):
        if Path(target).name.startswith(".gone."):
            raise PermissionError(1, "Operation not permitted")
        return real(path, target)

    told = pytest.raises(StorageError, match=r"step 1 could not be taken away .* step 3 is kept")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename)
        with told, Checkpoints(saved) as kept:
            kept.save(3, state(3))
    assert restore(saved, state(3)).step == 3


@pytest.mark.parametrize("sign", ["[1]", "*", "?", "\\"])
def test_a_folder_that_orbax_takes_for_a_pattern_is_refused(tmp_path, sign):
    folder = tmp_path / f"study {sign}" / "checkpoints"
    with pytest.raises(InputError, match="in its name, by which checkpoints would be lost"):
        Checkpoints(folder)
    assert not folder.exists()


def test_a_step_whose_parts_were_not_joined_takes_no_older_one_away(tmp_path, monkeypatch):
    folder = tmp_path / "study [1]" / "checkpoints"
    monkeypatch.setattr(paths, "SIGNS", "")
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(1, state(1))
        with pytest.raises(StorageError, match="was written and not joined: those before it are kept"):
            checkpoints.wait()
