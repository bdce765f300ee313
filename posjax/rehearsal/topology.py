"""Devices that are not there: those of a TPU topology, which only compile, or simulated ones of this host's CPU."""

from __future__ import annotations

import importlib.util
import os
import re
from typing import Any

import jax
from jax.experimental import topologies

from posjax.errors import InputError

SIMULATED = re.compile(r"cpu:([1-9]\d{0,3})")
SETTINGS = {
    # Else libtpu asks the network which TPU this is, and tells at length that it is none.
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    # One process alone may use a TPU; any number may compile for one.
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
"""What libtpu is told by the environment, where that does not say otherwise."""
EXAMPLES = "v5e:16x16, v5p:4x4x8 or v6e:16x16"


def devices(topology: str) -> list[Any]:
    """The devices of a topology such as `v5e:16x16`; by `cpu:8` eight of this host's CPU.

    Must be called before JAX has started its backends, of which it takes the CPU alone: whatever accelerators this host
    has stay free.

    Errors: `InputError` without libtpu, for a topology that it does not know, and where JAX has started.

    >>> devices("cpu")
    Traceback (most recent call last):
    posjax.errors.InputError: the topology 'cpu' has no size: give one such as v5e:16x16, v5p:4x4x8 or v6e:16x16, or ...
    """
    if ":" not in topology:
        raise InputError(f"the topology {topology!r} has no size: give one such as {EXAMPLES}, or cpu:8")
    # Whatever else has a colon is for libtpu to know: new chips have new names.
    simulated = SIMULATED.fullmatch(topology)
    if simulated is not None:
        return _simulated(int(simulated[1]))
    if importlib.util.find_spec("libtpu") is None:
        raise InputError(
            "libtpu, which compiles for TPUs, is not installed: pip install 'posjax[tpu]', on any machine; or rehearse "
            "on simulated devices, --topology cpu:8"
        )
    return _tpu(topology)


def _simulated(count: int) -> list[Any]:
    try:
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", count)
        found = jax.devices()
    except RuntimeError as error:
        raise InputError("JAX has started already: simulated devices are made in a process of its own") from error
    # A flag of XLA's may have asked for another number.
    if len(found) < count:
        raise InputError(f"{count} simulated devices were asked for and {len(found)} are there: unset XLA_FLAGS")
    return found[:count]


def _tpu(topology: str) -> list[Any]:
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        jax.config.update("jax_platforms", "cpu")
        return list(topologies.get_topology_desc(platform="tpu", topology_name=topology).devices)
    except (RuntimeError, ValueError) as error:
        why = str(error).partition("\n")[0]
        raise InputError(f"there is no topology {topology!r} ({why}): give one such as {EXAMPLES}") from error
