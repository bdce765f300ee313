"""Parameters on devices, each read in pieces by a rule, so that little more than the weights is ever held."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import jax
import numpy as np
from jax.sharding import SingleDeviceSharding

from posjax.interop.rules import Weight
from posjax.interop.sources import Source, spans

PIECE = 4 * 2**20
"""Bytes that are read at a time."""
ALIGNMENT = 64
"""At multiples of so many bytes an array has to begin for JAX on a CPU to take it over without a copy."""
Stretches = tuple[tuple[int, int], ...]


def place(source: Source, rule: Weight, wanted: jax.ShapeDtypeStruct) -> jax.Array:
    """A parameter of ours with its shape, type and sharding; each device is given its own part, which alone is read.

    Without a sharding all of it goes to the first device. Errors: those of the source.
    """
    sharding = wanted.sharding
    if sharding is None:
        sharding = SingleDeviceSharding(jax.devices()[0])
    devices: dict[Stretches, list[Any]] = defaultdict(list)
    for device, index in sharding.addressable_devices_indices_map(wanted.shape).items():
        devices[spans(wanted.shape, index or ())].append(device)
    placed = []
    for stretches, sharing in devices.items():
        part = _part(source, rule, wanted, stretches)
        # One after another: were the next part read while this one is on its way, the host would hold all of them.
        placed += [jax.block_until_ready(jax.device_put(part, device)) for device in sharing]
    return jax.make_array_from_single_device_arrays(wanted.shape, sharding, placed)


def _part(source: Source, rule: Weight, wanted: jax.ShapeDtypeStruct, stretches: Stretches) -> np.ndarray:
    """A device's part, piece by piece: the largest tensor of a model needs no second one of its size beside it."""
    part = _aligned(tuple(stop - start for start, stop in stretches), np.dtype(wanted.dtype))
    axis = rule.slowest
    first, last = stretches[axis]
    step = max(1, (last - first) * PIECE // part.nbytes)
    index = [slice(start, stop) for start, stop in stretches]
    inside = [slice(None)] * len(index)
    for start in range(first, last, step):
        stop = min(start + step, last)
        index[axis] = slice(start, stop)
        inside[axis] = slice(start - first, stop - first)
        part[tuple(inside)] = rule.read(source, wanted.shape, tuple(index))
    return part


def _aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array not yet filled, where JAX can take it over."""
    size = math.prod(shape) * dtype.itemsize
    room = np.empty(size + ALIGNMENT, np.uint8)
    offset = -room.ctypes.data % ALIGNMENT
    return room[offset : offset + size].view(dtype).reshape(shape)
