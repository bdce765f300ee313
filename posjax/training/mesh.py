"""Where a step runs: a named mesh of devices, and how its arrays lie on it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from posjax.data import Batches
from posjax.errors import InputError
from posjax.fields import check_fields
from posjax.mesh import ACTIVATIONS, AXES, Table, spec

BATCH_LETTERS = {
    "inputs": "BT",
    "targets": "BT",
    "weights": "BT",
    "positions": "BT",
    "segments": "BT",
    "source": "BS",
    "real": "BS",
    "classes": "B",
}
"""The axes of what a batch may hold."""


@dataclass(frozen=True)
class Devices:
    """The mesh: how many devices lie along each of its axes. `data=None` takes as many as are left.

    `data` and `fsdp` split the rows of a batch, `fsdp` the parameters too, `tensor` the heads, feed-forward channels
    and the vocabulary, `context` the tokens of a row. `table` says it by letter, and may be given otherwise.

    Errors: `InputError`, on `mesh`, for a mesh that is not all of the devices of many processes or more than there
    are, and for a batch or a length that does not divide.
    """

    data: int | None = None
    fsdp: int = 1
    tensor: int = 1
    context: int = 1
    table: Table = Table()  # noqa: RUF009

    def __post_init__(self) -> None:
        check_fields(self)

    def mesh(self, batch: int, length: int | None = None, devices: list[Any] | None = None) -> Mesh:
        """The mesh for batches of that many rows, of that many tokens; of all devices there are, or of those given."""
        if devices is None:
            devices = jax.devices()
        shape = self._shape(len(devices))
        wanted = math.prod(shape)
        if jax.process_count() > 1 and wanted != len(devices):
            raise InputError(
                f"the mesh {self._told(shape)} takes {wanted} devices, and the {jax.process_count()} processes have "
                f"{len(devices)} together: all are needed; set devices.data, fsdp, tensor and context to a product of "
                f"{len(devices)}, or start fewer processes"
            )
        rows = shape[0] * shape[1]
        if batch % rows:
            raise InputError(
                f"a batch of {batch} rows does not divide among {rows} devices: make the batch a "
                "multiple, or set devices.data and devices.fsdp to divisors"
            )
        if length is not None and length % self.context:
            raise InputError(
                f"{length} tokens do not divide among {self.context} devices of the context axis: make the length a "
                "multiple, or set devices.context to a divisor"
            )
        # The shape is positional, since its keyword has two names across the jax versions in use.
        axis_types = (AxisType.Auto,) * len(AXES)
        return jax.make_mesh(shape, AXES, axis_types, devices=devices[:wanted])

    def _shape(self, there: int) -> tuple[int, int, int, int]:
        """The size of each axis. Errors: `InputError` where there are not as many devices."""
        for name in ("fsdp", "tensor", "context"):
            if getattr(self, name) < 1:
                raise InputError(f"the mesh has {name}={getattr(self, name)}: needed is 1 or more")
        others = self.fsdp * self.tensor * self.context
        most = there // others
        data = self.data
        if data is None:
            data = most
        if not 1 <= data <= most:
            along = f"{data} devices on its data axis"
            if others > 1:
                along += f" and {others} on the others"
            limit = f"set devices.data to 1 .. {most}"
            if most < 1:
                limit = f"lower devices.fsdp, tensor or context to a product of {there} at most"
            raise InputError(f"the mesh asks for {along} and {there} are there: {limit}")
        return data, self.fsdp, self.tensor, self.context

    def _told(self, shape: tuple[int, ...]) -> str:
        return " x ".join(f"{name} {size}" for name, size in zip(AXES, shape, strict=True))


@dataclass(frozen=True)
class Places:
    """A mesh, and the table by which parameters lie on it."""

    mesh: Mesh
    table: Table = Table()  # noqa: RUF009

    def of(self, state: Any) -> Any:
        """The shardings of a tree of `nnx` variables and other arrays, for `jax.jit`.

        A variable lies by its letters. So does what an optimiser holds of it: moments are variables of its kind.
        """

        def sharding(part: Any) -> Any:
            # An optimiser of some parameters alone keeps empty variables for the others, which lie nowhere.
            if not jax.tree.leaves(part):
                return part
            return NamedSharding(self.mesh, self._spec(part))

        return jax.tree.map(sharding, state, is_leaf=_is_variable)

    def _spec(self, part: Any) -> PartitionSpec:
        letters = None
        if _is_variable(part):
            letters = part.get_metadata().get("letters")
            (part,) = jax.tree.leaves(part)
        # Some optimisers keep sums over an axis of a parameter, under its letters.
        if letters is None or len(letters) != len(part.shape):
            return PartitionSpec()
        return self.table.spec(letters, part.shape, self.mesh.shape)


def _is_variable(part: Any) -> bool:
    return isinstance(part, nnx.Variable)


def shared(mesh: Mesh) -> NamedSharding:
    """The same on every device."""
    return NamedSharding(mesh, PartitionSpec())


def sharding_of(name: str, shape: tuple[int, ...], mesh: Mesh) -> NamedSharding:
    """Where an array of a batch lies."""
    return NamedSharding(mesh, spec(BATCH_LETTERS[name], shape, ACTIVATIONS, mesh.shape))


def place(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """A batch of host arrays, each part on the devices that compute it."""
    placed = {}
    for name, rows in batch.items():
        # Each device is given its own part and no other: the whole batch never lies on one of them.
        sharding = sharding_of(name, rows.shape, mesh)
        placed[name] = jax.make_array_from_callback(rows.shape, sharding, rows.__getitem__)
    return placed


def load(batches: Batches, step: int, mesh: Mesh) -> dict[str, jax.Array]:
    """Batch number `step`, of which this process reads the rows that its own devices hold, and no others."""
    first, end = _own_rows(batches.size, mesh)
    rows = batches.rows(step, first, end)
    placed = {}
    for name, own in rows.items():
        shape = (batches.size, *own.shape[1:])

        def part(index: Any, own: np.ndarray = own) -> np.ndarray:
            start, stop, _ = index[0].indices(batches.size)
            return own[(slice(start - first, stop - first), *index[1:])]

        placed[name] = jax.make_array_from_callback(shape, sharding_of(name, shape, mesh), part)
    return placed


def _own_rows(size: int, mesh: Mesh) -> tuple[int, int]:
    """From which row on, and up to which, the devices of this process hold a batch."""
    held = sharding_of("classes", (size,), mesh).addressable_devices_indices_map((size,))
    ranges = [index[0].indices(size) for index in held.values() if index is not None]
    return min(start for start, _, _ in ranges), max(stop for _, stop, _ in ranges)
