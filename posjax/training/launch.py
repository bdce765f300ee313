"""Many processes of one program: how they find each other, and what they agree on.

Each process has some of the devices, and a mesh spans them all. Clusters start the processes (Slurm, Kubernetes, TPU
pods, `mpirun`), and `start` makes them one: it knows where it is by what the cluster says, or by a coordinator that is
given.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax._src import distributed
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from posjax.errors import InputError
from posjax.fields import check_fields
from posjax.files import owned

HEARTBEAT = 60
"""After how many seconds without a sign of one process the others end."""
PATIENCE = 7 * 24 * 3600
"""For how many seconds processes wait for one that works alone, as while it evaluates."""

_MEETINGS = itertools.count()


@dataclass(frozen=True)
class Processes:
    """Where the processes of a training meet: `coordinator` is `host:port` of the first, `index` counts from 0.

    Without any of them what the cluster says counts: Slurm, Open MPI, Kubernetes and Cloud TPU say it.

    Errors: `InputError` where some of the three are given and others not, or an index lies outside.
    """

    coordinator: str | None = None
    count: int | None = None
    index: int | None = None
    heartbeat: int = HEARTBEAT

    def __post_init__(self) -> None:
        check_fields(self, positive=("heartbeat",))
        given = [value is not None for value in (self.coordinator, self.count, self.index)]
        if any(given) and not all(given):
            raise InputError(
                "processes need all of coordinator=host:port, count and index, or none of them where a cluster says so"
            )
        if self.count is not None and self.index is not None and not 0 <= self.index < self.count:
            raise InputError(f"process {self.index} of {self.count}: needed is an index of 0 .. {self.count - 1}")


def start(processes: Processes, say: Callable[[str], None] = print) -> None:
    """Makes this one of many processes; before anything else of jax is used.

    Says how many devices each has. Errors: `InputError` where nothing says which process this is, or the others do not
    come.
    """
    # It would take SIGTERM for itself, and a process between two trainings would not hear of it.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            processes.coordinator,
            processes.count,
            processes.index,
            heartbeat_timeout_seconds=processes.heartbeat,
            # The first evaluates alone, and the others stay until it is done.
            shutdown_timeout_seconds=PATIENCE,
        )
    except ValueError as error:
        raise InputError(
            f"nothing says which process this is ({_line(error)}): start it by the cluster's own launcher, or give "
            "--coordinator host:port, --processes and --process"
        ) from error
    except RuntimeError as error:
        raise InputError(
            f"the processes did not find each other ({_line(error)}): start as many as were said, and let all reach "
            "the coordinator's port"
        ) from error
    say(
        f"process {jax.process_index()} of {jax.process_count()}: {jax.local_device_count()} devices here, "
        f"{jax.device_count()} in all"
    )


def stop() -> None:
    """Leaves the others, once all are done."""
    jax.distributed.shutdown()


def part() -> None:
    """Leaves after an error, which most of them make alike: the first gives the others a moment to say so too.

    Where they meet, the first takes it along as it ends, and they would be ended by that.
    """
    client = distributed.global_state.client
    if client is not None:
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            client.wait_at_barrier("posjax: an error", 5000)


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def first() -> bool:
    """Whether this is the process that writes what is written once: metrics, manifests, results."""
    return jax.process_index() == 0


def owned_by_first(folder: Path) -> contextlib.AbstractContextManager[None]:
    """The folder as the one that writes to it, as `files.owned`: of many processes the first, for all."""
    if first():
        return owned(folder)
    return contextlib.nullcontext()


def meet(name: str) -> None:
    """Waits until every process is here, as long as it takes."""
    if jax.process_count() == 1:
        return
    # By the coordinator and not by the devices: one process may be computing alone for hours.
    client = distributed.global_state.client
    assert client is not None
    # No place to meet may be used twice; all count alike.
    client.wait_at_barrier(f"posjax {next(_MEETINGS)}: {name}", PATIENCE * 1000)


def flags(mesh: Mesh, flag: bool) -> jax.Array:
    """What this process has seen, on each of its devices, `[devices]`: a step takes it along, and says if any has.

    In a program of its own it would run beside the step, and on CPUs the processes mix up what belongs to which.
    """
    everywhere = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
    own = np.array([flag])
    return jax.make_array_from_callback((mesh.size,), everywhere, lambda _: own)


def any_of(flag: bool) -> bool:
    """Whether any process has seen what it says; all ask together, where no step runs."""
    if jax.process_count() == 1:
        return flag
    return bool(multihost_utils.process_allgather(np.array(flag)).any())


def gathered(params: Any) -> Any:
    """Parameters that lie on the devices of many processes, whole in this one's memory; others as they are."""
    if jax.process_count() == 1:
        return params
    return multihost_utils.process_allgather(params, tiled=True)


def same(number: int, what: str) -> int:
    """The number, which every process must have found alike. Errors: `InputError`."""
    if jax.process_count() == 1:
        return number
    found = multihost_utils.process_allgather(np.int32(number))
    if len(set(found.tolist())) > 1:
        raise InputError(
            f"the processes found different {what}: {found.tolist()}; let all work in one folder that they share"
        )
    return number
