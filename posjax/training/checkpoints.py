"""Checkpoints by orbax, and the checks that it leaves to others.

Saves are asynchronous and survive kill -9. Added here: a fingerprint of the contents, exact and the same on any mesh;
a check of every leaf's dtype; a fall-back to an older step when the newest is damaged; and a write probe, so that a
read-only or full disk is told at once and not after an hour.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from posjax.errors import InputError

KEPT = 2
"""How many steps stay: with one alone, damage to the newest would lose the run."""

_WORDS = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}


def probe(folder: Path) -> None:
    """Makes the folder and writes to it. Errors: `InputError` where that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0" * 4096)
            file.flush()
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror or error}; choose another folder with --work, or "
                         "make room there") from error


@jax.jit
def _digest(leaves: list[jax.Array]) -> list[jax.Array]:
    def one(leaf: jax.Array) -> jax.Array:
        leaf = leaf.astype(jnp.uint8) if leaf.dtype == bool else leaf
        words = jax.lax.bitcast_convert_type(leaf, _WORDS[leaf.dtype.itemsize]).astype(jnp.uint32)
        odd = jnp.arange(words.size, dtype=jnp.uint32).reshape(words.shape) * jnp.uint32(2654435762) + 1
        # A sum modulo 2^32 is exact in any order, so every mesh agrees; odd weights notice any changed or moved word.
        return jnp.sum(words * odd, dtype=jnp.uint32)

    return [one(leaf) for leaf in leaves]


def fingerprint(tree: Any) -> dict[str, int]:
    """A number for each leaf, by its path, that changes with any bit of it."""
    named = jax.tree_util.tree_leaves_with_path(tree)
    numbers = jax.device_get(_digest([leaf for _, leaf in named]))
    return {jax.tree_util.keystr(path): int(n) for (path, _), n in zip(named, numbers, strict=True)}


def _dtypes(tree: Any) -> dict[str, str]:
    return {jax.tree_util.keystr(path): str(leaf.dtype) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


class Checkpoints:
    """The checkpoints of one run, in a folder of their own. A context manager: leaving it waits for the last save.

    Errors: `InputError` for a folder that cannot be written, on `restore` for leaves of another dtype, and where every
    step is damaged.
    """

    def __init__(self, folder: Path):
        probe(folder)
        logging.getLogger("absl").setLevel(logging.ERROR)
        options = ocp.CheckpointManagerOptions(max_to_keep=KEPT, cleanup_tmp_directories=True, create=True)
        self.folder, self._manager = folder, ocp.CheckpointManager(folder.absolute(), options=options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.wait_until_finished()
        self._manager.close()

    def save(self, step: int, state: Any) -> None:
        """Begins to save; training goes on while it writes."""
        for refused in [there for there in self._manager.all_steps() if there >= step]:
            self._manager.delete(refused)
        meta = {"fingerprint": fingerprint(state), "dtypes": _dtypes(state), "step": step}
        self._manager.save(step, args=ocp.args.Composite(state=ocp.args.StandardSave(state),
                                                         meta=ocp.args.JsonSave(meta)), force=True)

    def latest(self) -> int | None:
        """The newest step that claims to be complete."""
        return self._manager.latest_step()

    def restore(self, abstract: Any) -> tuple[int, Any, list[str]]:
        """The newest sound step, its state, and why newer ones were refused; step 0 and `None` where none was saved."""
        refused: list[str] = []
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                return step, self._read(step, abstract), refused
            except InputError:
                raise
            except (OSError, ValueError, KeyError, TypeError) as error:  # What orbax raises for damaged files.
                refused.append(f"step {step}: {str(error).splitlines()[0][:160]}")
        if refused:
            raise InputError(f"no checkpoint in {self.folder} can be read ({'; '.join(refused)}): remove the folder to "
                             "train again from the first step")
        return 0, None, refused

    def _read(self, step: int, abstract: Any) -> Any:
        meta = self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]
        wanted = _dtypes(abstract)
        different = sorted(set(wanted.items()) ^ set(meta["dtypes"].items()))
        if different:
            raise InputError(f"the checkpoint of step {step} in {self.folder} holds other leaves than this run: "
                             f"{different[0][0]} is {meta['dtypes'].get(different[0][0])} there and "
                             f"{wanted.get(different[0][0])} here; use another folder with --work")
        saved = ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
        try:
            state = self._manager.restore(step, args=saved)["state"]
        except Exception as error:  # orbax raises a bare Exception for arrays that it cannot read.
            raise OSError(str(error.__cause__ or error)) from error
        changed = [path for path, n in fingerprint(state).items() if n != meta["fingerprint"][path]]
        if changed:
            raise OSError(f"the content of {changed[0]} differs from what was saved")
        return state
