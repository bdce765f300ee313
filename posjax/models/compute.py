"""How an architecture is computed: what changes speed, memory and rounding, and no formula."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

from posjax import attention
from posjax.errors import InputError
from posjax.fields import brief, check_fields
from posjax.models.architecture import Architecture
from posjax.models.parts import Attention, dims, key_value_heads


@dataclass(frozen=True)
class Compute:
    """The dtype of the computation, what the backward pass computes again, and attention's backend.

    Parameters, softmax and angles stay float32. `remat`: "none" keeps all that the backward pass needs; "products" the
    results of matrix products alone; "all" nothing but each layer's input. `scan`: one turn of the layers' pattern is
    compiled, and looped over; recomputing does so in any case.

    Errors: `InputError` for an unknown backend.
    Source: Chen et al. 2016, arXiv:1604.06174 (recomputing).
    """

    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    remat: Literal["none", "products", "all"] = "none"
    scan: bool = False
    backend: str = "auto"

    __repr__ = brief

    @property
    def loops(self) -> bool:
        """Whether layers that are alike are a loop."""
        return self.scan or self.remat != "none"

    def __post_init__(self) -> None:
        check_fields(self)
        # Said here and not in the first layer's call, which comes after the data is read.
        attention.known(self.backend)


COMPUTE = Compute()


def explain(architecture: Architecture, length: int, compute: Compute = COMPUTE) -> attention.Choice:
    """The backend of a full pass over that many tokens, and why; of the first attention, where layers differ.

    Errors: `InputError` for an architecture of linear attention alone, which has no backends.

    >>> from posjax.models.presets import decoder
    >>> explain(decoder(), 64, Compute(backend="reference")).backend
    'reference'
    """
    # What comes first stands for the others: a report has room for one.
    softmax = [a for a in architecture.main_stack.attentions() if isinstance(a, Attention)]
    if not softmax:
        raise InputError(
            "the architecture has linear attention alone, which has no backend and no weights to look at: give a layer "
            "an Attention"
        )
    first = softmax[0]
    sizes = dims(first, architecture.width)
    dtype = jnp.dtype(compute.dtype)
    # Shapes are all that the choice looks at: nothing of a long pass is allocated.
    q = jax.ShapeDtypeStruct((1, length, sizes.heads, sizes.head_size), dtype)
    k = jax.ShapeDtypeStruct((1, length, key_value_heads(first), sizes.head_size), dtype)
    return attention.explain(q, k, encoding=first.encoding, mask=first.mask, backend=compute.backend)
