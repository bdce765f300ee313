"""What the random laws draw: encodings and their compositions, sizes, positions, documents and masks."""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

import posjax
from posjax import Causal, Dims, Full, Segments, Window, by_head, chain
from posjax.encodings import ByHead, Encoding, LogN
from posjax.encodings.traits import acts_on_all_heads, scores_content
from tests.cases import OF_ANY_SIZE, SINGLE

real = partial(st.floats, allow_nan=False, allow_subnormal=False)
factors, bases, lengths = real(1.0, 64.0), real(1.5, 1e7), st.integers(2, 5000)
layouts = st.sampled_from(["split", "interleaved"])
schedules = st.one_of(
    st.just(posjax.Plain()),
    st.builds(posjax.Interpolation, factors),
    st.builds(posjax.NTK, factors),
    st.builds(posjax.DynamicNTK, factors, st.integers(2, 9)),
    st.builds(posjax.NTKByParts, factors, lengths, real(8.0, 64.0), real(0.5, 4.0), st.booleans()),
    st.builds(posjax.Yarn, factors, lengths, attention_factor=st.none() | real(0.5, 2.0)),
    st.builds(posjax.Llama3, factors, lengths, real(0.5, 2.0), real(3.0, 9.0)),
    st.builds(posjax.Proportional, st.sampled_from([0.25, 0.5, 0.75, 1.0])),
)
ropes = st.builds(posjax.Rope, bases, schedules, layouts, st.sampled_from([0.5, 1.0]))
plain: st.SearchStrategy[Encoding] = st.one_of(
    ropes,
    st.builds(posjax.Alibi, st.sampled_from(["causal", "symmetric", "asymmetric", "halves"]), st.booleans(), factors),
    st.builds(posjax.T5Bias, st.sampled_from([4, 8, 12, 32]), st.integers(17, 300), st.booleans()),
    st.builds(posjax.Kerple, st.sampled_from(["log", "power"])),
    st.builds(posjax.XPos, bases, st.integers(20, 700), layouts),
    st.builds(posjax.Sandwich, st.sampled_from([2, 6, 16]), bases),
    st.builds(posjax.Fire, st.integers(1, 9), real(0.01, 1.0), real(1.0, 50.0)),
    st.builds(LogN, st.integers(2, 600)),
    st.builds(posjax.Sinusoidal, bases, layouts),
)
scoring = st.builds(posjax.Shaw, st.integers(1, 9)) | st.builds(posjax.near_far, st.integers(1, 6), ropes, ropes)
some = st.sampled_from(OF_ANY_SIZE) | plain | scoring


@st.composite
def chains(draw, parts=some) -> Encoding:
    drawn = draw(st.lists(parts, min_size=2, max_size=4))
    # One is the most that may take the place of the product of queries and keys.
    scores = [i for i, part in enumerate(drawn) if scores_content(part)]
    return chain(*(part for i, part in enumerate(drawn) if i not in scores[1:]))


def serves_some_heads(encoding: Encoding) -> bool:
    return not acts_on_all_heads(encoding)


serving = st.sampled_from([e for e in OF_ANY_SIZE if serves_some_heads(e)]) | plain.filter(serves_some_heads)
by_heads = st.lists(serving, min_size=1, max_size=3).map(lambda parts: by_head(*parts))
encodings = some | chains() | by_heads | chains(some | by_heads)
relative = encodings.filter(lambda encoding: encoding.relative)
# The bias by distance has a gradient of its own, which only trained ones show.
biased = [e for e in SINGLE if e.bias_kind == "relative"]
trainable = st.sampled_from([e for e in biased if jax.tree.leaves(e.init(jax.random.key(0), Dims(6, 16, 96)))])


def groups(encoding: Encoding) -> int:
    """What the number of heads must be a multiple of."""
    inner = math.lcm(*map(groups, getattr(encoding, "parts", ())))
    return inner * len(encoding.parts) if isinstance(encoding, ByHead) else inner


