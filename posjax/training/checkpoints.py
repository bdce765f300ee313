"""Checkpoints by orbax, and the checks that it leaves to others.

A step is written by a thread while training goes on, and takes its name once it is whole, so kill -9 loses nothing that
was kept. Added here: each step says of itself which step it is, of which configuration, with which types, and a
fingerprint of its contents, exact and the same on any mesh; what any of these contradicts is set aside, and an older
step is taken.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import secrets
import shutil
import sys
import threading
from pathlib import Path
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from posjax.errors import InputError, StorageError
from posjax.files import probe, read_json, reason, sync
from posjax.identity import differences, tree
from posjax.training.faults import raise_passing
from posjax.training.launch import first, meet, same
from posjax.training.paths import expect_joined, expect_plain

KEPT = 2
"""How many steps stay: with one alone, damage to the newest would lose the run."""

DATA = "data"
"""Under which name a step says what task it was trained on."""

_ALONE = threading.Lock()
"""Orbax keeps what belongs to a save under its number in the process: two at once lose each other's files."""

_WORDS = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}


@jax.jit
def _digest(leaves: list[jax.Array]) -> list[jax.Array]:
    def one(leaf: jax.Array) -> jax.Array:
        if leaf.dtype == bool:  # Whose bits jax does not hand out.
            leaf = leaf.astype(jnp.uint8)
        words = jax.lax.bitcast_convert_type(leaf, _WORDS[leaf.dtype.itemsize]).astype(jnp.uint32)
        place = jnp.arange(words.size, dtype=jnp.uint32).reshape(words.shape)
        odd = place * jnp.uint32(2654435762) + 1
        # A sum modulo 2^32 is exact in any order, so every mesh agrees; odd weights notice any changed or moved word.
        return jnp.sum(words * odd, dtype=jnp.uint32)

    return [one(leaf) for leaf in leaves]


def fingerprint(tree: Any, below: str = "") -> dict[str, int]:
    """A number for each leaf, by its path, that changes with any bit of it. `below`: the path of the tree itself."""
    leaves = _by_name(tree, below)
    # All leaves in one call: one by one each shape would be compiled by itself.
    digests = jax.device_get(_digest(list(leaves.values())))
    return {name: int(digest) for name, digest in zip(leaves, digests, strict=True)}


def _dtypes(tree: Any, below: str = "") -> dict[str, str]:
    return {name: str(leaf.dtype) for name, leaf in _by_name(tree, below).items()}


def _by_name(tree: Any, below: str = "") -> dict[str, Any]:
    """The leaves of a state by their paths, as text that a JSON file can keep."""
    found = jax.tree_util.tree_leaves_with_path(tree)
    return {below + jax.tree_util.keystr(path): leaf for path, leaf in found}


def _sealed(meta: dict[str, Any]) -> str:
    """A hash of what a step says of itself, but for the hash."""
    said = {name: value for name, value in meta.items() if name != "seal"}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


class Restored(NamedTuple):
    """The newest sound step and its state, step 0 and `None` where none was saved; and the steps that were not sound,
    with the reasons."""

    step: int
    state: Any
    refused: tuple[tuple[int, str], ...] = ()

    @property
    def told(self) -> list[str]:
        """A line for each step that was refused."""
        return [
            f"the checkpoint of step {step} was refused: {why}; taken is step {self.step}" for step, why in self.refused
        ]


def restore(folder: Path, abstract: Any, about: Any = None, only: str | None = None, at: int | None = None) -> Restored:
    """The newest sound step in a folder, which is only read. `abstract`: the shapes, types and places of a state.

    `about`: the configuration that it must be of; `None`: any. `only`: the field of a state that alone is read, such as
    "params", and is then found in the state's place. `at`: the step that alone is looked for.

    Errors: `InputError` for a step of another configuration or of other leaves, and where every step is damaged;
    `StorageError` where the system does not let the newest one be read now, which says nothing of what is in it.
    """
    refused: list[tuple[int, str]] = []
    for step in _steps(folder):
        if at not in (None, step):
            continue
        try:
            return Restored(step, _read(folder, step, abstract, about, only), tuple(refused))
        except _Unsound as why:
            refused.append((step, str(why)))
    if refused:
        why = "; ".join(f"step {step}: {reason}" for step, reason in refused)
        raise InputError(
            f"no checkpoint in {folder} can be read ({why}): restore one from a copy, or choose another "
            "folder with --work to train again from the first step"
        )
    return Restored(0, None)


def begun(folder: Path) -> Any:
    """The configuration, as plain values, that the newest sound step in a folder is of; `None` where there is none."""
    for step in _steps(folder):
        with contextlib.suppress(_Unsound):
            return _meta(folder / str(step), step)["about"]
    return None


class _Unsound(Exception):
    """Why a step cannot be taken."""


