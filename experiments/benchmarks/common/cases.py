"""What the attention benchmarks measure: one encoding at one length, with the same inputs for every peer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.common.timing import Timed
from posjax.encodings import Alibi, Dims, Encoding, Fire, Head, Kerple, NoPE, Rope, Sandwich, T5Bias
from posjax.errors import InputError

ENCODINGS: dict[str, Encoding] = {
    "NoPE": NoPE(),
    "Rope": Rope(),
    "Alibi": Alibi(),
    "T5Bias": T5Bias(),
    "Kerple": Kerple(),
    "Sandwich": Sandwich(),
    "Fire": Fire(),
}
"""One of each kind: no bias, a rotation, and biases that are fixed, learned by distance and learned by pair."""

Arrays = dict[str, np.ndarray]
GIB = 2**30


class Unable(Exception):
    """A peer that cannot do a case; the message is the reason that its row gives."""


@dataclass(frozen=True)
class Case:
    """Causal self-attention of `batch` rows of `length` tokens, with the gradients of everything if `backward`.

    `compared`: how many places of the first row are compared between peers; all of all rows without it.
    """

    name: str
    encoding: Encoding
    length: int
    backward: bool
    heads: int = 4
    head_size: int = 64
    batch: int = 1
    dtype: str = "float32"
    device: str = "cpu"
    compared: int | None = None

    @property
    def dims(self) -> Dims:
        return Dims(self.heads, self.head_size, self.heads * self.head_size)

    @cached_property
    def params(self) -> Arrays:
        """The encoding's learned parameters."""
        # As numpy arrays, which torch's peers take as they are.
        made = self.encoding.init(jax.random.key(1), self.dims)
        return {name: np.asarray(x) for name, x in made.items()}

    @property
    def learned(self) -> bool:
        return bool(self.params)

    @cached_property
    def inputs(self) -> Arrays:
        """Float32 `[B, S, N, H]`: queries, keys, values, and the output's cotangent."""
        # By numpy, so that every framework is given the same numbers.
        rng = np.random.default_rng(0)
        shape = (self.batch, self.length, self.heads, self.head_size)
        return {name: rng.standard_normal(shape, np.float32) for name in ("q", "k", "v", "d_out")}

    @property
    def flops(self) -> float:
        """The multiplications and additions that a causal mask leaves: two products forward, five more backward."""
        # Two products of 2 S² H each; the mask leaves half of the pairs.
        forward = 2 * self.batch * self.heads * self.length**2 * self.head_size
        if self.backward:
            return forward * 3.5
        return float(forward)

    @property
    def square(self) -> float:
        """GiB of one float32 `[B, N, S, S]` array."""
        return 4 * self.batch * self.heads * self.length**2 / GIB

    def part(self, x_BSNH: Any) -> Any:
        """What is compared of an array `[B, S, N, H]`."""
        if self.compared is None:
            return x_BSNH
        # Spread over the whole row, so that each of a kernel's blocks is seen.
        step = max(1, self.length // self.compared)
        return x_BSNH[:1, ::step]


@dataclass(frozen=True)
class Ready:
    """A peer prepared for a case. `numbers` turns a result into host arrays: `out`, `dq`, `dk`, `dv`, and `d NAME` for
    each parameter that is learned.

    `halved`: whether it skips the half of the pairs that a causal mask rules out. `note`: what else a row should say.
    """

    call: Timed
    halved: bool
    numbers: Callable[[Any], Arrays]
    note: str = ""


def check_names(names: tuple[str, ...]) -> None:
    """Errors: `InputError` for a name that is none of `ENCODINGS`."""
    for name in names:
        if name not in ENCODINGS:
            raise InputError(f"there is no encoding {name!r} here: take some of {', '.join(ENCODINGS)}")


def error(got: Mapping[str, np.ndarray], want: Mapping[str, np.ndarray]) -> float:
    """The worst difference of any array both have, relative to the largest entry of the wanted one.

    The gradients of parameters share one scale: that of a shift of all logits is 0 but for rounding.
    """
    scales = {name: float(np.abs(x).max()) for name, x in want.items()}
    of_params = [scale for name, scale in scales.items() if _is_param(name)]
    params_scale = max(of_params, default=0.0)
    worst = 0.0
    # A peer that takes no gradient of parameters is compared in all the rest.
    for name in got.keys() & want.keys():
        scale = scales[name]
        if _is_param(name):
            scale = params_scale
        # Where all that is wanted is 0 there is no scale, and the difference stands as it is.
        difference = float(np.abs(got[name] - want[name]).max()) / (scale or 1.0)
        # Of NaN and a number `max` may return the number, and what is broken would agree.
        if not np.isfinite(difference):
            difference = float("inf")
        worst = max(worst, difference)
    return worst


def _is_param(name: str) -> bool:
    return name.startswith("d ")


def tolerance(dtype: str) -> float:
    """How far from ours a peer may be: rounding, and where a bucket's border falls for others."""
    if dtype == "float32":
        return 1e-3
    return 3e-2


def distances(length: int) -> np.ndarray:
    """`q - k` where a causal mask allows the pair, else 0: int32 `[S, S]`."""
    # Where the mask forbids a pair, any distance would do. 0 is one that every bias knows.
    at_S = np.arange(length, dtype=np.int32)
    return np.maximum(at_S[:, None] - at_S[None, :], 0)


def by_distance(case: Case) -> np.ndarray:
    """A fixed relative bias at the distances 0 .. S - 1: float32 `[N, S]`."""
    encoding = case.encoding
    params = encoding.join(case.params, encoding.constants(case.dims))
    # Queries at 0 .. S - 1 and one key at 0: a query's place is then its distance.
    q_positions = jnp.arange(case.length, dtype=jnp.int32)
    k_positions = jnp.zeros((1,), jnp.int32)
    rows = []
    # A head at a time, as that is what encodings give the bias of.
    for n in range(case.heads):
        bias_TS = encoding.bias(params, q_positions, k_positions, Head(n, case.heads))
        rows.append(np.asarray(bias_TS[:, 0], np.float32))
    return np.stack(rows)