@dataclass(frozen=True)
class Case:
    """An encoding and the sizes of one call."""

    encoding: Encoding
    B: int
    T: int
    S: int
    N: int
    K: int
    H: int
    dtype: str = "float32"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))  # Hypothesis alone would spell out every class variable.

    @property
    def dims(self) -> Dims:
        return Dims(self.N, self.H, self.N * self.H)

    @property
    def most(self) -> int:
        return self.encoding.max_length or 2**31

    def learned(self) -> Any:
        """Parameters of any size: what training may come to, not only where it begins."""
        rng = np.random.default_rng(0)
        shapes = jax.eval_shape(lambda: self.encoding.init(jax.random.key(0), self.dims))
        return jax.tree.map(lambda leaf: (0.5 * rng.standard_normal(leaf.shape)).astype(leaf.dtype), shapes)

    def params(self) -> Any:
        return self.encoding.join(self.learned(), self.encoding.constants(self.dims))

    def qkv(self, seed: int = 1) -> list[np.ndarray]:
        rng, sizes = np.random.default_rng(seed), ((self.T, self.N), (self.S, self.K), (self.S, self.K))
        return [rng.standard_normal((self.B, t, n, self.H)).astype(jnp.dtype(self.dtype)) for t, n in sizes]


def fits(encoding: Encoding, dims: Dims) -> bool:
    try:
        encoding.constants(dims)
    except posjax.InputError:
        return False
    return True


@st.composite
def cases(draw, which=encodings, square: bool = False, dtypes=("float32",)) -> Case:
    encoding = draw(which)
    unit = groups(encoding)
    N = draw(st.sampled_from([n for n in range(1, 13) if n % unit == 0]))
    K = draw(st.sampled_from([k for k in range(1, N + 1) if N % k == 0 and k % unit == 0]))
    H = draw(st.sampled_from([h for h in (6, 8, 10, 12, 16, 20) if fits(encoding, Dims(N, h, N * h))]))
    S = draw(st.sampled_from([5, 2, 9, 13, 1]))
    T = S if square else draw(st.sampled_from(sorted({1, max(S - 2, 1), S})))
    return Case(encoding, draw(st.integers(1, 3)), T, S, N, K, H, draw(st.sampled_from(dtypes)))


@st.composite
def risen(draw, length: int, most: int) -> np.ndarray:
    """Rising positions anywhere below `most`: contiguous, or with gaps and repeats, from 0 or from far away."""
    gaps = draw(st.just([1] * length) | st.lists(st.integers(0, 20), min_size=length, max_size=length))
    at = np.cumsum(gaps) - gaps[0]
    last = most - 1 - int(at[-1])
    return (at + draw(st.sampled_from([0, last]) | st.integers(0, last))).astype(np.int32)


@st.composite
def documents(draw, length: int) -> tuple[list[int], list[int]]:
    """The segments of one row, its padding 0, and positions that start anew with each document."""
    cuts = sorted(draw(st.sets(st.integers(1, max(length - 1, 1)), max_size=2)))
    first = draw(st.integers(0, 1))
    return (
        [first + sum(i >= cut for cut in cuts) for i in range(length)],
        [i - max([0, *(cut for cut in cuts if cut <= i)]) for i in range(length)],
    )


@st.composite
def rows_and_masks(draw, case: Case) -> tuple[Any, posjax.Mask]:
    """Positions of all S tokens, `None`, `[S]` or `[B, S]`, and a mask under which the encoding is defined."""
    mask = Causal() if case.encoding.causal else draw(st.sampled_from([Causal(), Full()]))
    if draw(st.booleans()):
        mask = mask & Window(draw(st.integers(1, case.S + 1)))
    how = draw(st.sampled_from(["none", "none", "shared", "by row", "packed"]))
    if how == "packed":
        rows = [draw(documents(case.S)) for _ in range(case.B)]
        return jnp.array([at for _, at in rows], jnp.int32), mask & Segments(jnp.array([row for row, _ in rows]))
    if how == "by row":
        return jnp.stack([draw(risen(case.S, case.most)) for _ in range(case.B)]), mask
    return (None if how == "none" else jnp.asarray(draw(risen(case.S, case.most)))), mask
