"""How a sequence lies on a ring of devices: decided before run time from the mesh, the lengths and the mask."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import numpy as np

from posjax.attention.blocks import block_size
from posjax.attention.masks import Causal, Mask, Window, rules
from posjax.attention.meshes import split_axes
from posjax.mesh import CONTEXT


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
    # Part i and its mirror image together see as much as any other such pair, however the mask grows along the text.
    mirror = 2 * devices - 1 - i
    even = np.where(i % 2 == 0, i, mirror)
    odd = np.where(i % 2 == 0, mirror, i)
    return np.stack([even, odd], 1)


def plan_for(q: jax.Array, k: jax.Array, mask: Mask) -> tuple[Plan, np.ndarray]:
    """The plan with the least work for the busiest devices of the current mesh, and its `spans_of`."""
    devices = jax.sharding.get_abstract_mesh().shape[CONTEXT]
    share = q.shape[1] // devices
    layouts = [1]
    if mask.causal and share % 2 == 0:  # Only under a causal mask have the last tokens more to do than the first.
        layouts.append(2)
    best, least = None, np.inf
    for parts in layouts:
        length = share // parts
        block = block_size(length)
        spans = spans_of(mask, devices * parts, length, block)
        work = work_of(spans, places_of(devices, parts)) * block**2
        # Keys from beyond the farthest device that anybody looks at need not travel.
        steps = 1 + int(max(np.flatnonzero(work), default=0))
        batch, heads = split_axes(q, k)
        if work.sum() < least:  # The plainer order is first, and wins where both are alike.
            best, least = (Plan(devices, parts, length, block, steps, batch, heads), spans), work.sum()
    assert best is not None
    return best


def spans_of(mask: Mask, parts: int, length: int, block: int) -> np.ndarray:
    """Which blocks of keys each block of queries may see, by how many parts the queries are ahead of the keys.

    int32 `[2 parts - 1, blocks, 2]`, from the first block to past the last. A block that is seen anywhere along the
    sequence is visited everywhere; what the mask rules out there is masked, though computed.
    """
    unchanging = all(type(rule) in (Causal, Window) for rule in rules(mask))
    blocks = -(-length // block)

    def seen(ahead: int, i: int, j: int) -> bool:
        """Whether block i of queries, `ahead` parts after the keys, may see block j of those."""
        q_first = ahead * length + i * block
        q_last = ahead * length + min((i + 1) * block, length) - 1
        k_first = j * block
        k_last = min((j + 1) * block, length) - 1
        k_parts = range(max(0, -ahead), min(parts, parts - ahead))
        if unchanging:  # One place along the sequence tells of all.
            k_parts = range(1)
        return any(
            mask.may_see(n * length + q_first, n * length + q_last, n * length + k_first, n * length + k_last)
            for n in k_parts
        )

    def span(ahead: int, i: int) -> tuple[int, int]:
        visited = [j for j in range(blocks) if seen(ahead, i, j)]
        if not visited:
            return 0, 0
        return visited[0], visited[-1] + 1

    spans = [[span(ahead, i) for i in range(blocks)] for ahead in range(1 - parts, parts)]
    return np.array(spans, np.int32)


def work_of(spans: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The blocks that the busiest device computes in each step, `[devices]`."""
    devices = len(places)
    by_lead = (spans[..., 1] - spans[..., 0]).sum(1)
    # How far the parts of each device are ahead of those of each other one, in all pairs of their slots.
    ahead = places[:, None, :, None] - places[None, :, None, :]
    each = by_lead[ahead + len(spans) // 2].sum((2, 3))
    device = np.arange(devices)
    return np.array([each[device, (device - step) % devices].max() for step in range(devices)])