def _steps(folder: Path) -> list[int]:
    """The steps that a folder names, the newest first."""
    if not folder.is_dir():
        return []
    steps = []
    for path in folder.iterdir():
        # Only what orbax would call a step: no `007`, and no digits of another script.
        if path.is_dir() and path.name.isdecimal() and str(int(path.name)) == path.name:
            steps.append(int(path.name))
    return sorted(steps, reverse=True)


def _read(folder: Path, step: int, abstract: Any, about: Any, only: str | None) -> Any:
    path = folder / str(step)
    meta = _meta(path, step)
    # Before any array is read: orbax would tell another config by the first shape that does not fit, or not at all.
    _refuse_another(folder, step, meta, abstract, about)
    _quiet()
    below = ""
    try:
        if only is None:
            state = _arrays(path / "state", ocp.StandardCheckpointHandler(), ocp.args.StandardRestore(abstract))
        else:
            below = f".{only}"
            state = _part(path / "state", only, getattr(abstract, only))
    except Exception as error:  # orbax and tensorstore have no common one for arrays that they cannot read.
        # It may be sound, and none is set aside for what passes.
        raise_passing(path, error)
        raise _Unsound(reason(error.__cause__ or error)) from error
    # Not every flipped bit is noticed by what reads the arrays, and a changed weight looks like any other.
    for name, digest in fingerprint(state, below).items():
        if digest != meta["fingerprint"].get(name):
            raise _Unsound(f"the content of {name} differs from what was saved")
    return state


def _arrays(path: Path, handler: Any, args: Any) -> Any:
    with _ALONE, contextlib.closing(ocp.Checkpointer(handler)) as checkpointer:
        return checkpointer.restore(path.absolute(), args=args)


def _part(path: Path, name: str, abstract: Any) -> Any:
    """One field of a state that was saved whole: to evaluate takes no moments, which are twice the parameters."""
    item = {name: abstract}
    places = ocp.checkpoint_utils.construct_restore_args(item)
    args = ocp.args.PyTreeRestore(item, restore_args=places, partial_restore=True)
    return _arrays(path, ocp.PyTreeCheckpointHandler(), args)[name]


def _refuse_another(folder: Path, step: int, meta: dict[str, Any], abstract: Any, about: Any) -> None:
    """Errors: `InputError` for a sound step of another configuration, or of other leaves."""
    if about is not None:
        other = differences(meta["about"], as_told(meta["about"], about))
        if other:
            raise InputError(
                f"the checkpoint of step {step} in {folder} is of another config: {'; '.join(other[:3])}. "
                "Nothing was changed; choose another folder with --work"
            )
    wanted = _dtypes(abstract)
    different = sorted(set(wanted.items()) ^ set(meta["dtypes"].items()))
    if different:
        name = different[0][0]
        there, here = meta["dtypes"].get(name), wanted.get(name)
        raise InputError(
            f"the checkpoint of step {step} in {folder} holds other leaves than this run: {name} is "
            f"{there} there and {here} here; use another folder with --work"
        )


def as_told(there: Any, about: Any) -> Any:
    """A configuration less the data of tasks where a step does not tell of them: those of before did not."""
    if not isinstance(about, dict) or not isinstance(there, dict):
        return about
    told = {name: value for name, value in about.items() if name != DATA or name in there}
    # The training before it says as much of itself.
    return {name: as_told(there.get(name), value) for name, value in told.items()}


def _meta(path: Path, step: int) -> dict[str, Any]:
    """What a step says of itself, believed where its seal fits and its folder's name agrees."""
    try:
        (path / "meta" / "metadata").open("rb").close()
    except PermissionError as error:  # What may not be read is not damaged.
        raise InputError(f"{error.filename} may not be read: make it readable, and go on") from error
    except OSError:
        pass
    try:
        meta = read_json(path / "meta" / "metadata", "")
    except StorageError:  # It may be sound.
        raise
    except (InputError, OSError) as error:
        raise _Unsound(reason(error)) from error
    if "seal" not in meta:
        raise _Unsound("it does not say what it is, as those of posjax 0.1.0 and damaged ones")
    if meta["seal"] != _sealed(meta):
        raise _Unsound("what it says of itself is damaged")
    if meta["step"] != step:
        raise _Unsound(f"it is of step {meta['step']}, whatever its folder is called")
    return meta


def _identity(folder: Path) -> tuple[int, int]:
    """What stays the same where a folder is called otherwise, and differs where another is put in its place."""
    found = folder.stat()
    return found.st_dev, found.st_ino


def _quiet() -> None:
    """What orbax and tensorstore have to say comes as an error, in one line; nothing else of theirs is printed."""
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _unless_abandoned


def _unless_abandoned(told: Any) -> None:
    """Passes on what Python could not raise, but for writes that a full disk left behind as orbax's loop closed."""
    if not (isinstance(told.exc_value, RuntimeError) and str(told.exc_value) == "Event loop is closed"):
        sys.__unraisablehook__(told)


