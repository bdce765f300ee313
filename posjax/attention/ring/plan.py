"""How a sequence lies on a ring of devices: decided before run time from the mesh, the lengths and the mask."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import numpy as np

from posjax.attention.blocks import block_size
from posjax.attention.masks import Causal, Mask, Window, rules
from posjax.attention.meshes import CONTEXT, split_axes


@dataclass(frozen=True)
class Plan:
    """How a sequence lies on the ring, and how far its keys travel.

    Each of `devices` holds `parts` parts (2 in the balanced order, else 1) of `length` tokens, computed in blocks of
    `block`, and sees those of the `steps` devices up to itself. `batch` and `heads` are the mesh axes that split these.
    """

    devices: int
    parts: int
    length: int
    block: int
    steps: int
    batch: tuple[str, ...] = ()
    heads: str | None = None

    @property
    def blocks(self) -> int:
        """Blocks of a part; the last may be padded."""
        return -(-self.length // self.block)

    @property
    def padding(self) -> int:
        """What a part's last block lacks."""
        return self.blocks * self.block - self.length

    @property
    def places(self) -> np.ndarray:
        """Which parts of the sequence a device holds, int32 `[devices, parts]`."""
        return places_of(self.devices, self.parts)


def places_of(devices: int, parts: int) -> np.ndarray:
    """A device gets one part with an even number and one with an odd one, in this order: so two permutations do."""
    i = np.arange(devices, dtype=np.int32)
    if parts == 1:
        return i[:, None]
    mirror = 2 * devices - 1 - i
    return np.stack([np.where(i % 2 == 0, i, mirror), np.where(i % 2 == 0, mirror, i)], 1)


def plan_for(q: jax.Array, k: jax.Array, mask: Mask) -> tuple[Plan, np.ndarray]:
    """The plan with the least work for the busiest devices of the current mesh, and its `spans_of`."""
    devices = jax.sharding.get_abstract_mesh().shape[CONTEXT]
    share = q.shape[1] // devices
    plans = []
    for parts in (1, 2) if mask.causal and share % 2 == 0 else (1,):
        length = share // parts
        block = block_size(length)
        spans = spans_of(mask, devices * parts, length, block)
        work = work_of(spans, places_of(devices, parts)) * block**2
        steps = 1 + max(np.flatnonzero(work), default=0)
        plans.append((work.sum(), Plan(devices, parts, length, block, int(steps), *split_axes(q, k)), spans))
    return min(plans, key=lambda plan: plan[0])[1:]


def spans_of(mask: Mask, parts: int, length: int, block: int) -> np.ndarray:
    """Which blocks of keys each block of queries may see, by how many parts the queries are ahead of the keys.

    int32 `[2 parts - 1, blocks, 2]`, from the first block to past the last. Only rules that do not change along the
    sequence can tell; what others rule out is masked, though computed.
    """
    known = [rule for rule in rules(mask) if type(rule) in (Causal, Window)]
    blocks = -(-length // block)

    def seen(ahead: int, i: int, j: int) -> bool:
        first, last = (ahead * length + n for n in (i * block, min((i + 1) * block, length) - 1))
        return all(rule.may_see(first, last, j * block, min((j + 1) * block, length) - 1) for rule in known)

    def span(ahead: int, i: int) -> tuple[int, int]:
        low = next((j for j in range(blocks) if seen(ahead, i, j)), None)
        return (0, 0) if low is None else (low, 1 + next(j for j in reversed(range(blocks)) if seen(ahead, i, j)))

    return np.array([[span(ahead, i) for i in range(blocks)] for ahead in range(1 - parts, parts)], np.int32)


def work_of(spans: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The blocks that the busiest device computes in each step, `[devices]`."""
    blocks, devices = (spans[..., 1] - spans[..., 0]).sum(1), len(places)
    ahead = places[:, None, :, None] - places[None, :, None, :] + len(spans) // 2
    each = blocks[ahead].sum((2, 3))
    i = np.arange(devices)
    return np.array([each[i, (i - step) % devices].max() for step in range(devices)])
