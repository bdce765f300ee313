"""The chips that a step can be rehearsed for, and what they can do at best."""

from __future__ import annotations

from dataclasses import dataclass

from posjax.training.speed import PEAKS


@dataclass(frozen=True)
class Chip:
    """One chip: operations and bytes are per second.

    `kind` is what JAX calls it. `flops`: products of bfloat16. `memory`: bytes of its high-bandwidth memory, less what
    the runtime keeps. `link`: bytes that one link to a neighbour takes, one way.
    """

    name: str
    kind: str
    flops: float
    memory: float
    bandwidth: float
    link: float


# As the pages of cloud.google.com/tpu/docs and Austin et al. 2025, "How to Scale Your Model", part 2, are commonly
# quoted: neither was at hand to be compared. Memory is what is left of 16, 95 and 32 GiB.
CHIPS = (
    Chip("v5e", "TPU v5 lite", PEAKS["TPU v5 lite"], 15.75 * 2**30, 819e9, 45e9),
    Chip("v5p", "TPU v5", PEAKS["TPU v5"], 94.75 * 2**30, 2765e9, 90e9),
    Chip("v6e", "TPU v6 lite", PEAKS["TPU v6 lite"], 31.25 * 2**30, 1640e9, 90e9),
)


def chip_of(kind: str) -> Chip | None:
    """The chip that JAX calls so; `None` for one that is not in the table.

    >>> chip_of("TPU v5 lite").name
    'v5e'
    """
    return next((chip for chip in CHIPS if chip.kind == kind), None)
