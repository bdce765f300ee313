"""Where a step runs: a named mesh of devices, and how its arrays lie on it."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from posjax.errors import InputError
from posjax.fields import check_fields


@dataclass(frozen=True)
class Devices:
    """The mesh: `data` devices share each batch, every one with all parameters. `None` takes all devices there are.

    Errors: `InputError`, on `mesh`, for more devices than the machine has, or a batch that does not divide.
    """

    data: int | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    def mesh(self, batch: int) -> Mesh:
        """The mesh for batches of that many rows."""
        if jax.process_count() > 1:
            raise InputError(
                f"this is process {jax.process_index()} of {jax.process_count()}: posjax trains in one "
                "process, on all devices that it sees; start one alone"
            )
        there = jax.device_count()
        wanted = self.data
        if wanted is None:
            wanted = there
        if not 1 <= wanted <= there:
            raise InputError(
                f"the mesh asks for {wanted} devices on its data axis and {there} are there: set "
                f"devices.data to 1 .. {there}"
            )
        if batch % wanted:
            raise InputError(
                f"a batch of {batch} rows does not divide among {wanted} devices: make the batch a "
                "multiple, or set devices.data to a divisor"
            )
        # The shape is positional, since its keyword has two names across the jax versions in use.
        axis_types = (AxisType.Auto,)
        return jax.make_mesh((wanted,), ("data",), axis_types, devices=jax.devices()[:wanted])


def shared(mesh: Mesh) -> NamedSharding:
    """The same on every device."""
    return NamedSharding(mesh, PartitionSpec())


def by_row(mesh: Mesh) -> NamedSharding:
    """The first axis split over the data axis."""
    return NamedSharding(mesh, PartitionSpec("data"))


def place(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """A batch of host arrays, its rows on the devices that compute them."""
    sharding = by_row(mesh)
    placed = {}
    for name, rows in batch.items():
        # Each device is given its own rows and no others: the whole batch never lies on one of them.
        placed[name] = jax.make_array_from_callback(rows.shape, sharding, rows.__getitem__)
    return placed
