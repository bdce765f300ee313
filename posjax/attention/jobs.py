"""What a call of attention asks for, as far as the choice of a backend needs to know it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax

from posjax.attention.biases import Bias, BiasKind, kind_of
from posjax.attention.masks import Causal, Mask, Window, rules
from posjax.attention.meshes import varies_over
from posjax.attention.scoring import PLAIN, Scoring
from posjax.axes import Shaped
from posjax.positions import Index


@dataclass(frozen=True)
class Job:
    """One call: where it runs, its sizes, its bias and its mask.

    `bias`: the kind of the described bias: "none"; "slope", minus a slope times the distance; "distance", any other
    function of it; "position", a bias of explicit positions; "content", a score of queries and keys. `mask`: the names
    of its rules. `window`: the smallest static window, -1 where one is known at run time only. `q_offset`: the index of
    the first query among the keys, `None` at run time only. `with_lse`: whether the log-sum-exp is asked for, with its
    gradient. `context`: over how many devices the mesh splits sequences. `varying`: whether it is inside a
    `jax.shard_map` that checks what varies. `value_size`: the head size of values, `None` where it is that of queries.
    `scale`, `softcap`: those of the call, `None` without. `dropout`: whether weights are dropped.
    """

    platform: str
    dtype: str
    queries: int
    keys: int
    heads: int
    key_heads: int
    head_size: int
    bias: BiasKind = "none"
    mask: tuple[str, ...] = ("Causal",)
    causal: bool = True
    window: int | None = None
    q_offset: int | None = 0
    with_lse: bool = False
    device: str = ""
    context: int = 1
    varying: bool = False
    value_size: int | None = None
    scale: float | None = None
    softcap: float | None = None
    dropout: bool = False

    @property
    def square(self) -> bool:
        """Whether queries and keys are the same tokens."""
        return self.queries == self.keys and self.q_offset == 0

    @property
    def knows_mask(self) -> bool:
        """Whether every rule of the mask is one of posjax."""
        return set(self.mask) <= {"Causal", "Window", "Segments"}

    @property
    def beyond_kernels(self) -> str | None:
        """What no kernel can do, as a reason; `None` where there is no such thing."""
        if self.softcap is not None:
            return "it has no soft cap"
        if self.dropout:
            return "it drops no attention weights"
        if self.value_size in (None, self.head_size):
            return None
        return f"it takes values of the head size of queries, {self.head_size}, and these have {self.value_size}"


def job(
    q: Shaped,
    k: Shaped,
    bias: Bias,
    mask: Mask,
    q_offset: Index,
    with_lse: bool = False,
    value_size: int | None = None,
    scoring: Scoring = PLAIN,
) -> Job:
    """The job of one call, from arrays or their shapes. `q [B, T, N, H]`, `k [B, S, K, H]`."""
    every = rules(mask)
    platform, device = here()
    # A number that is traced decides nothing: compiled code serves whatever it turns out to be.
    known_offset = None
    if isinstance(q_offset, int):
        known_offset = q_offset
    return Job(
        platform=platform,
        dtype=str(q.dtype),
        queries=q.shape[1],
        keys=k.shape[1],
        heads=q.shape[2],
        key_heads=k.shape[2],
        head_size=q.shape[3],
        bias=kind_of(bias),
        mask=tuple(map(_name, every)),
        causal=any(isinstance(rule, Causal) for rule in every),
        window=_smallest_window(every),
        q_offset=known_offset,
        with_lse=with_lse,
        device=device,
        context=context(),
        varying=bool(varies_over((q, k))),
        value_size=value_size,
        scale=scoring.scale,
        softcap=scoring.softcap,
        dropout=scoring.dropping is not None,
    )


def _name(rule: Mask) -> str:
    """A rule's name, by which a backend knows it; a user's class says whose it is, lest it be taken for ours."""
    kind = type(rule)
    if kind.__module__.partition(".")[0] == "posjax":
        return kind.__name__
    return f"{kind.__module__}.{kind.__qualname__}"


def _smallest_window(every: Sequence[Mask]) -> int | None:
    """The smallest window of a mask; `None` without one, and -1 where one of them is known at run time only."""
    sizes = [rule.size for rule in every if type(rule) is Window]
    if not sizes:
        return None
    # One that is traced may be the smallest, so the others decide nothing.
    static = [size for size in sizes if isinstance(size, int)]
    if len(static) < len(sizes):
        return -1
    return min(static)


def here() -> tuple[str, str]:
    """The platform that computations run on, and the kind of its devices: the current mesh's, else the default."""
    # A mesh may be of devices that are not there, for which a step is compiled ahead of time.
    meant = jax.sharding.get_abstract_mesh().abstract_device
    if meant is not None:
        return meant.platform, meant.device_kind
    # The default device may be set, as a device or by the name of a platform.
    device: Any = jax.config.jax_default_device or jax.devices()[0]  # type: ignore[attr-defined]
    if isinstance(device, str):
        device = jax.devices(device)[0]
    return device.platform, device.device_kind


def context() -> int:
    """The size of the current mesh's axis `context`, 1 where there is none."""
    return dict(jax.sharding.get_abstract_mesh().shape).get("context", 1)