class Checkpoints:
    """Writes the checkpoints of one run, in a folder of their own. A context manager: leaving it waits for the last.

    `about`: the configuration that each step says it is of, any dataclasses and plain values.

    Errors: `StorageError` where the disk refuses, at the latest when the next step is saved.
    """

    def __init__(self, folder: Path, about: Any = None):
        self.folder, self._about = folder, about
        self._thread: threading.Thread | None = None
        self._failed: StorageError | None = None
        expect_plain(folder)
        if first():
            probe(folder)
            # What a killed process was writing, or taking away: nobody else writes here, as the folder is owned.
            for left in (*folder.glob("*.orbax-checkpoint-tmp*"), *folder.glob(".gone.*")):
                shutil.rmtree(left, ignore_errors=True)
        meet("where checkpoints are")
        if not folder.is_dir():
            raise InputError(
                f"process {jax.process_index()} does not see {folder}, which the first has made: give --work a folder "
                "that all processes share"
            )
        self._identity = _identity(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        try:
            self.wait()
        except StorageError:
            if kind is None:  # Else the error that ended training is told, as it came first.
                raise

    def restore(self, abstract: Any, at: int | None = None) -> Restored:
        """As the function `restore`; steps that are not sound are set aside, named `N.refused`, for whoever can use
        them."""
        found = restore(self.folder, abstract, self._about, at=at)
        # Each has looked before anything is taken away.
        same(found.step, "newest checkpoints")
        for step, _ in found.refused:
            if not first():
                break
            # Else it would be the newest again at the next start, and take one of the places that are kept.
            with contextlib.suppress(OSError):
                (self.folder / str(step)).rename(self.folder / f"{step}.refused.{secrets.token_hex(2)}")
        return found

    def latest(self) -> int | None:
        """The newest step that is whole."""
        with contextlib.suppress(StorageError):
            self.wait()
        return next(iter(_steps(self.folder)), None)

    def save(self, step: int, state: Any) -> None:
        """Begins to save; training goes on while it writes. Errors: `StorageError` of the save before."""
        self.wait()
        if not self.folder.is_dir() or _identity(self.folder) != self._identity:
            raise StorageError(f"{self.folder} is gone: put it back, and the same command goes on from its last step")
        meta = {
            "step": step,
            "about": tree(self._about),
            "dtypes": _dtypes(state),
            # Of the device's own arrays, before they are copied: damage on the way to the disk shows too.
            "fingerprint": fingerprint(state),
        }
        meta = {**meta, "seal": _sealed(meta)}
        if jax.process_count() > 1:
            # Each writes its own part, and what one does in the background another may be waiting for.
            self._write(step, state, meta)
            meet(f"step {step} is kept")
            return
        # Copied, since the next step of training consumes the state.
        host = jax.tree.map(np.array, state)
        # A daemon, so that a disk that hangs cannot keep the process from ending.
        self._thread = threading.Thread(
            target=self._write,
            args=(step, host, meta),
            daemon=True,
            name=f"checkpoint of step {step}",
        )
        self._thread.start()

    def wait(self) -> None:
        """Until what was begun is on disk. Errors: `StorageError` where it could not be."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._failed is not None:
            failed, self._failed = self._failed, None
            raise failed

    def _prune(self, step: int) -> None:
        """Takes older steps away. Errors: `StorageError`, which says that the new one is kept."""
        # Larger names are somebody else's: this step is the newest there is of this run.
        mine = [saved for saved in _steps(self.folder) if saved <= step]
        for old in mine[KEPT:]:
            # Renamed first, so that half of it is never taken for a step.
            gone = self.folder / f".gone.{old}"
            try:
                (self.folder / str(old)).rename(gone)
            except OSError as error:
                raise StorageError(
                    f"step {old} could not be taken away from {self.folder} ({reason(error)}): step {step} is kept; "
                    "make the folder writable, and the same command goes on from there"
                ) from error
            shutil.rmtree(gone, ignore_errors=True)

    def _write(self, step: int, state: Any, meta: dict[str, Any]) -> None:
        _quiet()
        try:
            handler = ocp.CompositeCheckpointHandler(
                state=ocp.StandardCheckpointHandler(), meta=ocp.JsonCheckpointHandler()
            )
            with _ALONE, contextlib.closing(ocp.Checkpointer(handler)) as checkpointer:
                args = ocp.args.Composite(state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta))
                # By force: a step of this name was refused, or is of a process that was killed.
                checkpointer.save((self.folder / str(step)).absolute(), args=args, force=True)
            if not first():
                return
            expect_joined(self.folder / str(step))
            sync(self.folder)
            self._prune(step)
        except StorageError as error:
            self._failed = error
        except Exception as error:  # Whatever orbax raises where it cannot write.
            self._failed = StorageError(
                f"the checkpoint of step {step} could not be written to {self.folder} "
                f"({reason(error)}): make room there, and the same command goes on from the "
                "last step that was kept"
            )
            # Half a step would keep the room that the disk is short of. Without a file to open not even that is seen.
            with contextlib.suppress(OSError):
                for left in self.folder.glob(f"{step}.orbax-checkpoint-tmp*"):
                    shutil.rmtree(left, ignore_errors=True)
