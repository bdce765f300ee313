"""What a run ran on: versions, devices and flags, and how they differ from those it was begun with."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from posjax.attention import Choice

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "posjax")
FLAGS = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
    "jax_random_seed_offset",
    "jax_enable_custom_prng",
    "jax_disable_jit",
    "jax_numpy_dtype_promotion",
    "jax_softmax_custom_jvp",
    "jax_allow_f16_reductions",
    "jax_use_direct_linearize",
    "jax_disable_most_optimizations",
    "jax_optimization_level",
    "jax_exec_time_optimization_effort",
)
"""Settings of jax that change numbers, by another seed, precision, formula or order of the same one."""
VARIABLES = ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "NVIDIA_TF32_OVERRIDE")
"""Settings of compilers and drivers that do so, which jax itself does not know."""


def surroundings(mesh: Mesh, chosen: Choice | None) -> dict[str, Any]:
    """Everything beside the config that numbers may depend on, as plain values.

    `chosen` is the backend of attention; `None` where all of it is linear, which has one alone.
    """
    backend = "linear attention"
    told = "linear attention, which has no other backend"
    if chosen is not None:
        backend = chosen.backend
        told = str(chosen)
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        versions[name] = _version(name)
    flags = {name: os.environ.get(name, "") for name in VARIABLES}
    for name in FLAGS:
        # Of jax as it is now: a config may have set it, whatever the environment says.
        flags[name] = _plain(getattr(jax.config, name, None))
    return {
        "versions": versions,
        "devices": [str(device) for device in mesh.devices.flat],
        "device_kind": jax.devices()[0].device_kind,
        "mesh": dict(mesh.shape),
        "backend": backend,
        "attention": told,
        "commit": commit(),
        "flags": flags,
    }


def changes(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """What differs between two surroundings, as "jax is 0.10.2 there and 0.12.0 here".

    >>> changes({"versions": {"jax": "1"}, "commit": "a"}, {"versions": {"jax": "2"}, "commit": "b"})
    ['jax was 1 and is 2', 'commit was a and is b']
    """
    before = _flat(there)
    now = _flat(here)
    lines = []
    for name in before:
        # What only one of them knows was not kept yet when the other was written: that is no change.
        if name in now and before[name] != now[name]:
            lines.append(f"{name} was {before[name]} and is {now[name]}")
    return lines


def _flat(told: dict[str, Any]) -> dict[str, Any]:
    """What numbers depend on, each under a name of its own."""
    flat: dict[str, Any] = {}
    if "devices" in told:
        # Their number alone: what they are called changes no result.
        flat["devices"] = len(told["devices"])
    for name in ("versions", "flags"):
        flat |= told.get(name) or {}
    if "mesh" in told:
        # Axes of one device split nothing.
        flat["mesh"] = {axis: size for axis, size in told["mesh"].items() if size > 1}
    for name in ("device_kind", "backend", "commit"):
        if name in told:
            flat[name] = told[name]
    return flat


def _plain(setting: Any) -> Any:
    """A setting as a file can keep it: some are of types of jax's own."""
    if isinstance(setting, bool | int | float | str | None):
        return setting
    return str(setting)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def commit() -> str | None:
    """The git commit of this checkout, with a "+" where files differ from it; `None` outside a checkout."""
    here = Path(__file__).resolve().parents[1]
    # Installed, posjax may lie inside a checkout of something else, whose commit says nothing of it.
    if not (here / ".git").exists():
        return None
    # What a hook of another repository calls this in: its variables name that one's commits and files.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=here, env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    # Without git a run is as good: the commit is a help to whoever repeats it.
    try:
        name = git("rev-parse", "HEAD")
        changed = git("status", "--porcelain")
    except (OSError, subprocess.CalledProcessError):
        return None
    if changed:
        name += "+"
    return name
